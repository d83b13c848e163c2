"""Earlier results with the same fingerprint, so that a suite need not run again."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from ci.errors import ResultsError
from ci.group.fingerprint import Ingredients
from ci.record import files, store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.report.choosing import is_ahead
from ci.report.finding import FoundResult

FINGERPRINTS_FILE = "fingerprints.json"
"""In the run's folder: the ingredients of each fingerprint, by cell and suite. They show what has changed since."""

Fingerprints = Mapping[str, Mapping[str, Ingredients]]


def earlier(results: Path, cell_id: str, suite: str, *, but: str) -> list[Result]:
    """Return the earlier results of a suite on a cell that have an outcome, the newest first.

    :param but: the current run, whose own results are left out.
    """
    found = []
    for path in results.glob(f"*/{cell_id}/{suite}/{store.RESULT_FILE}"):
        if path.parents[2].name == but:
            continue
        with suppress(ResultsError):  # of another version of this program, or broken
            result = FoundResult.of(store.load(path), path.parent).result
            # A result that is dated in the future is left out: until that day it would be the newest.
            ended = result.outcome in {Outcome.PASSED, Outcome.FAILED, Outcome.ERROR}
            if ended and result.fingerprint and not is_ahead(result.started, store.utc_now()):
                found.append(result)
    return sorted(found, key=lambda result: result.started, reverse=True)


def unchanged(results: list[Result], fingerprint: str) -> Result | None:
    """Return the newest result of this fingerprint if it passed.

    If the newest one did not pass, an older one that did is not used: that suite is flaky.
    """
    newest = next((result for result in results if result.fingerprint == fingerprint), None)
    return newest if newest and newest.outcome is Outcome.PASSED else None


def taken(result: Result, run: str) -> Result:
    """Return an earlier result as a result of this run, with the name of the run that it is from, and no duration."""
    # Always the run that ran it, however often it was taken since.
    source = result.reused_from or result.run
    return msgspec.structs.replace(
        result,
        run=run,
        reused_from=source,
        reason=f"unchanged since {source}",
        started=store.utc_now(),
        seconds=0.0,
        timings={},
    )


def changed(folder: Path, cell_id: str, suite: str, now: Ingredients) -> list[str]:
    """Return which ingredients differ from those of an earlier run; none if those are not known.

    :param folder: the earlier run's.
    """
    try:
        content = files.content(folder / FINGERPRINTS_FILE)
        before = msgspec.json.decode(content, type=dict[str, dict[str, dict[str, str]]])[cell_id][suite]
    except (OSError, KeyError, *files.INVALID):
        return []
    return [name for name, value in now.items() if before.get(name) != value]


def write(folder: Path, fingerprints: Fingerprints) -> None:
    """Write the ingredients of a run's fingerprints."""
    files.dump(folder / FINGERPRINTS_FILE, fingerprints, what="the fingerprints")
