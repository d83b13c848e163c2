"""One suite on one cell: build, launch, run the command, write its result. Behind ``python -m ci run`` and ``up``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
import os
from pathlib import Path, PurePath

from ci import paths
from ci.engine import emulation
from ci.engine.connection import connect
from ci.engine.refusals import errors_of_ours
from ci.environment import launching
from ci.environment.launching import Environment
from ci.errors import NotRunError, PyxisMatrixError, TeardownError
from ci.images.building import Builder, sources_of
from ci.matrix.cells import Runtime
from ci.options.values import RunsOn
from ci.record import reportlog, store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.session.checks import check_host, check_names
from ci.session.handover import additions
from ci.session.on_login import LoginRun
from ci.session.record import Record
from ci.terminal import console, signals

# The time for a command to end by itself when the session is interrupted; pytest writes its report in this time.
_GRACE_SECONDS = 15.0

EnvironmentContext = Callable[[Record], AbstractContextManager[Environment]]
"""Has the environment of a record up for a block, and learns into the record what becomes known of it."""


def run(record: Record, environment: EnvironmentContext | None = None) -> tuple[int, Result]:
    """Run a record's command against its planned environment; return its exit code and its result, which is written.

    Errors of the project's own kinds are written into the result and raised again; so are interruptions.

    :param environment: has it up; by default `environment_of`, which starts a cell.
    """
    return recorded(record, lambda: _run(record, environment or environment_of))


def recorded(record: Record, act: Callable[[], int]) -> tuple[int, Result]:
    """Call ``act``; return its exit code, and the result, which is also written.

    Errors of the project's own kinds are written into the result and raised again; so are interruptions.
    """
    plan = record.plan
    folder = begin(record)

    def keep(outcome: Outcome, exit_code: int, reason: str = "") -> Result:
        result = record.result(outcome, exit_code, reason)
        # A cluster that was only started (`up`) is no result.
        if record.command or outcome is not Outcome.SUCCEEDED:
            with signals.shielded():
                # Else a Ctrl-C in this moment leaves the result that says that it is running.
                store.write(result, folder / store.RESULT_FILE)
        return result

    try:
        with errors_of_ours("running this session"):
            exit_code = act()
    except PyxisMatrixError as error:
        keep(Outcome.of(error, strict=plan.options.strict), error.exit_code, str(error))
        raise
    # A KeyboardInterrupt, and no error as above: an `except Exception` on the way lets it pass.
    except signals.Interrupted as stop:
        record.interrupted = stop.at
        keep(Outcome.INTERRUPTED, stop.exit_code, str(stop))
        raise
    exit_code, outcome, reason = _judged(record, exit_code)
    return exit_code, keep(outcome, exit_code, reason)


def begin(record: Record) -> Path:
    """Replace the result of an earlier attempt by an unfinished one, and return the result's folder.

    This comes first in a session, so that no end of it, not even kill -9, leaves the earlier result in place.

    :raises ResultsError: if writing fails, ``DiskFullError`` if there is no room. The earlier result is removed then.
    """
    folder = paths.make_directory(record.plan.options.folder(record.plan.cell))
    result = folder / store.RESULT_FILE
    try:
        if record.command:
            store.write(record.begun(), result)
        else:
            result.unlink(missing_ok=True)
    except PyxisMatrixError:
        result.unlink(missing_ok=True)
        raise
    withdraw(folder, but=store.RESULT_FILE)
    return folder


def withdraw(folder: Path, *, but: str = "") -> None:
    """Remove the files of an earlier attempt from the folder of a result, except ``but``."""
    for name in {store.RESULT_FILE, store.REPORT_LOG_FILE, store.JUNIT_FILE} - {but}:
        (folder / name).unlink(missing_ok=True)


def _judged(record: Record, exit_code: int) -> tuple[int, Outcome, str]:
    """Return the exit code, outcome and reason of a command that has ended.

    A run that proves nothing does not end with 0, though the command may: pytest does if all tests were skipped, and
    so do tests under emulation, where no container can start.
    """
    outcome, reason = Outcome.SUCCEEDED if exit_code == 0 else Outcome.FAILED, ""
    if log := record.log:
        outcome, reason = log.outcome(exit_code), log.reason(exit_code)
        if exit_code == 0 and not outcome.good:
            exit_code = 1
        selection = record.selection(log)
        if selection and selection.by:
            chosen = f"{selection.selected} of {selection.collected} tests"
            part = f"only a part of the suite was asked for: {', '.join(selection.by)}, {chosen}"
            reason = "; ".join(filter(None, (reason, part)))
            outcome = Outcome.PARTLY if outcome is Outcome.PASSED else outcome
    if unproved := _unproved(record, outcome):
        return NotRunError.exit_code, Outcome.SKIPPED, unproved
    return exit_code, outcome, reason


def _unproved(record: Record, outcome: Outcome) -> str:
    """Return why a run without a failure proves nothing: under emulation no container can start. Otherwise empty."""
    cell, launched = record.plan.cell, record.environment
    emulated = launched is not None and launched.file.emulated and cell.runtime is not Runtime.LEGACY
    if not (record.command and emulated and (outcome.good or outcome is Outcome.SKIPPED)):
        return ""
    console.warn(f"{cell.id} is emulated: no container was started, so this is no answer for {cell.arch}")
    why = f"{cell.arch} was emulated, so that no container was started: {emulation.NO_CONTAINERS}"
    return f"{why}; run it on {cell.arch} hardware"


def _run(record: Record, environment: EnvironmentContext) -> int:
    """Return the command's exit code; 0 if there is no command.

    If the command failed, that is the outcome, also if the environment was not taken down completely.
    """
    code = 0
    try:
        # Signals outermost: one that comes while the environment is taken down is ignored.
        with signals.handled(), environment(record) as launched:
            code = against(record, launched) if record.command else 0
    except TeardownError as error:
        if not code:
            raise
        console.fail(error)
    return code


def against(record: Record, launched: Environment) -> int:
    """Run a record's command against an environment that is up; return its exit code.

    :raises RegistryChangedError: if it ended well, and its jobs may have run another image than was pushed.
    """
    code = _ended(record, launched)
    if not code:
        launched.verify()
    return code


def _ended(record: Record, launched: Environment) -> int:
    options = record.plan.options
    folder = paths.make_directory(options.folder(record.plan.cell))
    if options.on is RunsOn.LOGIN:
        return _on_login(record, launched, folder)
    record.command_started = True
    if record.elsewhere:
        with record.timings.measure("tests"):
            return record.elsewhere(launched)
    # Without PYTHONPATH for a suite of this project: a package there may be a plugin of pytest that changes outcomes.
    theirs = os.environ if record.given is None else {}
    variables = reportlog.variables(theirs) if options.pytest else {}
    with record.timings.measure("tests"):
        return console.attach(
            [*record.command, *(_reports(folder) if options.pytest else ())],
            cwd=record.folder,
            env={**os.environ, **additions(launched, os.environ), **variables},
            grace=_GRACE_SECONDS,
        ).exit_code


def _on_login(record: Record, launched: Environment, folder: Path) -> int:
    """Run the suite on the login node; return its exit code."""
    house = record.images.node_wheels if record.images else None
    if record.suite is None or record.engine is None or house is None:
        raise LookupError("a suite on the login node has a suite, and wheels that were made for it")
    login = LoginRun(record.engine, launched, record.suite)
    login.prepare(house)
    record.command_started = True
    with record.timings.measure("tests"):
        reports = _reports(login.results) if record.plan.options.pytest else ()
        return login.run([*record.command, *reports], folder)


def _reports(folder: PurePath) -> tuple[str, ...]:
    """Return the options with which pytest reports into a folder; they are the last ones, so that they win."""
    junit = (f"--junitxml={folder / store.JUNIT_FILE}", "-o", "junit_logging=all")
    return (*reportlog.options(folder / store.REPORT_LOG_FILE), *junit)


@contextmanager
def environment_of(record: Record) -> Iterator[Environment]:
    """Build a record's plan and have its environment up for the block; engine and images are kept in the record."""
    plan = record.plan
    logs = paths.make_directory(plan.options.folder(plan.cell)) / store.LOGS_FOLDER
    check_names(plan)
    engine = record.engine = connect()
    check_host(engine, plan.cell)
    record.builder = Builder(engine, sources_of(plan.options), logs=logs)
    with console.step(f"images of {plan.cell.id}", phase="images", timings=record.timings):
        images = record.images = record.builder.build(plan.images)
    with launching.launch(engine, plan, images, timings=record.timings) as launched:
        record.environment = launched
        yield launched
