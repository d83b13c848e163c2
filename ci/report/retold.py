"""The results that a report tells of: they are taken in again beside newer ones, though their own files may be gone.

So a cell is added to a report, or run again, and none of the others is. A report does not name the tests that passed at
once, nor say which test saw an answer: neither is made up. It leads to no files, since anybody may have written it.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
from pathlib import Path

from msgspec.structs import replace

from ci.errors import ResultsError
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.planned import RunPlan
from ci.record.store import CellRecord, Result, SuiteFacts, shared_fields
from ci.report import finding, model
from ci.report.finding import FoundResult
from ci.report.model import COMPAT_FILE, CellReport, Compat, Problem, SuiteReport, Unfinished

_MOST_TESTS = 1_000_000
"""Of a suite; a file with more is not a report of ours."""

Item = FoundResult | RunPlan | Unfinished | Problem | CellReport


def is_report_alone(root: Path) -> bool:
    """Tell whether what is named is a report: its file, or its folder if there is nothing else below that."""
    return root.is_file() or (finding.is_report(root) and next(finding.find([root]), None) is None)


def find(roots: Iterable[Path]) -> Iterator[Item]:
    """Yield what is found below folders, and what reports tell.

    :raises ResultsError: for a report that is invalid, or of another schema.
    """
    for root in roots:
        if is_report_alone(root):
            yield from _told(model.load(root), root if root.is_dir() else root.parent)
        else:
            yield from finding.find([root])


def _told(compat: Compat, folder: Path) -> Iterator[Item]:
    yield from compat.problems
    yield from compat.unfinished
    yield from (cell for cell in compat.cells if cell.missing)
    against: dict[tuple[str, str, str], list[str]] = {}
    for contradiction in compat.contradictions:
        against.setdefault((contradiction.cell, contradiction.suite, contradiction.run), []).append(contradiction.what)
    for cell, suite in compat.results():
        try:
            result = _result(compat, cell, suite)
        except (IndexError, ValueError) as error:
            what = f"{cell.id} {suite.suite}: {error}"
            raise ResultsError("a report is invalid", where=str(folder / COMPAT_FILE), why=what) from error
        place = folder / suite.run / cell.id / suite.suite
        # What was not believed is as that report has it; all else is looked at once more.
        why = tuple(against.get((cell.id, suite.suite, suite.run), ()))
        found = FoundResult(result=result, folder=place, contradictions=why) if why else FoundResult.of(result, place)
        yield dataclasses.replace(found, history=suite.history)


def _result(compat: Compat, cell: CellReport, suite: SuiteReport) -> Result:
    """Return what was told of a suite on a cell as the result that it was."""
    tests = [TestOutcome(**shared_fields(test, TestOutcome)) for test in suite.tests]
    number = suite.counts.get(TestState.PASSED, 0) - sum(test.outcome is TestState.PASSED for test in tests)
    if not 0 <= number <= _MOST_TESTS:  # one edited number must not fill the memory
        raise ValueError(f"its number of tests that passed at once is {number}")
    tests += _unnamed(number)
    if tests:
        saw = tuple((name, answer) for name, answers in suite.saw.items() for answer in answers)
        # A report does not say which test saw an answer; what counts is that the suite saw it.
        tests[0] = replace(tests[0], saw=saw)
    # A cluster that exists is partly run without anybody having asked for a part.
    is_part = suite.outcome is Outcome.PARTLY and TestState.NOT_ASKED not in suite.counts
    is_told = suite.outcome in {Outcome.PASSED, Outcome.PARTLY, Outcome.SKIPPED} and tests
    # As `Result.ran` counts: a module that broke is listed, and is not a test.
    ran = sum("::" in test.name for test in tests)
    return Result(
        **shared_fields(suite, SuiteFacts),
        cell=CellRecord(**shared_fields(cell, CellRecord)),
        # A report has none: one that fits the outcome, or each result of it would be a contradiction.
        exit_code=0 if suite.outcome.good or suite.outcome is Outcome.SKIPPED else 1,
        images=tuple(compat.images[place] for place in suite.images),
        artefacts=tuple(compat.artefacts[place] for place in suite.artefacts),
        tests=tuple(tests),
        selection=Selection(collected=ran, by=("a part of the suite",) if is_part else ()) if is_told else None,
    )


@functools.cache
def _unnamed(number: int) -> tuple[TestOutcome, ...]:
    """Return so many tests that passed at once; thousands of suites have the same number."""
    # `::` as in all names of tests: `Result.ran` counts by it.
    return tuple(TestOutcome(name=f"::{place}", outcome=TestState.PASSED) for place in range(number))
