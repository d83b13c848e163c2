"""The script itself, as a person starts it; it is not let near an engine or the network."""

import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import venv

import pytest

from ci.engine.distribution import Distro
from ci.machine.steps import install
from ci.machine.venv import STAMP, fingerprint

BOOTSTRAP = Path(__file__).resolve().parents[2] / "ci" / "bootstrap"
MACHINE = BOOTSTRAP.parent / "machine"
NOWHERE = "unix:///nonexistent.sock"


def bootstrap(*arguments: str, python: str = sys.executable, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run([python, str(MACHINE), *arguments], env=env, capture_output=True, text=True, check=False)


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
    assert "exists, and bootstrap did not make it" in done.stderr
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


# -- a machine without any Python -----------------------------------------------------------------------------------


class Minimal:
    """A machine on whose PATH is what Debian calls essential, as far as it is needed, and an apt-get that remembers."""

    def __init__(self, folder: Path) -> None:
        """Make its PATH."""
        self.path = folder / "bin"
        self.asked = folder / "asked"
        self.path.mkdir()
        for name in ("sh", "dirname", "readlink", "tail"):
            found = shutil.which(name)
            assert found
            (self.path / name).symlink_to(found)
        self.program("id", "echo 0")
        # It brings a Python when it is asked for one, and fails where a test says so.
        python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
        (folder / "python3").write_text(python, encoding="utf-8")
        (folder / "python3").chmod(0o755)
        self.program(
            "apt-get",
            f'echo "apt-get $*" >> {self.asked}',
            "case $* in *$FAILS*) echo 'E: no such mirror'; exit 100 ;; esac",
            f"case $* in *' install '*) {shutil.which('ln')} -s {folder / 'python3'} {self.path}/ ;; esac",
        )

    def program(self, name: str, *lines: str) -> None:
        """Put a program on its PATH."""
        (self.path / name).write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
        (self.path / name).chmod(0o755)

    def bootstrap(self, *arguments: str, fails: str = "nothing") -> subprocess.CompletedProcess[str]:
        """Start ci/bootstrap itself there, as a shell does."""
        env = {"PATH": str(self.path), "HOME": "/nonexistent", "FAILS": fails, "DOCKER_HOST": NOWHERE}
        return subprocess.run([str(BOOTSTRAP), *arguments], env=env, capture_output=True, text=True, check=False)

    def apt(self) -> list[str]:
        """Return what apt-get was asked for."""
        return self.asked.read_text(encoding="utf-8").splitlines() if self.asked.exists() else []


@pytest.fixture
def minimal(tmp_path: Path) -> Minimal:
    return Minimal(tmp_path)


def test_a_missing_python_is_installed_as_all_else_is_and_bootstrap_goes_on_with_it(minimal: Minimal) -> None:
    done = minimal.bootstrap("--emulat")
    wanted = [shlex.join(step.command) for step in install(("python3-venv",), Distro.of_this_machine())]
    assert minimal.apt() == wanted
    assert [line.strip().removeprefix("$ ") for line in done.stderr.splitlines() if " $ " in line] == wanted
    assert done.returncode == 2, "the option that is none was refused by what is written in Python"
    assert "usage: ci/bootstrap" in done.stderr


def test_lists_of_packages_that_can_not_be_refreshed_are_no_reason_to_stop(minimal: Minimal) -> None:
    done = minimal.bootstrap("--emulat", fails="update")
    assert "E: no such mirror" in done.stderr
    assert done.returncode == 2


def test_a_python_that_can_not_be_installed_is_one_message_with_apts_own_words(minimal: Minimal) -> None:
    done = minimal.bootstrap("true", fails="install")
    assert done.returncode == 26
    assert "E: no such mirror\nbootstrap: error: Python was not installed\n" in done.stderr


@pytest.mark.parametrize("option", ["--dry-run", "--help", "-h"])
def test_what_only_asks_installs_nothing(minimal: Minimal, option: str) -> None:
    done = minimal.bootstrap("--emulate", option, "nox", "-s", "pyxis_basic")
    assert done.returncode == 0
    assert minimal.apt() == []
    assert "bootstrap: would install python3-venv\n    $ apt-get " in done.stderr


def test_an_option_of_the_command_is_none_of_bootstraps(minimal: Minimal) -> None:
    minimal.bootstrap("nox", "--help")
    assert minimal.apt() != []


def test_who_may_not_install_is_told_what_to_install(minimal: Minimal) -> None:
    minimal.program("id", "echo 1000")
    done = minimal.bootstrap("true")
    assert done.returncode == 26
    assert minimal.apt() == []
    assert "next: sudo apt-get update && sudo apt-get install --no-install-recommends python3-venv\n" in done.stderr


def test_where_there_is_no_apt_a_person_is_asked_for_a_python(minimal: Minimal) -> None:
    (minimal.path / "apt-get").unlink()
    done = minimal.bootstrap("true")
    assert done.returncode == 26
    assert done.stderr == (
        "bootstrap: error: Python is missing\n"
        "  why: there is no python3 on PATH\n"
        "  next: install Python 3.11 or newer\n"
    )


def test_a_python_that_is_too_old_makes_way_for_a_newer_one(minimal: Minimal) -> None:
    minimal.program("python3", 'case "$*" in *sys.exit*) exit 1 ;; esac', "echo Python 3.9.2")
    done = minimal.bootstrap("--emulat")
    assert (done.returncode, minimal.apt()) == (26, [])
    assert done.stderr.startswith(
        "bootstrap: error: Python 3.11 or newer is needed\n  why: python3 is Python 3.9.2\n  next: install one"
    )
    minimal.program("python3.12", f'exec {sys.executable} "$@"')
    done = minimal.bootstrap("--emulat")
    assert (done.returncode, minimal.apt()) == (2, [])
    assert "usage: ci/bootstrap" in done.stderr


def test_bootstrap_is_found_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(BOOTSTRAP)
    done = subprocess.run([str(tmp_path / "link"), "--help"], capture_output=True, text=True, check=True)
    assert "ci/bootstrap" in done.stdout
