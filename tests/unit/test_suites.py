"""The table of suites: what each runs, where it applies, and that nothing of it is missing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
import re

import pytest

from ci import paths
from ci.errors import MatrixError, SelectionError
from ci.matrix import loading, suites
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES, Suite, suite

CONTAINERS = ("pyxis_basic", "pyxis_conformance", "registry", "pyxis_advanced")


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


def cell_of(rows: Matrix, runtime: Runtime) -> Cell:
    return next(cell for cell in rows.all_cells(Arch.host()) if cell.runtime is runtime)


@pytest.mark.parametrize("name", SUITES)
def test_what_a_suite_runs_is_there(name: str) -> None:
    found = SUITES[name].paths()
    assert found
    assert [path for path in found if not path.exists()] == []


def test_a_pattern_stands_for_all_files_of_that_name() -> None:
    words = SUITES["legacy_integration"].words()[2:]  # behind the settings
    assert len(words) > 3
    assert list(words) == sorted(words)
    assert all(word.startswith("tests/integration/test_legacy_") for word in words)


@pytest.mark.parametrize(
    ("runtime", "applying"),
    [
        (Runtime.NVIDIA, [*CONTAINERS, "pyxis_upstream", "slurm_facts", "launchers"]),
        (Runtime.EMBEDDED, [*CONTAINERS, "slurm_facts", "launchers"]),
        (Runtime.LEGACY, ["legacy_integration", "slurm_facts"]),
    ],
)
def test_where_a_suite_applies(rows: Matrix, runtime: Runtime, applying: list[str]) -> None:
    cell = cell_of(rows, runtime)
    known = {*CONTAINERS, "pyxis_upstream", "slurm_facts", "launchers", "legacy_integration"}
    found = [it.name for it in SUITES.values() if not it.unfit(cell, rows.subject)]
    assert [name for name in found if name in known] == applying


def test_a_suite_that_does_not_apply_says_why(rows: Matrix) -> None:
    embedded = cell_of(rows, Runtime.EMBEDDED)
    assert (
        SUITES["pyxis_upstream"].unfit(embedded, rows.subject)
        == "it is for nvidia cells only, and this one is embedded"
    )
    other = replace(rows.subject, name="submitit", requirement="submitit==1")
    assert "the subject is submitit==1" in SUITES["pyxis_basic"].unfit(embedded, other)
    assert SUITES["registry"].unfit(embedded, other) == ""


def test_an_unknown_suite_is_refused_with_the_nearest_name() -> None:
    assert suite("registry") is SUITES["registry"]
    with pytest.raises(SelectionError, match="did you mean 'pyxis_basic'"):
        suite("pyxis_basik")


# -- descriptions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mapping[str, Suite]]:
    """Return a function that reads the suites of a small repository, from their descriptions by folder."""
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)

    def read(**texts: str) -> Mapping[str, Suite]:
        for folder, text in texts.items():
            file = tmp_path / suites.FOLDER / folder / suites.FILE
            file.parent.mkdir(parents=True)
            file.write_text(text, encoding="utf-8")
        return suites._described.__wrapped__()  # noqa: SLF001 - what SUITES keeps

    return read


def test_a_suite_is_a_folder_with_its_description(described: Callable[..., Mapping[str, Suite]]) -> None:
    found = described(later='summary = "Last."', first='name = "mine"\nsummary = "First."\norder = 3\nworkers = 0')
    assert list(found) == ["mine", "later"]
    assert found["later"].paths() == (paths.REPOSITORY / suites.FOLDER / "later",)
    assert (found["mine"].summary, found["mine"].workers, found["later"].workers) == ("First.", 0, 4)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the key 'summary' is missing"),
        ('summary = "S."\nworker = 2', "unknown key 'worker'; did you mean 'workers'?"),
        ('summary = "S."\nworkers = -1', "must be at least 0"),
        ('summary = "S."\nruntimes = ["nvidea"]', "unknown runtime 'nvidea'; did you mean 'nvidia'?"),
        ('summary = "S."\ntests = ["gone.py"]', "there is no tests/integration/gone.py"),
        ('summary = "S."\nname = "suite"', "'suite' cannot be the name of a suite"),
        ('summary = "S."\nname = "../x"', "'../x' cannot be the name of a suite"),
        ('summary = "S."\nname = "other"', "there is another suite 'other'"),
    ],
)
def test_a_description_with_a_fault_is_refused_and_named(
    described: Callable[..., Mapping[str, Suite]], text: str, fault: str
) -> None:
    with pytest.raises(MatrixError, match=re.escape(fault)) as caught:
        described(other='summary = "S."', test=text)
    assert "tests/integration/test/suite.toml" in caught.value.where
