"""What is known of a session so far, so that its result can be written no matter how it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
import shlex
import time

from ci.engine.connection import Engine
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan
from ci.errors import ResultsError, typed
from ci.images.building import Builder, BuiltCell, How
from ci.inputs import OwnSuite
from ci.options import Scope
from ci.results import reportlog, store
from ci.results.outcomes import Outcome
from ci.results.store import Result
from ci.terminal.console import Timings


def suite_again(suite: str, cell: str, words: Sequence[str]) -> str:
    """Return the command that runs a suite of this project on a cell, as a person types it."""
    return f'nox -s "{suite}({cell})"' + (f" -- {shlex.join(words)}" if words else "")


@dataclass(kw_only=True)
class Record:
    """A session that is running."""

    plan: EnvironmentPlan
    command: Sequence[str] = ()
    suite: OwnSuite | None = None
    """A suite of somebody's own, whose command it is."""
    started: datetime = field(default_factory=store.utc_now)
    begin: float = field(default_factory=time.monotonic)
    timings: Timings = field(default_factory=Timings)
    engine: Engine | None = None
    builder: Builder | None = None
    images: BuiltCell | None = None
    environment: Environment | None = None
    command_started: bool = False
    words: Sequence[str] = ()
    """What was given to pytest beside the suite's own arguments."""
    fingerprint: str = ""
    """Of all that decides what the suite comes to; see `ci.group.fingerprint`."""

    def begun(self) -> Result:
        """Return the result that stands in the place of any earlier one until it is known what this came to."""
        return self.result(Outcome.UNFINISHED, ResultsError.exit_code, store.begun(self.started))

    def result(self, outcome: Outcome, exit_code: int, reason: str) -> Result:
        """Return the result as far as it is known now."""
        options = self.plan.options
        file = self.environment.file if self.environment else None
        log = options.folder(self.plan.cell) / store.REPORT_LOG_FILE
        return Result(
            run=options.run,
            cell=store.CellRecord.of(self.plan.cell),
            suite=options.name,
            outcome=outcome,
            exit_code=exit_code,
            reason=reason,
            started=self.started,
            seconds=time.monotonic() - self.begin,
            versions=file.observed if file else {},
            subject={"requirement": self.plan.subject},
            nodes=file.nodes if file else (),
            images=self._images(),
            artefacts=self._artefacts(),
            timings=self.timings.as_dict(),
            ready=self.environment.ready if self.environment else {},
            again=self._again(),
            fingerprint=self.fingerprint,
            tests=reportlog.read(log).tests if self.command_started and options.pytest else (),
        )

    def _again(self) -> str:
        """Return the command that does this again, as a person types it."""
        options, cell = self.plan.asked, self.plan.cell.matrix_id
        if self.suite and options.suite:
            words = options.words(Scope.IMAGES, Scope.CLUSTER, Scope.SUITE)
            where = words.index("--suite")
            words = [str(options.suite), *words[:where], *words[where + 2 :]]
            # Behind `pytest TESTS`, or `/bin/sh -c COMMAND`.
            words += self.command[2:] if options.pytest else ["--command", self.command[2]]
            return f'nox -s "suite({cell})" -- {shlex.join(words)}'
        if options.pytest and not options.plain:
            words = [*options.words(Scope.IMAGES, Scope.CLUSTER), *self.words]
            return suite_again(options.name, cell, words)
        if not self.command:
            return typed(f"up {cell}")
        words = options.words(Scope.IMAGES, Scope.CLUSTER, Scope.COMMAND)
        return typed(f"run {shlex.join([cell, *words])} -- {shlex.join(self.command)}")

    def _images(self) -> tuple[store.ImageRecord, ...]:
        return tuple(
            store.ImageRecord(
                name=it.plan.name,
                tag=it.tag,
                digest=it.identity,
                built=it.how is How.BUILT,
                seconds=it.seconds,
                size=it.size,
                origin=it.origin,
            )
            for it in (self.builder.done if self.builder else ())
        )

    def _artefacts(self) -> tuple[store.ArtefactRecord, ...]:
        return tuple(
            store.ArtefactRecord(
                path=it.served,
                source=it.source,
                sha256=it.sha256,
                verified_against=it.vouched_for,
                commit=it.commit,
            )
            for it in (self.builder.fetched if self.builder else ())
        )
