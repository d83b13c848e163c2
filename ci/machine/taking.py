"""Announcing and taking the steps of bootstrap. Standard library only."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
import fcntl
from pathlib import Path
import sys

from ci.errors import BootstrapError, PyxisMatrixError, set_up
from ci.machine.steps import SetupStep, StepKind
from ci.terminal import signals
from ci.terminal.processes import Command, run_logged

ROOT = Path(__file__).resolve().parents[2]

# SIGKILL in the middle of apt-get would leave packages half installed, so it has this time to end after SIGTERM.
_GRACE_S = 60.0


def say(text: str) -> None:
    """Print a message to stderr; standard output belongs to the command."""
    sys.stderr.write(f"bootstrap: {text}\n")
    sys.stderr.flush()


@contextmanager
def reported() -> Iterator[None]:
    """Exit with an error's message and its own code; after Ctrl-C and SIGTERM, first end the current step."""
    try:
        with signals.handled():
            yield
    except PyxisMatrixError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except signals.Interrupted as end:
        say("interrupted")
        sys.exit(end.exit_code)


@contextmanager
def one_at_a_time(*, waiting: bool) -> Iterator[None]:
    """Keep two bootstraps of one checkout from making the same files at the same time."""
    # A file that is there in every checkout, and is only read: a lock leaves nothing behind.
    with (ROOT / "pyproject.toml").open(encoding="utf-8") as lock:
        if waiting:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another {set_up()} of the same files")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def take_all(
    steps: Iterable[SetupStep],
    env: Mapping[str, str],
    *,
    dry_run: bool,
    take: Callable[[SetupStep, Mapping[str, str]], None],
) -> None:
    """Announce each step, then take it; a dry run only announces."""
    for step in steps:
        say(f"{'would ' if dry_run else ''}{step}")
        if not dry_run:
            take(step, env)


def run(step: SetupStep, env: Mapping[str, str]) -> None:
    """Run a step's command. Its output is not shown, except the last lines if it fails."""
    # No package may ask: its question would not be shown, and nobody could answer.
    command = Command(words=step.command, env={**env, "DEBIAN_FRONTEND": "noninteractive"}, grace=_GRACE_S)
    done = run_logged(command)
    if step.kind is StepKind.TRY and not done.ok:
        say(f"  failed, and is left out: exit code {done.exit_code}; its last lines:\n{done.tail()}")
        return
    done.check(
        BootstrapError,
        f"failed to {step.title}",
        where=str(command),
        next_step=f"correct what the lines above say, and run {set_up()} again; it continues where it stopped",
    )
    say(f"  done in {done.seconds:.1f} s")
