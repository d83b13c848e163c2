"""A new suite takes one folder: in a copy of the repository, everything that knows suites knows it."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess
import sys

import pytest

from ci.matrix.arch import Arch
from tests.support.copies import copied

NAME = "sample"
CELL = f"slurm22.05-embedded-debian12-{Arch.host()}"
FILES = {
    "suite.toml": 'summary = "Try what a new suite takes."\nruntimes = ["embedded"]\n',
    "test_sample.py": "from tests.support.sample import it\n\n\ndef test_it() -> None:\n    assert it\n",
}


@pytest.fixture
def copy() -> Iterator[Path]:
    """Return a copy of the repository with a suite more."""
    with copied() as repository:
        folder = repository / "tests/integration" / NAME
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        (repository / "tests/support/sample.py").write_text("it = True\n", encoding="utf-8")
        yield repository


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=copy, capture_output=True, text=True, check=False)


def said(copy: Path, *words: str) -> str:
    """Return what a program says that has to succeed."""
    done = run(copy, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(copy: Path, program: str) -> list[str]:
    """Return what a program that prints JSON says in the copy."""
    found = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=True)
    answer: list[str] = json.loads(found.stdout)
    return answer


def test_a_new_suite_has_its_session_cells_plan_fingerprint_and_mutations(copy: Path) -> None:
    listed = said(copy, "nox", "--list")
    assert f"- {NAME}({CELL})" in listed
    assert "Try what a new suite takes." in listed
    assert f"{NAME}(slurm22.05-legacy" not in listed

    assert cells(copy, "--suite", NAME).keys() == {CELL}

    words = "import json; from ci.matrix.suites import SUITES; "
    files = asked(
        copy,
        f"{words}from ci.fleet.parts import expanded, suite_files; from ci import paths; "
        f"print(json.dumps([str(it.relative_to(paths.REPOSITORY)) for it in expanded(suite_files(SUITES['{NAME}']))]))",
    )
    assert {f"tests/integration/{NAME}/{name}" for name in FILES} | {"tests/support/sample.py"} <= set(files)
    noticing = asked(
        copy,
        "import json; from ci.matrix import loading; from tests.mutations.suites import suites_of; "
        f"print(json.dumps(list(suites_of(loading.load().cell('{CELL}')))))",
    )
    assert NAME in noticing


def cells(copy: Path, *words: str) -> dict[str, list[str]]:
    """Return why each cell is in a plan, by its id."""
    plan = json.loads(said(copy, "ci", "plan", "--group", "smoke", *words, "--format", "json"))
    return {cell["id"]: cell["reasons"] for shard in plan["shards"] for cell in shard["cells"]}


def test_an_edit_of_a_new_suite_affects_its_cells_and_its_name_has_to_be_in_the_readme(copy: Path) -> None:
    guard = ("pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_docs.py", "-k", "readme_lists_every_suite")
    done = run(copy, *guard)
    assert done.returncode == 1
    assert NAME in done.stdout
    readme = copy / "README.md"
    text = readme.read_text(encoding="utf-8")
    row = "| `suite` |"
    assert text.count(row) == 1
    readme.write_text(text.replace(row, f"| `{NAME}` | tries it |\n{row}"), encoding="utf-8")
    said(copy, *guard)

    tests = copy / "tests/integration" / NAME / "test_sample.py"
    tests.write_text(f'{FILES[tests.name]}    assert "curl: (22)" in it\n', encoding="utf-8")
    done = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_conformance_guard.py", "-k", NAME)
    assert done.returncode == 1
    assert "curl: (22)" in done.stdout

    git = ("git", "-c", "user.name=x", "-c", "user.email=x@localhost")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run([*git, *words], cwd=copy, check=True)
    (copy / "tests/support/sample.py").write_text("it = False\n", encoding="utf-8")
    found = cells(copy, "--suite", NAME, "--suite", "registry", "--changed-since", "HEAD")
    assert found == {CELL: [f"tests/support/sample.py is part of the suite {NAME}"]}
