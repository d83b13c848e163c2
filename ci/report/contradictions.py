"""What in a result can't be true: it contradicts itself, or the folder that it is in. Such a result proves nothing.

What results say against each other is in `ci.report.choosing`.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
import re

from msgspec.structs import replace

from ci.errors import ResultsError
from ci.matrix.cells import Runtime
from ci.matrix.model import AXES
from ci.matrix.observed import mismatches
from ci.matrix.suites import is_own
from ci.record.outcomes import Outcome, TestState
from ci.record.printable import printable, printable_path
from ci.record.store import CellRecord, Result
from ci.report.model import State
from ci.report.words import few

REMARK = "it contradicts itself"
"""How the reason begins of a result that is not believed."""
_ID = re.compile(
    # The version of a candidate holds more than digits: only the words between versions are fixed.
    # slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64+PROFILE, or @SITE, or slurm22.05-embedded-debian12-amd64.
    r"slurm(?P<slurm>.+?)-(?:enroot(?P<enroot>.+?)-pyxis(?P<pyxis>.+?)|(?P<runtime>embedded|legacy))"
    r"-(?P<os>[^-]+)-(?P<arch>[^-+@]+)(?:\+(?P<profile>[^@]+))?(?:@(?P<site>.+))?"
)
_NEVER_ZERO = frozenset({Outcome.FAILED, Outcome.ERROR, Outcome.INTERRUPTED, Outcome.UNFINISHED})


def found_in(result: Result, folder: Path) -> tuple[str, ...]:
    """Return what in a result contradicts the rest of it, or the folder that it was read from.

    A few letters each: they stand in every form of the report.
    """
    whole = (_tests(result), _selection(result), _exit_code(result), _cell(result.cell), _versions(result))
    return tuple(map(printable, chain.from_iterable((*whole, _place(result, folder)))))


def refuted(result: Result, why: tuple[str, ...]) -> Result:
    """Return a result that can't be true for these reasons; with none, as it is. What failed stays failed."""
    if not why:
        return result
    return replace(
        result,
        outcome=Outcome.FAILED if result.outcome is Outcome.FAILED else Outcome.ERROR,
        # Only what is good or skipped ends with 0.
        exit_code=result.exit_code or ResultsError.exit_code,
        reason="\n".join(filter(None, (f"{REMARK}: {'; '.join(why)}", result.reason))),
    )


def _tests(result: Result) -> Iterator[str]:
    twice = [name for name, times in Counter(test.name for test in result.tests).items() if times > 1]
    if twice:
        yield f"it lists a test twice: {few(twice, 1)}"
    if result.outcome in _NEVER_ZERO:
        return
    if bad := [test for test in result.tests if test.outcome.red]:
        yield f"it says {result.outcome}, but {len(bad)} of its tests did not: {bad[0].name} {bad[0].outcome}"
    elif result.outcome in {Outcome.PASSED, Outcome.PARTLY} and not result.count(TestState.PASSED):
        yield f"it says {result.outcome}, but no test passed"
    elif result.outcome is Outcome.SUCCEEDED and not is_own(result.suite):
        yield f"it says {result.outcome}, as a command does, but {result.suite} is a suite with tests"


def _selection(result: Result) -> Iterator[str]:
    """Yield why not all tests were run of a suite that says something good of its cell."""
    if not _claims(result):
        return
    says, selection = f"it says {result.outcome}", result.selection
    if selection is None:
        yield f"{says}, but not which tests were selected"
        return
    if result.ran < selection.selected:
        yield f"{says}, but has {result.ran} of the {selection.selected} tests that were selected"
    if result.outcome is not Outcome.PASSED:
        return
    if selection.by:
        yield f"{says}, but only a part of the suite was asked for: {', '.join(selection.by)}"
    elif selection.deselected and not is_own(result.suite):  # a suite of one's own may do so in its settings
        yield f"{says}, but {selection.deselected} of its {selection.collected} tests were deselected"
    if number := result.count(TestState.NOT_ASKED):
        yield f"{says}, but {number} of its tests were not asked"


def _claims(result: Result) -> bool:
    """Tell whether a result says something good of its cell; a command that ended well says nothing."""
    return State.of(result) in {State.PASSED, State.REUSED, State.KNOWN, State.PARTLY}


def _exit_code(result: Result) -> Iterator[str]:
    if (result.outcome.good and result.exit_code) or (result.outcome in _NEVER_ZERO and not result.exit_code):
        yield f"it says {result.outcome}, but its exit code is {result.exit_code}"


def _cell(cell: CellRecord) -> Iterator[str]:
    """Yield what of a cell is not as its id says."""
    if cell.runtime not in set(Runtime):
        return  # of a newer version; it is shown, and counted nowhere
    found = _ID.fullmatch(cell.id)
    if not found:
        yield f"{cell.id} is not the id of a cell"
        return
    said = found.groupdict()
    runtime = said["runtime"] or Runtime.NVIDIA.value
    if cell.runtime != runtime:
        yield f"its runtime is {cell.runtime}, but the id says {runtime}"
    for what, is_ in (("profile", cell.profile), ("site", cell.site)):
        if is_ != (said[what] or ""):
            yield f"its {what} is {is_ or 'none'}, but the id says {said[what] or 'none'}"
    values = {"os": cell.os, "arch": cell.arch, **cell.axes}
    for axis in AXES:
        # A result of an older version may not name every axis; what it names has to be as in the id.
        value = values.get(axis)
        if axis in values and (value or None) != said[axis] and (value or axis in cell.axes):
            yield f"its {axis} is {value or 'none'}, but the id says {said[axis] or 'none'}"


def _versions(result: Result) -> Iterator[str]:
    """Yield what was observed and is not what the id says. Who says something good of a cell has observed all of it.

    Of a site its owner may have said which enroot and Pyxis it has, where nothing there tells it.
    """
    if found := _ID.fullmatch(result.cell.id):
        named = {"enroot", "pyxis"} if result.cell.site else set()
        needed = set(AXES) - named if _claims(result) else set()
        axes = {axis: found[axis] for axis in AXES if axis in needed or result.versions.get(axis)}
        yield from (f"observed inside: {mismatch} as the id says" for mismatch in mismatches(axes, result.versions))


def _place(result: Result, folder: Path) -> Iterator[str]:
    """Yield where a result lies that is not of this cell and suite. A run's folder may have been renamed."""
    for what, name, there in (("cell", result.cell_id, folder.parent.name), ("suite", result.suite, folder.name)):
        if name != there:
            yield f"its {what} is {name}, but its folder is that of {printable_path(there)}"
