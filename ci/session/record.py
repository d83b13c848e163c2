"""All that is known of a session so far, so that its result can be written however it ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
import math
from pathlib import Path
import shlex
import time
from typing import Self

from ci import paths
from ci.engine.connection import Engine
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan
from ci.errors import ResultsError, program, suite_session
from ci.images.building import Builder, BuiltCell, ImageOrigin
from ci.matrix import pytest_words
from ci.matrix.pytest_words import Given
from ci.options import Options, Scope
from ci.options.inputs import OwnSuite
from ci.record import reportlog, store
from ci.record.outcomes import Outcome, Selection
from ci.record.reportlog import ReportLog
from ci.record.store import Result
from ci.terminal.console import Timings


@dataclass(kw_only=True)
class Record:
    """A session that is running."""

    plan: EnvironmentPlan
    command: Sequence[str] = ()
    suite: OwnSuite | None = None
    """The suite of another project that the command runs."""
    started: datetime = field(default_factory=store.utc_now)
    begin: float = field(default_factory=time.monotonic)
    timings: Timings = field(default_factory=Timings)
    engine: Engine | None = None
    builder: Builder | None = None
    images: BuiltCell | None = None
    environment: Environment | None = None
    command_started: bool = False
    interrupted: float = math.inf
    """When a signal ended the session (`time.time`)."""
    elsewhere: Callable[[Environment], int] | None = None
    """Waits until another process has run the command, and returns its exit code; None if it is started here."""
    given: Given | None = None
    """The arguments of a suite of this project; None for suites of other projects and for commands."""

    @classmethod
    def of_suite(cls, plan: EnvironmentPlan, name: str, given: Given) -> Self:
        """Return the record of a suite of this project, in an environment that several of them share."""

        def named(options: Options) -> Options:
            return replace(options, name=name, pytest=True, plain=False)

        own = replace(plan, options=named(plan.options), given=named(plan.given))
        return cls(plan=own, given=given)

    def begun(self) -> Result:
        """Return the result that replaces an earlier one until the outcome is known."""
        why = f"it began at {self.started:%Y-%m-%d %H:%M:%S} UTC and has not ended: it is running, or it was killed"
        return self.result(Outcome.UNFINISHED, ResultsError.exit_code, why)

    def result(self, outcome: Outcome, exit_code: int, reason: str) -> Result:
        """Return the result as far as it is known now."""
        options = self.plan.options
        file = self.environment.file if self.environment else None
        log = self.log
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
            nodes=file.nodes if file and not file.site else (),  # a site's host names are private
            images=self._images(),
            artefacts=self._artefacts(),
            timings=self.timings.as_dict(),
            ready=self.environment.ready if self.environment else {},
            again=self._again(),
            commit=self.plan.commit,
            tests=log.tests if log else (),
            selection=self.selection(log) if log else None,
        )

    @property
    def folder(self) -> Path | None:
        """The folder in which the command runs; None for the current one.

        Suites of this project run in its repository, so that their tests have the same names everywhere.
        """
        if self.suite:
            return self.suite.project
        return None if self.given is None else paths.REPOSITORY

    @property
    def log(self) -> ReportLog | None:
        """Pytest's reports so far; None if the command is not pytest, or was not started."""
        options = self.plan.options
        if not (self.command_started and options.pytest):
            return None
        return reportlog.read(options.folder(self.plan.cell) / store.REPORT_LOG_FILE, self.interrupted)

    def selection(self, log: ReportLog) -> Selection | None:
        """Return which of the suite's tests were selected; None if pytest did not report it."""
        if log.selected is None:
            return None
        if self.given is None:
            # Tests that the project's own settings deselect do not count as a part of its suite.
            named = (*pytest_words.narrowing(log.asked, log.deselected), *log.part)
            by = tuple(dict.fromkeys(named))
        else:
            # A release that was asked for another version's answers has not shown that it gives its own.
            others = [pair for pair in self.plan.options.answers_of if self.plan.cell.candidate(pair[0]) is None]
            by = (*self.given.narrowing, *(f"--answers-of {axis}={version}" for axis, version in others))
            if log.deselected and not by:
                by = ("what a plugin or a conftest.py deselects",)
        return Selection(collected=log.collected, deselected=log.deselected, by=by)

    def _again(self) -> str:
        """Return the command that does this again, on any machine."""
        options, cell = self.plan.given, self.plan.cell.matrix_id
        # What started it, such as pytest with its plugin, gave its own command line.
        if self.elsewhere:
            return shlex.join(self.command)
        if self.plan.again:
            behind = f" -- {shlex.join(self.given.words)}" if self.given and self.given.words else ""
            return f"{self.plan.again} --suite {self.plan.options.name}{behind}"
        if self.suite and options.suite:
            words = options.words(Scope.IMAGES, Scope.CLUSTER, Scope.SUITE)
            # The suite's path is written first, and the two words of its option are left out.
            where = words.index("--suite")
            words = [str(options.suite), *words[:where], *words[where + 2 :]]
            words += self.command[2:] if options.pytest else []  # behind `pytest TESTS`
            return suite_session("suite", cell, shlex.join(words))
        if self.given is not None:
            words = [*options.words(Scope.IMAGES, Scope.CLUSTER), *self.given.words]
            return suite_session(options.name, cell, shlex.join(words))
        if not self.command:
            # `up` keeps a cell by itself.
            words = replace(options, keep=False).words(Scope.IMAGES, Scope.CLUSTER)
            return f"{program()} up {shlex.join([cell, *words])}"
        words = options.words(Scope.IMAGES, Scope.CLUSTER, Scope.COMMAND)
        return f"{program()} run {shlex.join([cell, *words])} -- {shlex.join(self.command)}"

    def _images(self) -> tuple[store.ImageRecord, ...]:
        return tuple(
            store.ImageRecord(
                name=image.plan.name,
                tag=image.tag,
                digest=image.identity,
                built=image.how is ImageOrigin.BUILT,
                seconds=image.seconds,
                size=image.size,
                origin=image.origin,
            )
            for image in (self.builder.done if self.builder else ())
        )

    def _artefacts(self) -> tuple[store.ArtefactRecord, ...]:
        return tuple(
            store.ArtefactRecord(
                path=artefact.served,
                source=artefact.source,
                sha256=artefact.sha256,
                verified_against=artefact.vouched_for,
                commit=artefact.commit,
            )
            for artefact in (self.builder.fetched if self.builder else ())
        )
