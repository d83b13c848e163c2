"""Shared virtual environments, made by the real uv and by virtualenv; the package index is a local folder."""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import subprocess
import sys
import zipfile

import pytest

from ci.errors import PyxisMatrixError
from ci.python import uv, venvs
from ci.python.venvs import Packages, shared


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the whole package index; settings of this machine do not count."""
    for variable in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    folder = tmp_path / "index"
    folder.mkdir()
    for variable, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(variable, value)
    for version in ("1", "2", "3"):
        info = f"tiny-{version}.dist-info"
        with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr("tiny.py", f"VERSION = {version}\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return folder


def version_in(venv: Path) -> int:
    command = [str(venv / "bin/python"), "-c", "import tiny; print(tiny.VERSION)"]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.fixture(params=[True, False], ids=["uv", "pip"])
def with_uv(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether uv installs the packages, and not pip."""
    if not request.param:
        monkeypatch.setattr(uv, "program", lambda: None)
    return bool(request.param)


def test_constraints_of_the_user_and_of_the_project_both_count(
    *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_uv: bool
) -> None:
    limits = tmp_path / "limits.txt"
    limits.write_text("tiny<3\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONSTRAINT", str(limits))

    first = shared(tmp_path / "nox", "run", Packages(requirements=("tiny",)))
    second = shared(tmp_path / "nox", "run", Packages(requirements=("tiny",), constraints=("tiny<2",)))

    assert (version_in(first), version_in(second)) == (2, 1)
    assert "uv = " in (first / "pyvenv.cfg").read_text(encoding="utf-8") or not with_uv


@pytest.mark.usefixtures("with_uv")
def test_what_is_installed_is_compiled_once_and_not_by_every_process(tmp_path: Path) -> None:
    venv = shared(tmp_path / "nox", "run", Packages(requirements=("tiny",)))
    assert [file.name for file in venv.rglob("tiny.*.pyc")] == [f"tiny.{sys.implementation.cache_tag}.pyc"]


def test_any_number_of_processes_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    make = venvs._make

    def count(venv: Path, packages: Packages) -> None:
        made.append(venv)
        make(venv, packages)

    monkeypatch.setattr(venvs, "_make", count)
    with ThreadPoolExecutor(4) as pool:
        results = set(pool.map(lambda _: shared(tmp_path / "nox", "run", Packages(requirements=("tiny",))), range(4)))

    assert len(made) == len(results) == 1
    assert version_in(made[0]) == 3


def test_one_that_was_interrupted_or_lost_its_python_is_made_anew(tmp_path: Path) -> None:
    packages = Packages(requirements=("tiny",))
    venv = shared(tmp_path / "nox", "run", packages)
    for damage in (".pyxis-matrix-complete", "bin/python"):
        (venv / damage).unlink()
        (venv / "leftover").touch()
        assert shared(tmp_path / "nox", "run", packages) == venv
        assert version_in(venv) == 3
        assert not (venv / "leftover").exists()


def test_one_that_is_complete_is_not_asked_of_the_index_again(tmp_path: Path, index: Path) -> None:
    packages = Packages(requirements=("tiny",))
    venv = shared(tmp_path / "nox", "run", packages)
    for file in index.iterdir():
        file.unlink()
    assert shared(tmp_path / "nox", "run", packages) == venv


def test_what_the_index_lacks_is_one_message_and_nothing_counts_as_made(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(PyxisMatrixError, match="nowhere was not found in the package registry") as caught:
            shared(tmp_path / "nox", "run", Packages(requirements=("nowhere",)))
        assert "pip config list" in caught.value.next_step
