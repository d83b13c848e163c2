"""The exit code of a group: that of its worst result."""

from collections.abc import Iterable, Sequence

from ci.errors import NotRunError, PyxisMatrixError, ResultsError
from ci.record.outcomes import Outcome
from ci.record.store import Result

FAILED = 1
"""As pytest has it: a test failed."""


def exit_code(results: Iterable[Result], unwritten: Sequence[PyxisMatrixError] = (), *, missing: bool = False) -> int:
    """Return the code of the worst result: a failure before an error, an error before what could not run.

    Of several errors, the first counts.

    :param unwritten: why results could not be written.
    :param missing: whether an expected result does not exist or can't be read, which is a failure, too.
    """
    found = list(results)
    if any(result.outcome is Outcome.FAILED for result in found):
        return FAILED
    for outcome in (Outcome.ERROR, Outcome.INTERRUPTED, Outcome.UNFINISHED):
        codes = [result.exit_code for result in found if result.outcome is outcome]
        if codes:
            return codes[0] or PyxisMatrixError.exit_code
    # A result that could not be written counts less than what the others say.
    if unwritten:
        return unwritten[0].exit_code
    if missing:
        return ResultsError.exit_code
    if any(result.outcome is Outcome.SKIPPED for result in found):
        return NotRunError.exit_code
    return 0
