"""The one way to wait: for munge, controller, nodes, sshd and registry.

A wait has a limit, ends at once when the container that it waits for has ended, and fails with the state, the last log
lines and a hint.
"""

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import TypeVar

from ci.errors import LaunchError

T = TypeVar("T")

_LOG_LINES = 20


@dataclass(frozen=True)
class NotYet:
    """A probe's answer "not yet"."""

    state: str


@dataclass(frozen=True, kw_only=True)
class Watched:
    """How to find out that a wait is useless, and why."""

    alive: Callable[[], bool | str] = lambda: True
    """Returns True while the container runs. False, or a text that says how it ended, ends the wait at once."""
    diagnose: Callable[[], str] = lambda: ""
    """Returns the log, whose last lines are in the error."""
    hint: str = ""
    """The likely cause if it never gets ready. For a container that has ended, this would be the wrong one."""
    hint_of_death: Callable[[str], str] = lambda _log: ""
    """Returns the likely cause of the end, from the log."""


def wait_for(
    description: str,
    probe: Callable[[], T | NotYet],
    *,
    limit: float,
    poll: float = 0.1,
    watched: Watched = Watched(),
) -> T:
    """Call ``probe`` until it returns a value, and return that value.

    :param probe: must itself have a time limit. Its ``LaunchError``, such as an engine's refusal, means "not yet"; all
        other exceptions end the wait.
    :param limit: seconds; the last call is made when they have passed.
    :param poll: seconds between two calls.
    :raises LaunchError: with the last state, the last lines of the log, and the hint.
    """
    begin = time.monotonic()
    while True:
        try:
            answer = probe()
        except LaunchError as error:
            answer = NotYet(str(error))
        if not isinstance(answer, NotYet):
            return answer
        elapsed = time.monotonic() - begin
        life = watched.alive()
        # Before the limit: how it ended says more than that time is up. Not `if not life`: a text is true as well.
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
            where=f"last state: {answer.state}",
            why=_reason(why, log),
            next_step=watched.hint if life is True else watched.hint_of_death(log),
        )


def _log(diagnose: Callable[[], str]) -> str:
    """Return the log; a failure to read it must not hide the real one."""
    try:
        return diagnose()
    except Exception as error:  # noqa: BLE001 - reading the logs of a dead container may fail in any way
        return f"(failed to read its log: {error})"


def _reason(how: str, log: str) -> str:
    """Join the way it ended with the last log lines."""
    lines = [line for line in log.splitlines() if line.strip()][-_LOG_LINES:]
    if not lines:
        return how
    return "\n".join([f"{how}; last log lines:" if how else "last log lines:", *(f"    {line}" for line in lines)])
