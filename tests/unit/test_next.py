"""What came of cells with candidates stands apart from releases."""

from collections.abc import Callable

from ci.record.outcomes import Outcome
from ci.report import grid
from ci.report.model import Compat
from ci.report.words import sentence
from tests.support.results import cell, result

REAL = cell("22.05", "debian12", "4.1.2", "0.24.0")
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
