"""How `matrix` ends: by all results that are in the run's folder, and as far as they are to be believed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ci.cli import groups
from ci.cli.main import main
from ci.errors import ResultsError
from ci.matrix.arch import Arch
from ci.record import store
from ci.record.outcomes import Outcome
from tests.support.results import cell, passed, result

LEGACY = cell("22.05", "debian12", arch=Arch.host().value, kind="legacy")
SUITE = "legacy_integration"
Ends = Callable[[Outcome, str], int]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ends:
    """Return a function that has the suite of one cell come to something, in the folder of some suite."""
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYXIS_MATRIX_GROUP", raising=False)

    def run(outcome: Outcome, folder: str) -> int:
        found = result(LEGACY, SUITE, outcome, tests=[passed("t::a")], run="r")

        def run_group(*_how: object) -> list[object]:
            store.write(found, tmp_path / "r" / LEGACY.id / folder / store.RESULT_FILE)
            if folder == "broken":
                (tmp_path / "r" / LEGACY.id / folder / store.RESULT_FILE).write_text("{", encoding="utf-8")
            return []

        monkeypatch.setattr(groups, "run_group", run_group)
        return main(["matrix", LEGACY.id, "--suite", SUITE, "--run", "r", "--results", str(tmp_path)])

    return run


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.PASSED, 0), (Outcome.FAILED, 1)])
def test_the_results_in_the_folder_decide(ends: Ends, outcome: Outcome, code: int) -> None:
    assert ends(outcome, SUITE) == code


def test_a_result_in_the_folder_of_another_suite_is_not_believed(
    ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(Outcome.PASSED, "pyxis_basic") != 0
    assert "its folder is that of pyxis_basic" in capsys.readouterr().err


def test_a_result_that_can_not_be_read_is_named_and_no_success(ends: Ends, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(Outcome.PASSED, "broken") == ResultsError.exit_code
    error = capsys.readouterr().err
    assert f"{LEGACY.id}/broken/{store.RESULT_FILE}: a result is invalid" in error
    assert "not begun: 1 suite" in error
