"""Rounds of up, one job, down, each by the commands that a person types; and what they come to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import sys
import time

from ci import environment_file, paths
from ci.engine.connection import Engine
from ci.environment import launching, ssh
from ci.environment_file import EnvironmentFile
from ci.errors import PyxisMatrixError
from ci.terminal import console, signals
from tests.soak.leaks import Left, Lookout, settled
from tests.support import first_job
from tests.support.figures import spread, table
from tests.support.program import CheckFailedError

_SETTLE_SECONDS = 10.0
# Taking an environment down takes seconds, and an interrupted `up` does it.
_GRACE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """One time up, job and down."""

    number: int
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase, as far as it came."""
    problem: str = ""
    """What failed; empty if nothing did."""
    left: Left = field(default_factory=dict)
    """What was there after it."""

    @property
    def good(self) -> bool:
        """Whether all went well and nothing is left."""
        return not (self.problem or self.left)


def summary(head: str, machine: str, rounds: Sequence[Round]) -> str:
    """Return what rounds on one cell came to so far, in Markdown.

    :param head: which rounds these are.
    :param machine: what they ran on.
    """
    done, lines = len(rounds), [f"{len(rounds)} {head}", ""]
    if done:
        passed, clean = (sum(not getattr(each, fault) for each in rounds) for fault in ("problem", "left"))
        lines += [f"- {passed} of {done} succeeded ({100 * passed / done:.1f} %)"]
        lines += [f"- after {clean} of {done} nothing was left"]
    lines += [f"- machine: {machine}", ""]
    figures = []
    for phase in ("up", "job", "down"):
        if seconds := [each.seconds[phase] for each in rounds if phase in each.seconds]:
            of = spread(seconds)
            figures.append([phase, str(of.count), *(f"{it:.2f}" for it in (of.least, of.median, of.p95, of.most))])
    lines += [table(["seconds", "times", "min", "median", "95 %", "max"], figures)] if figures else []
    for each in rounds:
        lines += [f"- round {each.number}: {' '.join(each.problem.split())}"] if each.problem else []
        lines += [f"- round {each.number} left {kind}: {', '.join(names)}" for kind, names in each.left.items()]
    return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How rounds are made."""

    cell: str
    run: str
    folder: Path
    """For what failing rounds wrote."""
    engine: Engine
    temporary: Path
    """For the temporary folders of the rounds."""
    words: Sequence[str] = ()
    """More options for `up`."""

    def once(self, number: int) -> Round:
        """Make one round. What fails is in it; an interruption is raised when all is down."""
        run, log = f"{self.run}-{number}", self.folder / f"round-{number}.log"
        lookout = Lookout(engine=self.engine, run=run, temporary=self.temporary / str(number))
        file = launching.state_dir(run, self.cell) / launching.ENVIRONMENT_FILE
        seconds: dict[str, float] = {}
        problems: list[str] = []
        volumes: frozenset[str] = frozenset()
        ports: list[int] = []

        def command(*words: str) -> None:
            environment = {**os.environ, "TMPDIR": str(lookout.temporary)}
            full = [sys.executable, "-m", "ci", *words]
            done = console.call(full, cwd=paths.REPOSITORY, env=environment, log=log, grace=_GRACE_SECONDS)
            done.check(CheckFailedError, f"`python -m ci {words[0]}` failed", where=str(log))

        @contextmanager
        def phase(name: str) -> Iterator[None]:
            """Note the seconds of a phase that succeeds, and the problem of one that fails."""
            begin = time.monotonic()
            try:
                yield
                seconds[name] = round(time.monotonic() - begin, 3)
            except PyxisMatrixError as error:
                problems.append(str(error))

        lookout.temporary.mkdir()
        try:
            with phase("up"):
                command("up", self.cell, "--run", run, *self.words)
            if not problems:
                with phase("job"):
                    environment = environment_file.load(file)
                    ports, volumes = ports_of(environment), lookout.volumes()
                    with ssh.connect(environment.login) as connection:
                        first_job.run(environment, connection)
        finally:
            if file.is_file():  # an `up` that fails has taken itself down
                with signals.shielded(), phase("down"):
                    command("down", run)
        if not problems:
            log.unlink(missing_ok=True)
        left = settled(lambda: lookout.left(volumes, ports), limit=_SETTLE_SECONDS)
        return Round(number=number, seconds=seconds, problem="\n".join(problems), left=left)


def ports_of(environment: EnvironmentFile) -> list[int]:
    """Return the ports that an environment has on this machine."""
    registry = [int(environment.registry.rpartition(":")[2])] if environment.registry else []
    return [environment.login.port, *registry]
