"""One suite on one cell, from images to results: what ``python -m ci run`` and ``up`` do."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
import os
from pathlib import Path
import sys
import time

from docker.errors import DockerException
from requests.exceptions import RequestException

from ci import environment_file, paths
from ci.artefacts.sources import Sources
from ci.engine import host
from ci.engine.connection import Engine, connect, explain
from ci.environment import launching
from ci.environment.launching import CellImages, Environment, Options
from ci.errors import DiskFullError, EngineError, PyxisMatrixError
from ci.images.building import Builder
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.results import reportlog, store
from ci.results.outcomes import Outcome
from ci.results.store import Result
from ci.terminal import console, signals
from ci.terminal.console import Timings

# Less than this and a build would only find out halfway.
_LEAST_FREE_BYTES = 3 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a session beside its cell."""

    run: str
    suite: str
    results: Path
    nodes: int = 1
    registry_port: int = 0
    ssh_port: int = 0
    accounting: bool = False
    gpus: int = 0
    checkout: Path | None = None
    mirror: Path | None = None
    keep: bool = False
    password: str = ""
    """Password of the job user, for suites that can't use a key; empty: no login by password."""
    plain: bool = False
    """Hand the cluster to somebody else's suite, in the variables of ``[suite-environment]``."""
    pytest: bool = False
    """The command is pytest: it is asked for a report, and that decides; any other is judged by its exit code."""

    def folder(self, cell: Cell) -> Path:
        """Return the suite's result folder on a cell."""
        return store.suite_folder(self.results, self.run, cell.id, self.suite)


@dataclass(kw_only=True)
class _Record:
    """What is known so far, so that a result can be written however the session ends."""

    started: datetime
    begin: float
    timings: Timings = field(default_factory=Timings)
    images: CellImages | None = None
    builder: Builder | None = None
    environment: Environment | None = None
    command: Sequence[str] = ()
    started_tests: bool = False
    exit_code: int = 0
    """The command's own."""


def run(cell: Cell, matrix: Matrix, request: Request, command: Sequence[str]) -> tuple[int, Result]:
    """Run ``command`` against the cell's environment; return its exit code and the result, which is also written.

    Errors of the project's own kinds are written into the result and raised again; so are interruptions.
    """
    folder = request.folder(cell)
    paths.make_directory(folder)
    record = _Record(started=store.utc_now(), begin=time.monotonic(), command=command)

    def keep(outcome: Outcome, exit_code: int, reason: str = "") -> Result:
        result = _result(cell, matrix, request, record, outcome=outcome, exit_code=exit_code, reason=reason)
        # A cluster that came up for a person to work on proves nothing, and must not stand in a report as passed.
        if command or outcome is not Outcome.PASSED:
            with signals.shielded():
                store.write(result, folder / store.RESULT_FILE)
        return result

    try:
        with signals.handled():
            _run(cell, matrix, request, record)
    except PyxisMatrixError as error:
        keep(Outcome.ERROR, error.exit_code, str(error))
        raise
    except (DockerException, RequestException) as error:  # some of them are OSErrors, too
        problem = explain(error, "what this session asked of it")
        keep(Outcome.ERROR, problem.exit_code, str(problem))
        raise problem from error
    except OSError as error:
        problem = paths.refused(error)
        keep(Outcome.ERROR, problem.exit_code, str(problem))
        raise problem from error
    except signals.Interrupted as stop:
        keep(Outcome.INTERRUPTED, stop.exit_code, str(stop))
        raise
    exit_code, reason = record.exit_code, ""
    if not request.pytest:
        outcome = Outcome.PASSED if exit_code == 0 else Outcome.FAILED
    else:
        log = reportlog.read(folder / store.REPORT_LOG_FILE)
        outcome, reason = log.outcome(exit_code), log.reason(exit_code)
        # pytest exits 0 when every test was skipped; that proves nothing and must not look green to a script either.
        if exit_code == 0 and outcome is not Outcome.PASSED:
            exit_code = 1
    return exit_code, keep(outcome, exit_code, reason)


def _run(cell: Cell, matrix: Matrix, request: Request, record: _Record) -> None:
    with _opened(cell, matrix, request, record) as launched:
        if not record.command:
            return
        record.started_tests = True
        # Last, so that it holds whatever else was asked for.
        report = [
            *reportlog.options(request.folder(cell) / store.REPORT_LOG_FILE),
            *(f"--junitxml={request.folder(cell) / store.JUNIT_FILE}", "-o", "junit_logging=all"),
        ]
        with record.timings.measure("tests"):
            record.exit_code = console.attach(
                [*record.command, *(report if request.pytest else ())],
                env={**os.environ, **additions(launched, matrix, request, os.environ)},
                grace=15.0,
            ).exit_code


@contextmanager
def opened(cell: Cell, matrix: Matrix, request: Request) -> Iterator[Environment]:
    """Have a cell's environment up for the block, from the images on; for callers that keep results themselves."""
    with _opened(cell, matrix, request, _Record(started=store.utc_now(), begin=time.monotonic())) as launched:
        yield launched


