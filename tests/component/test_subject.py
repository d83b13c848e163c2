"""Wheelhouses made by the real uv and pip, and checkouts built by their real backend; the index is a local folder."""

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys
import threading
import zipfile

import pytest

from ci.errors import SubjectError
from ci.images.subject import Wheelhouse, checkout_wheelhouse, wheelhouse
from ci.images.subject_checkout import state_of
from ci.images.wheels import Target
from ci.matrix.arch import Arch
from ci.paths import CACHE_VARIABLE

TARGET = Target(python="3.13", arch=Arch.AMD64, glibc=36)

# A backend inside the checkout itself, so that building needs no index at all.
BACKEND = """
import os, pathlib, zipfile

def _write(folder, files):
    info = "tiny-1.0.dist-info"
    meta = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\nRequires-Dist: low>=1\\n" \\
        "Requires-Dist: future; python_version >= '3.13'\\n\\n"
    files = {**files, f"{info}/METADATA": meta, f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n" \\
        "Tag: py3-none-any\\n"}
    files[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(pathlib.Path(folder) / "tiny-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return "tiny-1.0-py3-none-any.whl"

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _write(wheel_directory, {"tiny.py": pathlib.Path("tiny.py").read_text()})

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _write(wheel_directory, {"tiny.pth": os.getcwd() + "\\n"})
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the whole package index; settings of this machine do not count."""
    for variable in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a project that needs nothing to be built."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "tiny.py").write_text("ANSWER = 1\n")
    return folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def make() -> Callable[..., Wheelhouse]:
    """Make a wheelhouse for Python 3.13 on amd64."""

    def make(*requirements: str) -> Wheelhouse:
        return wheelhouse(requirements, target=TARGET)

    return make


def test_wheels_are_the_targets_and_not_this_machines(index: Path, make: Callable[..., Wheelhouse]) -> None:
    _wheel(index, "top", "low; python_version >= '3.13'")
    for tag in ("cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_28_aarch64", "cp312-cp312-win_amd64"):
        _wheel(index, "low", tag=tag)

    made = make("top")

    assert made.wheels == ("low-1-cp313-cp313-manylinux_2_28_x86_64.whl", "top-1-py3-none-any.whl")


def test_what_the_index_lacks_is_named(index: Path, make: Callable[..., Wheelhouse]) -> None:
    _wheel(index, "top", "nowhere>=2")

    with pytest.raises(SubjectError, match=r"nowhere was not found in the package registry"):
        make("top")


def test_two_sessions_at_once_make_one_wheelhouse(index: Path, make: Callable[..., Wheelhouse]) -> None:
    _wheel(index, "top")
    made: list[Wheelhouse] = []
    threads = [threading.Thread(target=lambda: made.append(make("top"))) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.reused for each in made) == [False, True]
    assert made[0].fingerprint == made[1].fingerprint


def test_a_checkout_installs_with_its_code_or_pointing_at_it(index: Path, checkout: Path, tmp_path: Path) -> None:
    for name in ("low", "future"):
        _wheel(index, name)

    made = checkout_wheelhouse(checkout, target=TARGET)

    assert made.requirements == ("tiny==1.0",)
    assert made.wheels == ("future-1-py3-none-any.whl", "low-1-py3-none-any.whl", "tiny-1.0-py3-none-any.whl")
    assert made.editable is not None
    inside, pointing = tmp_path / "inside", tmp_path / "pointing"
    _pip_install(inside, "--no-index", "--find-links", str(made.path), *made.requirements)
    _pip_install(pointing, "--no-index", "--find-links", str(made.path), str(made.editable))
    assert (inside / "tiny.py").read_text() == "ANSWER = 1\n"
    assert (pointing / "tiny.pth").read_text().strip() == str(checkout)
    assert not (pointing / "tiny.py").exists()


def test_an_edit_costs_a_build_but_no_download(index: Path, checkout: Path) -> None:
    for name in ("low", "future"):
        _wheel(index, name)
    first, same = checkout_wheelhouse(checkout, target=TARGET), checkout_wheelhouse(checkout, target=TARGET)
    (checkout / "tiny.py").write_text("ANSWER = 2\n")
    for file in index.iterdir():
        file.unlink()

    edited = checkout_wheelhouse(checkout, target=TARGET)

    assert (first.reused, same.reused, edited.reused) == (False, True, False)
    assert edited.fingerprint != first.fingerprint
    with zipfile.ZipFile(edited.path / "tiny-1.0-py3-none-any.whl") as archive:
        assert archive.read("tiny.py") == b"ANSWER = 2\n"
    with zipfile.ZipFile(first.path / "tiny-1.0-py3-none-any.whl") as archive:
        assert archive.read("tiny.py") == b"ANSWER = 1\n", "the wheelhouse of the state before is still whole"


def test_a_checkout_that_does_not_build_shows_the_backends_last_words(index: Path, checkout: Path) -> None:
    assert index.is_dir()
    (checkout / "backend.py").write_text("def build_wheel(*_, **__):\n    raise RuntimeError('the reason')\n")

    with pytest.raises(SubjectError) as caught:
        checkout_wheelhouse(checkout, target=TARGET)

    assert "RuntimeError: the reason" in str(caught.value)
    assert str(checkout) in str(caught.value)


@pytest.mark.parametrize(("name", "cause"), [("empty", "neither pyproject.toml nor setup.py"), ("gone", "no such")])
def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(SubjectError, match=cause):
        checkout_wheelhouse(tmp_path / name, target=TARGET)


def test_the_state_follows_sources_and_commits_but_not_leftovers(checkout: Path) -> None:
    states = [state_of(checkout)]
    for leftover in ("__pycache__/x.pyc", "tiny.egg-info/PKG-INFO", ".venv/pyvenv.cfg", "build/lib/tiny.py"):
        (checkout / leftover).parent.mkdir(parents=True)
        (checkout / leftover).touch()
    assert state_of(checkout) == states[0]

    (checkout / ".gitignore").write_text("*.pyc\n*.egg-info\n.venv\nbuild\n")
    for command in (["init", "-q"], ["add", "."], _commit("one"), _commit("two")):
        subprocess.run(["git", "-C", checkout, *command], check=True)
        states.append(state_of(checkout))
    (checkout / "untracked.py").touch()
    states.append(state_of(checkout))
    (checkout / "tiny.py").unlink()
    states.append(state_of(checkout))

    assert states[1] == states[2], "staging changes nothing"
    assert len(set(states)) == len(states) - 1


def _commit(message: str) -> list[str]:
    return ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", message]


def test_packages_beside_a_checkout_are_installed_with_it(index: Path, checkout: Path, tmp_path: Path) -> None:
    """The job image is made from these words alone (`--image-package` with `--subject`)."""
    for name in ("low", "future", "beside"):
        _wheel(index, name)
    made = checkout_wheelhouse(checkout, beside=["beside"], target=TARGET)
    assert made.requirements == ("tiny==1.0", "beside")
    _pip_install(tmp_path / "inside", "--no-index", "--find-links", str(made.path), *made.requirements)
    assert {"tiny-1.0.dist-info", "beside-1.dist-info"} <= {it.name for it in (tmp_path / "inside").iterdir()}


def _wheel(folder: Path, name: str, *requires: str, tag: str = "py3-none-any") -> None:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1", *(f"Requires-Dist: {text}" for text in requires)]
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-{tag}.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def _pip_install(folder: Path, *arguments: str) -> None:
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *arguments], check=True)
