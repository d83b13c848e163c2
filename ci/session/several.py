"""Several suites on one cell, one after another in one environment. Each has its own result, as if it ran alone."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
import sys
from typing import Any

import msgspec

from ci import paths
from ci.engine.refusals import errors_of_ours
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan
from ci.errors import LaunchError, PyxisMatrixError, TeardownError
from ci.matrix.pytest_words import Given
from ci.matrix.suites import Suite
from ci.record import progress, store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.report.model import State
from ci.session import running
from ci.session.record import Record
from ci.terminal import console, signals
from ci.terminal.console import Timings


@dataclass(frozen=True, kw_only=True)
class Order:
    """A suite to run."""

    suite: Suite
    given: Given = field(default_factory=Given)
    """More arguments for pytest; they are the last ones, so that they win."""

    @property
    def command(self) -> tuple[str, ...]:
        """The command line."""
        return (sys.executable, "-m", "pytest", *self.given.command(self.suite, "-n", str(self.suite.workers)))


def run_suites(
    plan: EnvironmentPlan, orders: Sequence[Order], environment: running.EnvironmentContext | None = None
) -> list[Result]:
    """Start a planned environment, run suites in it, take it down; return their results, which are also written.

    After a suite that fails, the next still runs; in an environment that is no longer usable, none does. Problems are
    in the results, and are not raised.

    :param environment: has it up, if it is not a cell's.
    :raises signals.Interrupted: at a signal; suites that were running or had not run yet have a result that says so.
    """
    shared = Record(plan=replace(plan, options=replace(plan.options, name=paths.ENVIRONMENT_FOLDER)))
    log = progress.Log(plan.options.results / plan.options.run / plan.cell.id / paths.PROGRESS_FILE)
    shared.timings = Timings(begun=log.add)
    session, opened = _Session(shared, log), environment or running.environment_of
    rest = list(orders)
    try:
        # All before the first: however this ends, no suite is left with the result of an earlier attempt.
        session.begin(orders)
        doing = "running this session"
        with signals.handled(), errors_of_ours(doing), opened(shared) as launched:
            while rest:
                # Not before the first: launching has just seen that all is well.
                if session.results:
                    _check(launched, session.results[-1].suite)
                session.run(rest.pop(0), launched)
    except TeardownError as problem:
        if not session.results:
            raise
        session.blame(problem)
    except (PyxisMatrixError, signals.Interrupted) as problem:
        for order in rest:
            session.fail(order, problem)
        # Without a suite left to write it to, the problem would be in no result.
        if isinstance(problem, signals.Interrupted) or not rest:
            raise
    finally:
        session.add_teardown()
    return session.results


class _Session:
    """The suites of one environment, and their outcomes."""

    def __init__(self, shared: Record, log: progress.Log) -> None:
        self._shared = shared
        self._log = log
        self.results: list[Result] = []

    def begin(self, orders: Sequence[Order]) -> None:
        """Replace each suite's result of an earlier attempt by an unfinished one."""
        for order in orders:
            running.begin(self._record(order))

    def run(self, order: Order, launched: Environment) -> None:
        """Run a suite; its failure is in its result, and is raised only if that could not be written."""
        record = self._record(order)
        folder = record.plan.options.folder(record.plan.cell)
        record.environment = launched

        def act() -> int:
            try:
                return running.against(record, launched.handed_to(record.plan))
            finally:
                with signals.shielded():
                    launched.save_logs(folder / store.LOGS_FOLDER)

        self._recorded(record, act)

    def fail(self, order: Order, problem: BaseException) -> None:
        """Write the result of a suite that ``problem`` kept from running."""

        def act() -> int:
            raise problem

        with suppress(signals.Interrupted):
            self._recorded(self._record(order), act)

    def add_teardown(self) -> None:
        """Add the seconds of the tear-down to the last result, so that the sum of all results is the whole time."""
        seconds = self._shared.timings.as_dict().get("teardown")
        if not self.results or seconds is None:
            return
        last = self.results[-1]
        with suppress(PyxisMatrixError):  # the result is written already; only these seconds would be lost
            self._write_last(timings={**last.timings, "teardown": seconds}, seconds=last.seconds + seconds)

    def blame(self, problem: TeardownError) -> None:
        """Write into the last result what could not be taken down, unless that is a failure already."""
        console.fail(problem)
        if self.results[-1].outcome is not Outcome.FAILED:
            self._write_last(outcome=Outcome.ERROR, exit_code=problem.exit_code, reason=str(problem))

    def _write_last(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of a result
        self.results[-1] = msgspec.structs.replace(self.results[-1], **changes)
        with signals.shielded():
            store.write(self.results[-1], self._folder(self.results[-1].suite) / store.RESULT_FILE)

    def _recorded(self, record: Record, act: Callable[[], int]) -> None:
        name = record.plan.options.name
        path = self._folder(name) / store.RESULT_FILE
        try:
            running.recorded(record, act)
        except (PyxisMatrixError, signals.Interrupted) as problem:
            # Where the result could not be written, it still says that the suite is running, and the error says why.
            if not store.has_ended(path) or isinstance(problem, signals.Interrupted):
                raise
        finally:
            if path.is_file():
                self.results.append(store.load(path))
                self._log.add(progress.ENDED, name, State.of(self.results[-1]))

    def _record(self, order: Order) -> Record:
        """Return a suite's record; the time until the environment was up is added to the first one's."""
        name, shared = order.suite.name, self._shared
        record = replace(
            Record.of_suite(shared.plan, name, order.given),
            command=order.command,
            engine=shared.engine,
            builder=shared.builder,
            images=shared.images,
            environment=shared.environment,
            timings=Timings(begun=lambda phase: self._log.add(phase, name)),
        )
        if not self.results:
            # As if the first suite had started the environment for itself alone.
            record.started, record.begin = shared.started, shared.begin
            for phase, seconds in shared.timings.as_dict().items():
                record.timings.add(phase, seconds)
        return record

    def _folder(self, name: str) -> Path:
        return replace(self._shared.plan.options, name=name).folder(self._shared.plan.cell)


def _check(launched: Environment, earlier: str) -> None:
    """Refuse an environment that the earlier suite has made unusable.

    :raises LaunchError: so that the next suite is not blamed.
    """
    try:
        with console.step("checking that it is still usable"):
            launched.check()
    except LaunchError as error:
        raise LaunchError(
            f"after {earlier} the environment was no longer usable: {error.what}",
            where=error.where,
            why=error.why,
            next_step=f"the daemons' logs are beside the result of {earlier}",
        ) from error
