"""The script itself, as a person starts it; it is not let near an engine or the network."""

import os
from pathlib import Path
import subprocess
import sys

from ci.machine.setup import fingerprint

BOOTSTRAP = Path(__file__).resolve().parents[2] / "ci" / "bootstrap"
NOWHERE = "unix:///nonexistent.sock"


def bootstrap(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    command = [sys.executable, str(BOOTSTRAP), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_engine_that_does_not_answer_is_one_message_and_nothing_is_made(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    done = bootstrap("true", DOCKER_HOST=NOWHERE, PYXIS_MATRIX_VENV=str(venv))
    assert done.returncode == 20
    assert done.stderr.startswith("bootstrap: error: the container engine does not answer\n")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not venv.exists()


def test_help_names_the_variables() -> None:
    done = bootstrap("--help")
    assert done.returncode == 0
    assert "--dry-run" in done.stdout
    assert "PYXIS_MATRIX_VENV" in done.stdout


def test_unknown_option_is_refused() -> None:
    assert bootstrap("--dry-rnu").returncode == 2


def test_stamp_is_the_same_in_every_process() -> None:
    code = "from ci.setting_up import fingerprint; print(fingerprint(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BOOTSTRAP.parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == fingerprint()
