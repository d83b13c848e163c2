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
from ci.record.outcomes import Outcome, TestState
from ci.record.printable import printable, printable_path
from ci.record.store import CellRecord, Result

REMARK = "it contradicts itself"
"""How the reason begins of a result that is not believed."""
_ID = re.compile(
    r"slurm(?P<slurm>.+?)-(?:enroot(?P<enroot>.+?)-pyxis(?P<pyxis>.+?)|(?P<runtime>embedded|legacy))"
    r"-(?P<os>[^-]+)-(?P<arch>[^-+@]+)(?:\+(?P<profile>[^@]+))?(?:@(?P<site>.+))?"
)
_NEVER_ZERO = frozenset({Outcome.FAILED, Outcome.ERROR, Outcome.INTERRUPTED, Outcome.UNFINISHED})


def of(result: Result, folder: Path) -> tuple[str, ...]:
    """Return what in a result contradicts the rest of it, or the folder that it was read from.

    A few letters each: they stand in every form of the report.
    """
    every = (_tests(result), _exit_code(result), _cell(result.cell), _versions(result), _place(result, folder))
    return tuple(map(printable, chain.from_iterable(every)))


def believed(result: Result, folder: Path) -> Result:
    """Return a result as far as it is to be believed: one that contradicts itself is an error, never passed."""
    return refuted(result, of(result, folder))


def refuted(result: Result, why: tuple[str, ...]) -> Result:
    """Return a result that can't be true for these reasons; with none, as it is. What failed stays failed."""
    if not why:
        return result
    return replace(
        result,
        outcome=Outcome.FAILED if result.outcome is Outcome.FAILED else Outcome.ERROR,
        exit_code=result.exit_code or ResultsError.exit_code,
        reason="\n".join(filter(None, (f"{REMARK}: {'; '.join(why)}", result.reason))),
    )


def _tests(result: Result) -> Iterator[str]:
    twice = [name for name, times in Counter(test.name for test in result.tests).items() if times > 1]
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        yield f"it lists a test twice: {twice[0]}{more}"
    if result.outcome not in {Outcome.PASSED, Outcome.PARTLY}:
        return
    bad = [test for test in result.tests if test.outcome.red]
    if bad:
        yield f"it says {result.outcome}, and {len(bad)} of its tests did not: {bad[0].name} {bad[0].outcome}"
    elif not result.count(TestState.PASSED):
        yield f"it says {result.outcome}, and no test passed"


def _exit_code(result: Result) -> Iterator[str]:
    if (result.outcome.good and result.exit_code) or (result.outcome in _NEVER_ZERO and not result.exit_code):
        yield f"it says {result.outcome}, and its exit code is {result.exit_code}"


def _cell(cell: CellRecord) -> Iterator[str]:
    """Yield what of a cell is not as its id says."""
    if cell.runtime not in set(Runtime):
        return  # of a newer version; it is shown, and counted nowhere
    found = _ID.fullmatch(cell.id)
    if not found:
        yield f"{cell.id} is no id of a cell"
        return
    said = found.groupdict()
    runtime = said["runtime"] or Runtime.NVIDIA.value
    if cell.runtime != runtime:
        yield f"its runtime is {cell.runtime}, and the id says {runtime}"
    for what, is_ in (("profile", cell.profile), ("site", cell.site)):
        if is_ != (said[what] or ""):
            yield f"its {what} is {is_ or 'none'}, and the id says {said[what] or 'none'}"
    values = {"os": cell.os, "arch": cell.arch, **cell.axes}
    for axis in AXES:
        value = values.get(axis)
        if axis in values and (value or None) != said[axis] and (value or axis in cell.axes):
            yield f"its {axis} is {value or 'none'}, and the id says {said[axis] or 'none'}"


def _versions(result: Result) -> Iterator[str]:
    """Yield what was observed and is not what the id says."""
    if found := _ID.fullmatch(result.cell.id):
        seen = {axis: said for axis, said in found.groupdict().items() if result.versions.get(axis)}
        yield from (f"observed inside: {mismatch} as the id says" for mismatch in mismatches(seen, result.versions))


def _place(result: Result, folder: Path) -> Iterator[str]:
    """Yield where a result lies that is not of this cell and suite. A run's folder may have been renamed."""
    for what, name, there in (("cell", result.cell_id, folder.parent.name), ("suite", result.suite, folder.name)):
        if name != there:
            yield f"its {what} is {name}, and its folder is that of {printable_path(there)}"
