"""Waiting: the one way to do it, for munge, controller, nodes, sshd and registry alike.

A wait has a limit, notices at once that what it waits for has died, and fails with the state, the last log lines and a
hint.
"""

from collections.abc import Callable
import time
from typing import TypeVar

from ci.errors import LaunchError

T = TypeVar("T")

_LOG_LINES = 20


class NotYet(Exception):  # noqa: N818 - it is no error, it is an answer
    """A probe's answer "not yet"; a probe may return it or raise it. The text is the state as it is now."""


def wait_for(
    description: str,
    probe: Callable[[], T | NotYet],
    *,
    limit: float,
    poll: float = 0.1,
    alive: Callable[[], bool | str] | None = None,
    diagnose: Callable[[], str] | None = None,
    hint: str = "",
    retry_on: tuple[type[Exception], ...] = (),
    error_class: type[LaunchError] = LaunchError,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Ask ``probe`` until it gives a value, and return that value.

    ``probe`` must itself be bounded in time (give its sockets a timeout); exceptions listed in ``retry_on`` count as
    "not yet", all others go through. ``alive`` returns True as long as there is hope; False, or a text that says how it
    died, ends the wait at once. ``limit`` and ``poll`` are seconds; a last probe is made when the limit is reached.

    Raises ``error_class`` with the last state, the last lines of what ``diagnose`` returns, and ``hint``.
    """
    begin = clock()
    state = "was never asked"
    while True:
        try:
            answer = probe()
        except NotYet as not_yet:
            state = str(not_yet)
        except retry_on as error:
            state = f"{type(error).__name__}: {error}"
        else:
            if not isinstance(answer, NotYet):
                return answer
            state = str(answer)
        elapsed = clock() - begin
        if alive is not None and (life := alive()) is not True:
            how = life or "it is not running any more"
            raise error_class(
                f"{description}: died after {elapsed:.1f} s of waiting",
                where=f"last state: {state}",
                why=_reason(how, diagnose),
                next_step=hint,
            )
        if elapsed >= limit:
            raise error_class(
                f"{description}: not ready within {limit:g} s",
                where=f"last state: {state}",
                why=_reason("", diagnose),
                next_step=hint,
            )
        sleep(min(poll, limit - elapsed))


def _reason(how: str, diagnose: Callable[[], str] | None) -> str:
    """Join how it died with the last log lines; diagnostics that fail must not hide the real failure."""
    if diagnose is None:
        return how
    try:
        lines = [line for line in diagnose().splitlines() if line.strip()][-_LOG_LINES:]
    except Exception as error:  # noqa: BLE001 - logs of a dead container can be out of reach in any way
        lines = [f"(its logs can't be had: {error})"]
    if not lines:
        return how
    return "\n".join([f"{how}; last log lines:" if how else "last log lines:", *(f"    {line}" for line in lines)])
