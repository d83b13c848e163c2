"""Waiting: the one way to do it, for munge, controller, nodes, sshd and registry alike.

A wait has a limit, notices at once that what it waits for has died, and fails with the state, the last log lines and a
hint.
"""

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import TypeVar

from ci.errors import LaunchError

T = TypeVar("T")

_LOG_LINES = 20


class NotYet(Exception):  # noqa: N818 - it is no error, it is an answer
    """A probe's answer "not yet"; a probe may return it or raise it. The text is the state as it is now."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What is waited for, as far as it can go wrong."""

    alive: Callable[[], bool | str] = lambda: True
    """True as long as there is hope; False, or a text that says how it died, ends the wait at once."""
    diagnose: Callable[[], str] = lambda: ""
    """Its log; the error has the last lines."""
    hint: str = ""
    """What to look at when it never gets ready. Of one that has died it would say the wrong cause."""
    hint_of_death: Callable[[str], str] = lambda _log: ""
    """What to look at when it has died, by its log."""


def wait_for(
    description: str,
    probe: Callable[[], T | NotYet],
    *,
    limit: float,
    poll: float = 0.1,
    watched: Watched = Watched(),
) -> T:
    """Ask ``probe`` until it gives a value, and return that value.

    ``probe`` must itself be bounded in time (give its sockets a timeout). A ``LaunchError`` of its own, such as an
    engine's refusal, is "not yet"; all other exceptions end the wait.

    ``limit`` and ``poll`` are seconds; a last probe is made when the limit is reached.

    Raises ``LaunchError`` with the last state, the last lines of the log, and the hint.
    """
    begin = time.monotonic()
    while True:
        try:
            answer = probe()
        except NotYet as not_yet:
            answer = not_yet
        except LaunchError as error:
            answer = NotYet(str(error))
        if not isinstance(answer, NotYet):
            return answer
        elapsed = time.monotonic() - begin
        life = watched.alive()
        if life is not True:
            what, why = f"died after {elapsed:.1f} s of waiting", life or "it is not running any more"
        elif elapsed >= limit:
            what, why = f"not ready within {limit:g} s", ""
        else:
            time.sleep(min(poll, limit - elapsed))
            continue
        log = _log(watched.diagnose)
        raise LaunchError(
            f"{description}: {what}",
            where=f"last state: {answer}",
            why=_reason(why, log),
            next_step=watched.hint if life is True else watched.hint_of_death(log),
        )


def _log(diagnose: Callable[[], str]) -> str:
    """Return the log; diagnostics that fail must not hide the real failure."""
    try:
        return diagnose()
    except Exception as error:  # noqa: BLE001 - reading the logs of a dead container may fail in any way
        return f"(failed to read its log: {error})"


def _reason(how: str, log: str) -> str:
    """Join how it died with the last log lines."""
    lines = [line for line in log.splitlines() if line.strip()][-_LOG_LINES:]
    if not lines:
        return how
    return "\n".join([f"{how}; last log lines:" if how else "last log lines:", *(f"    {line}" for line in lines)])
