"""The script itself, as a person starts it; it is not let near an engine or the network."""

import os
from pathlib import Path
import subprocess
import sys
import venv

import pytest

from ci.machine.venv import STAMP, fingerprint

BOOTSTRAP = Path(__file__).resolve().parents[2] / "ci" / "bootstrap"
NOWHERE = "unix:///nonexistent.sock"


def bootstrap(*arguments: str, python: str = sys.executable, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run([python, str(BOOTSTRAP), *arguments], env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """Return a Python without any package."""
    venv.create(tmp_path / "bare", symlinks=True)
    return str(tmp_path / "bare/bin/python")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return an environment that bootstrap takes for its own, complete and up to date; it has no package either."""
    folder = tmp_path / "made"
    venv.create(folder, symlinks=True)
    (folder / "bin/nox").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "bin/nox").chmod(0o755)
    (folder / STAMP).write_text(fingerprint(), encoding="utf-8")
    return folder


def test_engine_that_does_not_answer_is_one_message(made: Path) -> None:
    done = bootstrap("true", DOCKER_HOST=NOWHERE, PYXIS_MATRIX_VENV=str(made))
    assert done.returncode == 20
    assert done.stderr.startswith("bootstrap: error: the container engine does not answer\n")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_dry_run_of_a_python_without_packages_says_what_it_would_do_and_makes_nothing(
    bare_python: str, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    done = bootstrap("--dry-run", "true", python=bare_python, DOCKER_HOST=NOWHERE, PYXIS_MATRIX_VENV=str(folder))
    assert f"bootstrap: would make the virtual environment\n    $ {os.path.realpath(sys.base_prefix)}" in done.stderr
    assert f"-m venv {folder}\n" in done.stderr
    assert "bootstrap: error: the container engine does not answer\n" in done.stderr  # planned, too
    assert "Traceback" not in done.stderr
    assert done.returncode == 20
    assert not folder.exists()


def test_something_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = bootstrap("true", DOCKER_HOST=NOWHERE, PYXIS_MATRIX_VENV=str(tmp_path))
    assert done.returncode == 26
    assert "taken by something that bootstrap did not make" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def test_help_names_the_variables() -> None:
    done = bootstrap("--help")
    assert done.returncode == 0
    assert "--dry-run" in done.stdout
    assert "PYXIS_MATRIX_VENV" in done.stdout


def test_unknown_option_is_refused() -> None:
    assert bootstrap("--dry-rnu").returncode == 2


def test_stamp_is_the_same_in_every_process() -> None:
    code = "from ci.machine.venv import fingerprint; print(fingerprint(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BOOTSTRAP.parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == fingerprint()
