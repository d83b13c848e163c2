"""The table of suites: what each runs, where it applies, and that nothing of it is missing."""

from dataclasses import replace

import pytest

from ci.errors import SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES, suite


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
        (Runtime.NVIDIA, ["pyxis_basic", "pyxis_conformance", "registry", "pyxis_advanced", "pyxis_upstream"]),
        (Runtime.EMBEDDED, ["pyxis_basic", "pyxis_conformance", "registry", "pyxis_advanced"]),
        (Runtime.LEGACY, ["legacy_integration"]),
    ],
)
def test_where_a_suite_applies(rows: Matrix, runtime: Runtime, applying: list[str]) -> None:
    cell = cell_of(rows, runtime)
    assert [it.name for it in SUITES.values() if not it.unfit(cell, rows.subject)] == applying


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
