"""A group of what is not released yet: it is run with candidates only, and what came of it stands apart."""

from collections.abc import Callable

import pytest

from ci.artefacts.candidates import Candidates
from ci.cli.main import main
from ci.errors import SelectionError
from ci.group import planning
from ci.group.planning import GroupRequest
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.loading import Matrix, load
from ci.matrix.mentioned import mentioned
from ci.options import Options
from ci.options.values import origin
from ci.record.outcomes import Outcome
from ci.report import grid
from ci.report.model import Compat
from ci.report.words import sentence
from tests.support.results import cell, result

Loader = Callable[..., Matrix]
GROUPS = """
[groups.smoke]
cells = [{ slurm = "oldest" }]
[groups.next]
candidates = ["slurm", "pyxis"]
cells = [{ slurm = "newest", enroot = "newest", pyxis = "newest" }]
"""
REAL = cell("22.05", "debian12", "4.1.2", "0.24.0")


@pytest.fixture
def rows(load_matrix: Loader, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """Put a matrix with such a group in the place of the other."""
    found = load_matrix(groups=GROUPS)
    monkeypatch.setattr(loading, "load", lambda: found)
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    return found


def test_a_group_says_which_candidates_are_missing_and_how_to_name_them(rows: Matrix) -> None:
    with pytest.raises(SelectionError) as caught:
        rows.group("next").check({"pyxis"})
    assert caught.value.what == "the group 'next' needs --slurm"
    assert caught.value.next_step == "nox -s matrix -- --group next --slurm PATH[@REV] --pyxis PATH[@REV]"
    rows.group("next").check({"slurm", "pyxis"})
    rows.group("smoke").check(())


@pytest.mark.parametrize("words", [["matrix"], ["images"], ["plan"]])
@pytest.mark.usefixtures("rows")
def test_every_command_that_runs_it_asks_for_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--group", "next"]) == SelectionError.exit_code
    assert "the group 'next' needs --slurm and --pyxis" in capsys.readouterr().err


def test_a_run_of_the_group_with_them_is_planned(rows: Matrix) -> None:
    options = Options(run="r", slurm=origin("/s"), pyxis=origin("/p"))
    asked = GroupRequest(group="next", candidates=Candidates(options=options))
    found = planning.plan_group(asked, rows, options, lambda _cell: None)
    assert [it.cell.id for it in found.cells] == ["slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64"]
    with pytest.raises(SelectionError, match="needs --pyxis"):
        planning.plan_group(asked, rows, Options(run="r", slurm=origin("/s")), lambda _cell: None)


@pytest.mark.parametrize(
    ("argv", "env", "refused"),
    [
        (["-t", "next"], {}, True),
        (["-t", "next", "--", "--slurm", "a"], {}, True),
        (["-t", "next", "--", "--slurm", "a", "--pyxis=b"], {}, False),
        (["-s", "pyxis_basic"], {"PYXIS_MATRIX_GROUP": "next"}, True),
        (["-s", "matrix", "--", "--slurm", "a", "--pyxis", "b"], {"PYXIS_MATRIX_GROUP": "next"}, False),
        (["-s", "matrix", "--", "--group", "next"], {}, False),
    ],
    ids=["tag", "half", "whole", "variable", "variable and options", "the command says it itself"],
)
def test_sessions_that_are_chosen_by_it_ask_for_them(
    rows: Matrix, argv: list[str], env: dict[str, str], *, refused: bool
) -> None:
    if refused:
        with pytest.raises(SelectionError, match="the group 'next' needs"):
            mentioned(argv, rows, Arch.AMD64, env)
    else:
        assert mentioned(argv, rows, Arch.AMD64, env)


@pytest.mark.usefixtures("rows")
def test_the_list_of_its_cells_says_that_something_takes_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cells", "--group", "next"]) == 0
    assert "--slurm and --pyxis have to name them" in capsys.readouterr().err


@pytest.mark.project_matrix
def test_the_repositorys_own_is_the_newest_of_all() -> None:
    rows = load()
    (chosen,) = rows.cells("next", Arch.AMD64)
    assert rows.group("next").candidates == ("slurm", "enroot", "pyxis")
    for axis in rows.group("next").candidates:
        assert chosen.row(axis) == max(row.version for row in getattr(rows, axis) if not row.untried)


CANDIDATES = (
    cell("22.05", "debian12", "4.1.2", "0.24.0+g1a2b3c4"),
    cell("26.11.0+g5f6e7d8", "debian12", "4.1.2", "0.24.0"),
)


def test_candidates_have_tables_of_their_own(merge: Callable[..., Compat]) -> None:
    embedded = cell("26.11.0+g5f6e7d8", "debian12", kind="embedded")
    report = merge(*map(result, (REAL, *CANDIDATES, embedded)))
    tables = grid.tables(report)
    shown = [(table.title, [it.id for _, _, row in table.rows for box in row for it in box.cells]) for table in tables]
    assert shown == [
        ("Real enroot and Pyxis", [REAL.id]),
        ("Real enroot and Pyxis, not released", [it.id for it in CANDIDATES]),
        ("Embedded runtime, not released", [embedded.id]),
    ]
    assert [(it.slurm, it.pyxis) for it in report.gaps] == [("26.11.0+g5f6e7d8", "0.24.0+g1a2b3c4")]
    assert {it.id: it.released for it in report.cells} == {
        REAL.id: True,
        **{it.id: False for it in CANDIDATES},
        embedded.id: False,
    }
    assert [it.compatibility for it in report.verdicts] == [True, False, False]
    assert sentence(report.verdicts) == (
        "real cells: 1 passed; real cells, not released: 2 passed, 1 not run (not counted with releases); "
        "embedded, not released: 1 passed (not counted with releases; not a compatibility verdict)"
    )


def test_a_failing_candidate_leaves_the_verdict_on_releases_alone(merge: Callable[..., Compat]) -> None:
    failed = result(CANDIDATES[0], outcome=Outcome.FAILED, tests=[])
    assert sentence(merge(failed).verdicts).startswith("real cells: none run; real cells, not released: 1 failed (")
    assert sentence(merge(failed, result(REAL)).verdicts).startswith("real cells: 1 passed; ")
