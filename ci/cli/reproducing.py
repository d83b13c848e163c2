"""The command ``reproduce``: what a test ran and saw on a cell, as a script that needs nothing of this project."""

import argparse
from collections.abc import Callable, Sequence
import sys

from ci import paths
from ci.errors import ReproduceError, SelectionError
from ci.matrix.tables import did_you_mean
from ci.record.outcomes import TestOutcome, TestState
from ci.record.store import utc_now
from ci.report import finding
from ci.report.choosing import is_ahead
from ci.report.finding import FoundResult
from ci.report.words import few
from ci.reproducing.case import Case
from ci.reproducing.writing import FORMS, Reproducer

_MOST_NAMED = 10


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("results", metavar="RUN", help="the run's id, or a folder of results")
    parser.add_argument("cell", metavar="CELL", help="the cell that has the fault")
    parser.add_argument("test", metavar="TEST", help="its name, or a part that only this test has; or a behaviour's id")
    parser.add_argument(
        "--fixed",
        metavar="CELL",
        help="a cell without the fault (default: the newest real one on which the test saw another answer)",
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="PATH", help="where that one's results are, if not in RUN"
    )
    parser.add_argument("--format", choices=list(FORMS), default="cluster", help="what to write (default: cluster)")
    parser.epilog = "The script ends with 1 where the fault is there, 0 where it is not, 2 where that is unknown."


def reproduce(parsed: argparse.Namespace) -> int:
    """Print a script, a bats test or the text of an issue.

    :raises SelectionError: if no such test was run on the cell, or more than one is meant.
    :raises ReproduceError: if what it ran can't be run elsewhere.
    """
    results = paths.results_dir()
    roots = finding.places([parsed.results, *parsed.data], results)
    read = list(finding.results(roots))
    # What can't be true shows no fault, and shows no cell to be without it.
    believed = [each for each in read if not each.contradictions and not is_ahead(each.result.started, utc_now())]
    # Newest first: `_the_test` and `_fixed` take the first that fits.
    found = sorted(believed, key=lambda each: each.result.started, reverse=True)
    of_cell = [each for each in found if each.result.cell_id == parsed.cell]
    if not of_cell:
        if refused := [each for each in read if each.result.cell_id == parsed.cell]:
            raise SelectionError(
                f"no result of {parsed.cell} can be true",
                where=", ".join(str(each.folder) for each in refused[:_MOST_NAMED]),
                why="; ".join(refused[0].contradictions) or "it is dated in the future",
                next_step="take it away, or run the suite again",
            )
        cells = sorted({each.result.cell_id for each in found})
        raise SelectionError(
            f"no result of {parsed.cell}", where=", ".join(map(str, roots)), why=did_you_mean(parsed.cell, cells)[2:]
        )
    at, test = _the_test(of_cell, parsed.test)
    case = Case.of(at, test)
    other = _fixed(found, at, test, parsed.fixed)
    fixed = Case.of(*other) if other else None
    sys.stdout.write(Reproducer(case=case, fixed=fixed).written(parsed.format))
    return 0


def _the_test(found: Sequence[FoundResult], word: str) -> tuple[FoundResult, TestOutcome]:
    """Return the newest result with the test that a word names; of those that saw a behaviour, the first."""
    # A skipped test has run nothing that a script could repeat.
    ran = [(each, test) for each in found for test in each.result.tests if test.outcome is not TestState.SKIPPED]
    if saw := [(each, test) for each, test in ran if word in {id_ for id_, _ in test.saw}]:
        return saw[0]
    # From the exact name to a part of it; the first way that finds any test decides.
    ways: tuple[Callable[[str], bool], ...] = (
        lambda name: name == word,
        lambda name: name.rpartition("::")[2] == word,
        lambda name: word in name,
    )
    for fits in ways:
        meant = [(each, test) for each, test in ran if fits(test.name)]
        names = list(dict.fromkeys(test.name for _, test in meant))
        if len(names) == 1:
            return meant[0]
        if names:
            raise SelectionError(f"{word!r} is in the names of {len(names)} tests", why=few(names, _MOST_NAMED))
    known = sorted({test.name.rpartition("::")[2] for _, test in ran})
    # Without the "; " that joins it to a message, and without the list of all tests.
    close = did_you_mean(word, known)[2:].partition(" (known")[0]
    raise SelectionError(f"no test of {found[0].result.cell_id} is called {word}", why=close)


def _fixed(
    found: Sequence[FoundResult], at: FoundResult, test: TestOutcome, wanted: str | None
) -> tuple[FoundResult, TestOutcome] | None:
    """Return the same test on a cell without the fault, the newest one; None where none is known.

    Of its own accord it takes none of another runtime: the embedded one answers in words of its own.
    """
    mine = at.result
    for each in found:
        its = each.result
        meant = its.cell_id == wanted if wanted else its.cell.runtime == mine.cell.runtime
        if not meant or its.suite != mine.suite:
            continue
        for other in each.result.tests:
            if other.name == test.name and _without(other, test):
                return each, other
    if wanted:
        raise ReproduceError(
            f"{wanted} gave no other answer",
            why="its results have no such test, or one that saw the same answer, or that failed as well",
            next_step="name another cell with --fixed, or leave it out",
        )
    return None


def _without(other: TestOutcome, test: TestOutcome) -> bool:
    """Tell whether a test did not meet the fault that another one met."""
    if test.saw:
        return other.outcome is TestState.PASSED and other.saw != test.saw and bool(other.saw)
    return other.outcome is TestState.PASSED and test.outcome is not TestState.PASSED
