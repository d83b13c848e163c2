"""The wheel, built and installed elsewhere: its commands work in any folder, and leave the installation as it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import subprocess
import sys

import pytest

from ci.matrix.arch import Arch
from ci.python import uv
from tests.component.weather import REPOSITORY

CELL = f"slurm22.05-embedded-debian12-{Arch.host()}"
OWN_TABLE = '[subject]\nrequirment = "submitit"\n'

Ran = subprocess.CompletedProcess[str]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment with the wheel in it."""

    venv: Path
    environ: Mapping[str, str]

    @property
    def package(self) -> Path:
        """The folder of the installed package."""
        (found,) = self.venv.glob("lib/python3*/site-packages/pyxis_matrix")
        return found

    def start(self, folder: Path, *words: str, **environ: str) -> "subprocess.Popen[str]":
        """Start the program in a folder."""
        return subprocess.Popen(
            [str(self.venv / "bin/pyxis-matrix"), *words],
            cwd=folder,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, *words: str, **environ: str) -> Ran:
        """Run the program in a folder."""
        started = self.start(folder, *words, **environ)
        out, err = started.communicate()
        return subprocess.CompletedProcess(words, started.returncode, out, err)

    def python(self, code: str, folder: Path) -> str:
        """Return what a line of Python prints in this environment."""
        program = [str(self.venv / "bin/python"), "-c", code]
        done = subprocess.run(program, cwd=folder, env=self.environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def files(self) -> dict[str, str]:
        """Return the files of the package; bytecode of its own modules only is Python's, as of any package."""
        own = self.package / "__pycache__"
        files = [file for file in self.package.rglob("*") if file.is_file() and own not in file.parents]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def call(*words: str) -> None:
    done = subprocess.run(words, cwd=REPOSITORY, env=uv.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it, within somebody else's repository."""
    program = uv.program()
    assert program, "uv was not found; the sessions' environments have it"
    built, repository = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("a repository")
    call(program, "build", "--wheel", "--out-dir", str(built), str(REPOSITORY))
    (wheel,) = built.glob("*.whl")
    venv = repository / ".venv"
    call(program, "venv", "--python", sys.executable, str(venv))
    call(program, "pip", "install", "--python", str(venv / "bin/python"), str(wheel))
    call("git", "init", "--quiet", str(repository))
    identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    call("git", "-C", str(repository), *identity, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    home = tmp_path_factory.mktemp("home")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return Installed(venv=venv, environ={**kept, "HOME": str(home), "DOCKER_HOST": "unix:///nonexistent/docker.sock"})


@pytest.fixture
def unchanged(installed: Installed) -> Callable[[], None]:
    """Return a check that the installation is as it was before the test."""
    before = installed.files()

    def check() -> None:
        assert installed.files() == before

    return check


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return an empty folder with a space in its path."""
    (folder := tmp_path / "an empty folder").mkdir()
    return folder


def test_commands_work_in_any_folder_and_leave_the_installation_as_it_is(
    installed: Installed, here: Path, unchanged: Callable[[], None]
) -> None:
    helped = installed.run(here, "--help")
    assert helped.returncode == 0, helped.stderr
    assert "usage: pyxis-matrix" in helped.stdout
    assert "nox" not in helped.stdout, "whoever has installed it has none"
    assert CELL in installed.run(here, "cells").stdout.splitlines()
    asked = installed.run(here, "ask", "--slurm", "24.11.7", "--enroot", "4.1.2", "--pyxis", "0.24.0")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("Slurm 24.11.7, enroot 4.1.2, Pyxis 0.24.0: works")
    assert list(here.iterdir()) == []
    planned = installed.run(here, "plan", CELL, "--suite", "registry")
    assert f"$ pyxis-matrix matrix {CELL} --suite registry" in planned.stdout
    assert installed.run(here, "pins").returncode == 13
    unchanged()


def test_a_matrix_of_ones_own_is_written_once_and_its_faults_are_told(
    installed: Installed, here: Path, unchanged: Callable[[], None]
) -> None:
    assert installed.run(here, "init", CELL).returncode == 0
    assert installed.run(here, "cells").stdout.splitlines() == [CELL]
    again = installed.run(here, "init")
    assert again.returncode == 11
    assert "matrix.toml exists already, and was not changed" in again.stderr
    (here / "matrix.toml").write_text(OWN_TABLE, encoding="utf-8")
    wrong = installed.run(here, "cells")
    assert wrong.returncode == 10
    assert "matrix.toml:2: subject.requirment: unknown key 'requirment'; did you mean 'requirement'?" in wrong.stderr
    assert "next: correct the file, then look at it with: pyxis-matrix cells" in wrong.stderr
    unchanged()


def test_two_repositories_at_once_have_each_their_own_matrix(installed: Installed, tmp_path: Path) -> None:
    cells = installed.run(tmp_path, "cells", "--group", "embedded").stdout.splitlines()[:2]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, cell in zip(folders, cells, strict=True):
        folder.mkdir()
        assert installed.run(folder, "init", cell).returncode == 0
    started = [installed.start(folder, "cells") for folder in folders]
    assert [process.communicate()[0].splitlines() for process in started] == [[cell] for cell in cells]


def test_neither_ci_nor_tests_is_a_package_of_the_environment_and_those_of_others_are_not_taken(
    installed: Installed, here: Path
) -> None:
    code = "from importlib.util import find_spec; print([name for name in ('ci', 'tests') if find_spec(name)])"
    assert installed.python(code, here) == "[]"
    tree = Path(installed.python("import pyxis_matrix; print(pyxis_matrix.tree())", here))
    assert tree == installed.package / "tree"
    assert (tree / "matrix.toml").is_file()
    for name in ("ci", "tests", "rich"):
        (here / name).mkdir()
        (here / name / "__init__.py").write_text("raise SystemExit('a package of the person')\n", encoding="utf-8")
    module = [str(installed.venv / "bin/python"), "-m", "pyxis_matrix", "cells"]
    for more in ({}, {"PYTHONSAFEPATH": "1"}):
        done = subprocess.run(
            module, cwd=here, env={**installed.environ, **more}, capture_output=True, text=True, check=False
        )
        assert CELL in done.stdout.splitlines(), done.stderr


def test_bash_completes_its_commands(installed: Installed, here: Path) -> None:
    ask = (
        'PATH="$1:$PATH"; eval "$(pyxis-matrix complete bash)"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_TYPE=9\n'
        'function=$(complete -p pyxis-matrix); function=${function##*-F }; "${function% *}" pyxis-matrix\n'
        'echo "${COMPREPLY[@]}"'
    )
    command = ["bash", "-c", ask, "bash", str(installed.venv / "bin"), "pyxis-matrix up slurm22.05-embedded-debian12-"]
    done = subprocess.run(command, cwd=here, env=installed.environ, capture_output=True, text=True, check=False)
    assert CELL in done.stdout.split(), done.stderr


@pytest.mark.parametrize("version", ["7", "8", "9"])
def test_its_plugin_says_once_what_is_wrong_with_any_pytest_and_can_be_left_out(
    installed: Installed, here: Path, tmp_path: Path, version: str
) -> None:
    program = uv.program()
    assert program
    call(
        program,
        "pip",
        "install",
        "--python",
        str(installed.venv / "bin/python"),
        "--target",
        str(tmp_path),
        f"pytest=={version}.*",
    )
    (here / "test_theirs.py").write_text("def test_a(): ...\ndef test_b(cluster_shell): ...\n", encoding="utf-8")

    def run(*words: str) -> Ran:
        command = [str(installed.venv / "bin/python"), "-m", "pytest", *words]
        environ = {**installed.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=here, env=environ, capture_output=True, text=True, check=False)

    found = run("--version", "--version")
    assert f"version {version}." in f"{found.stdout}{found.stderr}"
    unasked = run()
    assert (unasked.returncode, "1 passed, 1 skipped" in unasked.stdout) == (0, True), unasked.stdout
    slip = run("--cell", CELL.replace("embedded", "embeded"))
    assert slip.returncode == 11
    assert f"did you mean {CELL}" in slip.stderr
    assert (slip.stderr.count("error: "), "collected" in slip.stdout) == (1, False), "no test says it again"
    left_out = run("-p", "no:pyxis_matrix", "--cell", CELL)
    assert (left_out.returncode, "unrecognized arguments: --cell" in left_out.stderr) == (4, True)


def test_a_result_would_name_its_version_and_not_the_commit_of_the_repository_around(
    installed: Installed, here: Path
) -> None:
    code = (
        "import sys, pyxis_matrix; sys.path.insert(0, str(pyxis_matrix.tree()));"
        "from ci.artefacts.checkout import of_this_program; print(of_this_program())"
    )
    version = installed.python("from importlib.metadata import version; print(version('pyxis-matrix'))", here)
    assert installed.python(code, here) == f"version {version}"


def test_what_suites_are_made_of_is_in_the_wheel(installed: Installed) -> None:
    """A file that only some suite reads would be missed by nobody until it runs."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "ci", "containers", "tests/integration", "tests/support", "tests/conftest.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    own = ("ci/installed/", "ci/gitlab-")
    wanted = {name for name in listed if name and not name.startswith(own)}
    tree = installed.package / "tree"
    assert {name for name in wanted if not (tree / name).is_file()} == set()
    modes = {name: (REPOSITORY / name).stat().st_mode & 0o100 for name in wanted}
    assert {name: (tree / name).stat().st_mode & 0o100 for name in wanted} == modes, "an image is made of them, too"


def test_a_machine_without_an_engine_is_one_message(installed: Installed, here: Path) -> None:
    done = installed.run(here, "up", CELL)
    assert done.returncode == 20
    assert "Traceback" not in done.stderr
    found = installed.run(here, "doctor")
    assert found.returncode == 30
    assert "ok      matrix" in found.stderr + found.stdout
    seen = installed.run(here, "setup", "--dry-run")
    assert seen.returncode == 20, "an engine that is named is not replaced by another"
    assert "virtual environment" not in seen.stderr
