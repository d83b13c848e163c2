"""Which virtual environment a session gets; the environments themselves are made in the component tests."""

from dataclasses import replace
from pathlib import Path

import pytest

from ci.python import venvs
from ci.python.venvs import Packages

PACKAGES = Packages(requirements=("a", "b>=1"), constraints=("c<2",))


@pytest.mark.parametrize(
    "other",
    [
        replace(PACKAGES, requirements=("a", "b>=2")),
        replace(PACKAGES, requirements=("a",)),
        replace(PACKAGES, constraints=()),
        replace(PACKAGES, constraints=("c<3",)),
        replace(PACKAGES, requirements=("a", "b>=1", "c<2"), constraints=()),
        replace(PACKAGES, checkout=Path("/checkout")),
        replace(PACKAGES, python="3.13"),
    ],
)
def test_whoever_needs_other_packages_gets_another_one(other: Packages) -> None:
    assert other.key != PACKAGES.key


def test_whoever_needs_the_same_packages_gets_the_same_one() -> None:
    assert Packages(requirements=("a", "b>=1"), constraints=("c<2",)).key == PACKAGES.key


@pytest.mark.parametrize(("file", "changes"), [("pyproject.toml", True), ("setup.cfg", True), ("code.py", False)])
def test_only_an_edit_of_what_a_checkout_requires_asks_for_another_one(
    tmp_path: Path,
    file: str,
    changes: bool,  # noqa: FBT001
) -> None:
    (tmp_path / file).write_text("one", encoding="utf-8")
    packages = Packages(requirements=(), checkout=tmp_path)
    before = packages.key
    (tmp_path / file).write_text("two", encoding="utf-8")
    assert (packages.key != before) is changes


def test_one_in_a_relative_folder_is_found_from_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(venvs, "_make", lambda venv, _packages: venv.mkdir())
    made = venvs.shared(Path(".nox"), "run", PACKAGES)
    assert made == tmp_path / ".nox" / f"run-{PACKAGES.key}"
