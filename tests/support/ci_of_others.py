"""What other repositories take into their CI, read as YAML."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # it comes with check-jsonschema, in the dependency group lint

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / ".github/actions/cells/action.yml"
GITLAB = ROOT / "ci/gitlab-cells.yml"


def documents(text: str) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(YAML(typ="safe").load_all(text))


def steps() -> list[dict[str, Any]]:
    """Return the steps of the action."""
    (action,) = documents(ACTION.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = action["runs"]["steps"]
    return found


def job() -> dict[str, Any]:
    """Return the job of GitLab's file."""
    (found,) = documents(GITLAB.read_text(encoding="utf-8"))[1].values()
    assert isinstance(found, dict)
    return found


def scripts(file: Path) -> list[str]:
    """Return what a shell gets, part by part."""
    if file == ACTION:
        return [step["run"] for step in steps() if "run" in step]
    return list(job()["script"])


def main_script(file: Path) -> str:
    """Return all that is run, from the installation to the report."""
    return "".join(script for script in scripts(file) if "GITHUB_STEP_SUMMARY" not in script)