@contextmanager
def _opened(cell: Cell, matrix: Matrix, request: Request, record: _Record) -> Iterator[Environment]:
    folder = paths.make_directory(request.folder(cell))
    engine = connect()
    check_host(engine, cell)
    record.builder = Builder(engine, logs=folder / store.LOGS_FOLDER)
    with console.step(f"images of {cell.id}", phase="images", timings=record.timings):
        record.images = launching.prepare(
            engine,
            record.builder,
            cell,
            what=matrix.subject,
            checkout=request.checkout,
            where=Sources.from_environment(request.mirror),
            with_accounting=request.accounting,
        )
    options = Options(
        run=request.run,
        suite=request.suite,
        results=folder,
        nodes=request.nodes,
        registry_port=request.registry_port,
        ssh_port=request.ssh_port,
        accounting=request.accounting,
        gpus=request.gpus,
        password=request.password,
    )
    with launching.launch(
        engine,
        cell,
        record.images,
        options,
        what=subject_text(matrix, request),
        timings=record.timings,
        keep=request.keep,
    ) as launched:
        record.environment = launched
        yield launched


def additions(launched: Environment, matrix: Matrix, request: Request, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a command that uses a cluster finds in its environment beside ``environ``.

    That is the path of the environment's file, and a client that can build, first on PATH.
    """
    file = launched.file
    bin_folder = str(Path(file.engine_client).parent)
    mine = {
        environment_file.VARIABLE: str(launched.path),
        # A suite may give the subject a HOME of its own; the cache must not move with it.
        paths.CACHE_VARIABLE: str(paths.cache_dir(environ)),
        # Nor must the client's plugins (buildx) and its user's settings.
        "DOCKER_CONFIG": environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker"),
        "PATH": f"{bin_folder}{os.pathsep}{environ.get('PATH', os.defpath)}",
        **file.engine_environment,
    }
    if request.plain:
        mine |= matrix.suite_environment.render(facts(launched))
    return mine


def facts(launched: Environment) -> dict[str, str | None]:
    """Return what a suite that knows nothing of this project can be told in environment variables."""
    file = launched.file
    return {
        "host": file.login.host,
        "port": str(file.login.port),
        "user": file.login.user,
        "password": file.login.password or None,
        "private-key": file.login.private_key,
        "known-hosts": file.login.known_hosts,
        "home": file.login.home,
        "registry": file.registry,
        "job-image": file.job_reference,
        "cell": file.cell,
        "environment-file": str(launched.path),
    }


def subject_text(matrix: Matrix, request: Request) -> str:
    """Return what the subject was installed from, for results and the tests' header."""
    return str(request.checkout) if request.checkout else matrix.subject.requirement


def check_host(engine: Engine, cell: Cell) -> None:
    """Refuse what is known to fail later: no user namespaces, no FUSE, no room. Each with the exact fix."""
    if engine.found.data_root and engine.found.local:
        free = host.free_bytes(engine.found.data_root)
        if free < _LEAST_FREE_BYTES:
            raise DiskFullError(
                f"only {free / 1024**3:.1f} GiB are free where the engine keeps its images",
                where=str(engine.found.data_root),
                why=f"a cell needs about {_LEAST_FREE_BYTES / 1024**3:.0f} GiB",
                next_step="docker image prune --all --filter label=pyxis-matrix, or free the disk otherwise",
            )
    if cell.runtime is Runtime.LEGACY or not engine.found.local or sys.platform != "linux":
        return
    for obstacle in filter(None, (host.user_namespaces(), host.fuse())):
        raise EngineError(obstacle.what, where=obstacle.where, why=obstacle.why, next_step=obstacle.fix)


def _result(
    cell: Cell,
    matrix: Matrix,
    request: Request,
    record: _Record,
    *,
    outcome: Outcome,
    exit_code: int,
    reason: str,
) -> Result:
    file = record.environment.file if record.environment else None
    log = request.folder(cell) / store.REPORT_LOG_FILE
    images = record.builder.done.values() if record.builder else ()
    tests = reportlog.read(log).tests if record.started_tests and request.pytest else ()
    return Result(
        run=request.run,
        cell=store.CellRecord.of(cell),
        suite=request.suite,
        outcome=outcome,
        exit_code=exit_code,
        reason=reason,
        started=record.started,
        seconds=time.monotonic() - record.begin,
        versions=file.observed if file else {},
        subject={"requirement": subject_text(matrix, request)},
        nodes=file.nodes if file else (),
        images=tuple(
            store.ImageRecord(
                name=f"{it.plan.folder} {it.plan.variant}",
                tag=it.tag,
                digest=it.identity,
                built=it.built,
                seconds=it.seconds,
                size=it.size,
            )
            for it in images
        ),
        artefacts=tuple(
            store.ArtefactRecord(
                path=it.artefact.path,
                source=it.source,
                sha256=it.sha256,
                verified_against=it.verified_against or "",
            )
            for it in (record.images.artefacts if record.images else ())
        ),
        timings=record.timings.as_dict(),
        ready=record.environment.ready if record.environment else {},
        tests=tests,
    )
