"""What a run of a group came to: one exit code, that of the worst."""

from collections.abc import Iterable

from ci.errors import NotRunError, PyxisMatrixError
from ci.results.outcomes import Outcome
from ci.results.store import Result

FAILED = 1
"""As pytest has it: a test failed."""


def exit_code(results: Iterable[Result]) -> int:
    """Return the code of the worst result: a failure before an error, an error before what could not run.

    Of several errors it is that of the first.
    """
    found = list(results)
    if any(it.outcome is Outcome.FAILED for it in found):
        return FAILED
    for outcome in (Outcome.ERROR, Outcome.INTERRUPTED):
        codes = [it.exit_code for it in found if it.outcome is outcome]
        if codes:
            return codes[0] or PyxisMatrixError.exit_code
    if any(it.outcome is Outcome.SKIPPED for it in found):
        return NotRunError.exit_code
    return 0
