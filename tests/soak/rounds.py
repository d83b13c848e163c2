"""Rounds of up, one job, down, each by the commands that a person types; and what they come to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
import json
import os
from pathlib import Path
import sys
import time

from ci import environment_file, paths
from ci.environment import launching, ssh
from ci.environment_file import EnvironmentFile
from ci.errors import LaunchError, PyxisMatrixError, SoakError
from ci.terminal import console, signals
from tests.soak.leaks import Left, Lookout, Seen, joined, settled
from tests.support import first_job
from tests.support.figures import spread, table

PHASES = ("up", "job", "down")
_SETTLE_SECONDS = 10.0
# Taking an environment down takes seconds, and an interrupted `up` does it.
_GRACE_SECONDS = 60.0
# Fewer say nothing about growth: the engine's number of open files goes up and down by itself.
_LEAST_FOR_GROWTH = 10
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One time up, job and down."""

    number: int
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase, as far as it came."""
    problem: str = ""
    """What failed; empty if nothing did."""
    left: dict[str, list[str]] = field(default_factory=dict)
    """What was there after it and not before, by kind."""
    engine_files: int | None = None
    """Files that the engine had open afterwards."""

    @property
    def good(self) -> bool:
        """Whether all went well and nothing is left."""
        return not (self.problem or self.left)


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What rounds on one cell came to, so far."""

    cell: str
    run: str
    asked: int
    machine: str
    started: str
    load: float
    """The machine's load when it began."""
    engine_files: int | None = None
    """Files that the engine had open before the first round."""
    rounds: tuple[Round, ...] = ()

    @property
    def growing(self) -> bool:
        """Whether the engine has a further file open for each round.

        The least of each half is taken: what else the engine does opens files, and closes them again.
        """
        counts = self._open_files
        half = len(counts) // 2
        return len(counts) >= _LEAST_FOR_GROWTH and min(counts[half:]) - min(counts[:half]) >= half

    @property
    def _open_files(self) -> list[int]:
        return [it.engine_files for it in self.rounds if it.engine_files is not None]

    @property
    def good(self) -> bool:
        """Whether each round so far is."""
        return all(it.good for it in self.rounds) and not self.growing

    def summary(self) -> str:
        """Return what came, in Markdown."""
        done = len(self.rounds)
        passed = sum(not it.problem for it in self.rounds)
        clean = sum(not it.left for it in self.rounds)
        lines = [f"{done} of {self.asked} rounds on {self.cell} (run {self.run}, {self.started})", ""]
        if done:
            lines += [f"- {passed} of {done} succeeded ({100 * passed / done:.1f} %)"]
            lines += [f"- after {clean} of {done} nothing was left"]
        if self.engine_files is not None and (counts := self._open_files):
            note = "; **it grows with each round**" if self.growing else ""
            after = f"{min(counts)} to {max(counts)} after a round"
            lines += [f"- files that the engine has open: {self.engine_files} before, {after}{note}"]
        lines += [f"- machine: {self.machine}; load {self.load:g} when it began", "", self._seconds()]
        for each in self.rounds:
            lines += [f"- round {each.number}: {' '.join(each.problem.split())}"] if each.problem else []
            lines += [f"- round {each.number} left {kind}: {', '.join(names)}" for kind, names in each.left.items()]
        return "\n".join(lines).rstrip() + "\n"

    def _seconds(self) -> str:
        rows = []
        for phase in PHASES:
            if values := [it.seconds[phase] for it in self.rounds if phase in it.seconds]:
                its = spread(values)
                rows.append(
                    [phase, str(its.count), *(f"{it:.2f}" for it in (its.least, its.median, its.p95, its.most))]
                )
        return table(["seconds", "times", "min", "median", "95 %", "max"], rows) if rows else ""

    def save(self, path: Path) -> None:
        """Write it, so that a killed process leaves the last whole one."""
        draft = path.with_name(f".{path.name}")
        success = sum(not it.problem for it in self.rounds) / len(self.rounds) if self.rounds else None
        text = json.dumps({"schema": SCHEMA, "success": success, "growing": self.growing, **asdict(self)}, indent=1)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How rounds are made."""

    cell: str
    run: str
    folder: Path
    """For what failing rounds wrote."""
    lookout: Lookout
    words: Sequence[str] = ()
    """More options for `up`."""
    clock: Callable[[], float] = time.monotonic

    def make(self, count: int) -> Iterator[Round]:
        """Make rounds, one after another; what one leaves is told of that one alone."""
        before = self.lookout.look()
        for number in range(1, count + 1):
            made = self.once(number, before)
            before = joined(before, {kind: made.left.get(kind, []) for kind in before})
            yield made

    def once(self, number: int, before: Seen) -> Round:
        """Make one round. What fails is in it; an interruption is raised when all is down."""
        run = f"{self.run}-{number}"
        seconds: dict[str, float] = {}
        problem = ""
        ports: list[int] = []
        log = self.folder / f"round-{number}.log"
        path = launching.state_dir(run, self.cell) / launching.ENVIRONMENT_FILE
        try:
            with self._timed("up", seconds):
                self._command("up", self.cell, "--run", run, *self.words, log=log)
            environment = environment_file.load(path)
            ports = ports_of(environment)
            with self._timed("job", seconds):
                self._job(environment)
        except PyxisMatrixError as error:
            problem = str(error)
        finally:
            with signals.shielded():
                problem = self._down(path, run, seconds, log) or problem
        found: Left = settled(before, lambda: self.lookout.look(ports), limit=_SETTLE_SECONDS)
        if not problem:
            log.unlink(missing_ok=True)
        return Round(
            number=number,
            seconds=seconds,
            problem=problem,
            left={kind.value: names for kind, names in found.items()},
            engine_files=self.lookout.engine_files(),
        )

    def _down(self, path: Path, run: str, seconds: dict[str, float], log: Path) -> str:
        """Take down what is up; return what is wrong with that. A failed `up` has taken itself down."""
        if not path.is_file():
            return ""
        try:
            with self._timed("down", seconds):
                self._command("down", run, log=log)
        except PyxisMatrixError as error:
            return str(error)
        return ""

    def _command(self, *words: str, log: Path) -> None:
        environment = {**os.environ, "TMPDIR": str(self.lookout.temporary)}
        command = [sys.executable, "-m", "ci", *words]
        done = console.call(command, cwd=paths.REPOSITORY, env=environment, log=log, grace=_GRACE_SECONDS)
        done.check(SoakError, f"`python -m ci {words[0]}` failed", where=str(log))

    def _job(self, environment: EnvironmentFile) -> None:
        with ssh.connect(environment.login) as connection:
            answer = connection.run(first_job.command(environment))
        if problem := first_job.problem(environment, answer):
            raise LaunchError(problem)

    @contextmanager
    def _timed(self, phase: str, seconds: dict[str, float]) -> Iterator[None]:
        """Note the seconds of a phase that succeeds."""
        begin = self.clock()
        yield
        seconds[phase] = round(self.clock() - begin, 3)


def ports_of(environment: EnvironmentFile) -> list[int]:
    """Return the ports that an environment has on this machine."""
    registry = [int(environment.registry.rpartition(":")[2])] if environment.registry else []
    return [environment.login.port, *registry]
