"""Suites on a cluster that exists: its environment is a folder there, and what describes it here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
import json
from pathlib import Path
import shutil

from filelock import FileLock, Timeout

from ci import environment_file, paths
from ci.artefacts import checkout
from ci.engine.connection import Engine
from ci.environment import cluster, launching, plan, ssh
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan
from ci.environment_file import EnvironmentFile, Login
from ci.errors import LaunchError, SelectionError, SiteError, TeardownError
from ci.images.building import Builder, sources_of
from ci.images.plan import JOB_PYTHON, images_of, job_os
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmVersion
from ci.matrix.model import Matrix
from ci.options import Options
from ci.record import store
from ci.session.record import Record
from ci.session.several import Up
from ci.site.cleaning import clean
from ci.site.observing import SiteFacts, observe
from ci.site.target import SiteTarget
from ci.terminal import console, signals

_REPOSITORY = "pyxis-matrix-site/job"
_WHERE = "where.json"
"""Where containers of a run may be left; in its folder here."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster that was reached and told what it is, with its folder made."""

    target: SiteTarget
    seen: SiteFacts
    login: Login
    state: Path
    """The folder here with what is known of it; it is there as long as something may be left there."""


@contextmanager
def reached(target: SiteTarget, run: str) -> Iterator[Site]:
    """Log in, clean up what killed runs from here left, ask for versions; at the end, remove all that the run made.

    :raises SiteError: if the cluster can't be asked. :raises TeardownError: if something is left there.
    """
    login = replace(target.login, prelude=target.prelude(run))
    states = paths.cache_dir() / "sites" / target.name
    with ssh.connect(login) as connection:
        for left in _left(states):
            console.say(f"removing what the run {left.name} left there")
            _removed(connection, left)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(_lock(paths.make_directory(states), run), timeout=0))
        except Timeout as error:
            raise SelectionError(f"run {run} is already in progress on this cluster", where=str(states)) from error
        state = paths.make_directory(states / run)
        done = False
        try:
            with ssh.connect(login) as connection:
                seen = observe(connection, target, run)
            (state / _WHERE).write_text(json.dumps([seen.nodes[:1], seen.enroot_data]), encoding="utf-8")
            yield Site(target=target, seen=seen, login=replace(login, user=seen.user), state=state)
            done = True
        finally:
            with signals.shielded(), console.step("removing what was made on the cluster"):
                problem = _taken_down(login, state)
            if problem and done:
                raise problem
            if problem:
                console.warn(str(problem))


def _left(states: Path) -> list[Path]:
    """Return the folders of runs that are dead: nobody holds their lock."""
    found = []
    for state in sorted(it for it in states.glob("*") if it.is_dir()):
        with suppress(Timeout), FileLock(_lock(states, state.name), timeout=0):
            found.append(state)
    return found


def _lock(states: Path, run: str) -> Path:
    return states / f"{run}.lock"


def _taken_down(login: Login, state: Path) -> TeardownError | None:
    """Remove all that a run made, over a connection of its own: the first one may be broken."""
    try:
        with ssh.connect(login) as connection:
            _removed(connection, state)
    except TeardownError as problem:
        return problem
    except LaunchError as problem:
        return TeardownError(
            "what the run made on the cluster was not removed",
            where=f"its jobs, and the folder {SiteTarget.folder(state.name)} in the home there",
            why=str(problem),
            next_step="the next run from this machine removes it",
        )
    return None


def _removed(connection: ssh.Connection, state: Path) -> None:
    where = (state / _WHERE).read_text(encoding="utf-8") if (state / _WHERE).is_file() else '[[], ""]'
    if left := clean(connection, state.name, *json.loads(where)):
        raise TeardownError(
            f"not all that the run {state.name} made on the cluster could be removed",
            where=left,
            next_step="remove it by hand, or run anything there again from this machine",
        )
    shutil.rmtree(state, ignore_errors=True)
    _lock(state.parent, state.name).unlink(missing_ok=True)


def plan_site(site: Site, rows: Matrix, options: Options) -> EnvironmentPlan:
    """Plan the one image that may be built for it: that of jobs, which is the same for all cells."""
    cell = site.seen.cell
    any_cell = Cell(slurm=SlurmVersion(version="22.05"), os=job_os(), runtime=Runtime.EMBEDDED, arch=cell.arch)
    settled = replace(options, nodes=len(site.seen.nodes))
    return EnvironmentPlan(
        cell=cell,
        asked=options,
        options=settled,
        images=images_of(any_cell, rows.subject, options.subject, accounting=False),
        names=plan.names(settled, cell),
        subject=str(options.subject) if options.subject else rows.subject.requirement,
        suite_environment=rows.suite_environment,
        commit=checkout.of_this_program(),
        again=site.target.again,
    )


def _answers(login: Login) -> None:
    with ssh.connect(login) as connection:
        connection.run("true")


def environment_of(site: Site, connect: Callable[[], Engine] | None) -> Up:
    """Return what has the environment of suites up for a block.

    :param connect: the engine here, with which a job image is built and pushed; None where no suite needs one.
    """
    return partial(_environment, site, connect)


@contextmanager
def _environment(site: Site, connect: Callable[[], Engine] | None, record: Record) -> Iterator[Environment]:
    seen, target, options = site.seen, site.target, record.plan.options
    file = EnvironmentFile(
        run=options.run,
        cell=seen.cell.id,
        suite=options.name,
        runtime=seen.cell.runtime.value,
        arch=seen.cell.arch.value,
        slurm=seen.cell.slurm.version,
        enroot=seen.cell.axes["enroot"],
        pyxis=seen.cell.axes["pyxis"],
        nodes=seen.nodes,
        containers=(),
        login=site.login,
        second_user="",
        registry=target.registry or None,
        job_python=JOB_PYTHON,
        subject=record.plan.subject,
        engine_client="",
        observed=seen.versions,
        settings=dict(seen.cell.settings),
        results=str(options.folder(seen.cell)),
        site=seen.cell.site,
        os=seen.cell.os.name,
        folder=seen.work,
        enroot_data=seen.enroot_data,
        logs_in_elsewhere=seen.logs_in_elsewhere,
        jobs={name: value for name in ("partition", "account") if (value := getattr(target, name))},
        beyond_the_sdk=target.beyond_the_sdk,
    )
    with ExitStack() as stack:
        if connect and target.registry:
            file = _with_job_image(file, record, connect(), stack, site.state)
        path = site.state / launching.ENVIRONMENT_FILE
        environment_file.save(path, file)
        launched = Environment(
            plan=record.plan,
            file=file,
            path=path,
            cluster=cluster.Cluster(nodes=()),
            check=partial(_answers, site.login),
        )
        record.environment = launched
        yield launched


def _with_job_image(
    file: EnvironmentFile, record: Record, engine: Engine, stack: ExitStack, state: Path
) -> EnvironmentFile:
    """Build the job image here and push it to the site's registry; its names here go at the end."""
    if Arch.parse(file.arch) is not engine.arch or record.plan.images.job is None:
        raise SiteError(f"job images for {file.arch} can't be built here", why=f"this engine's is {engine.arch}")
    record.engine = engine
    logs = paths.make_directory(record.plan.options.folder(record.plan.cell)) / store.LOGS_FOLDER
    record.builder = Builder(engine, sources_of(record.plan.options), logs=logs)
    with console.step("the job image", phase="images", timings=record.timings):
        built = record.builder.ensure(record.plan.images.job)
    reference = f"{file.registry}/{_REPOSITORY}:{built.tag.rpartition(':')[2]}"
    stack.callback(engine.untag, f"{file.registry}/")
    with console.step("pushing the job image", phase="push", timings=record.timings):
        engine.tag(built.tag, reference)
        engine.push(reference)
    return replace(
        file,
        job_image=built.tag,
        job_reference=reference,
        engine_client=str(engine.build_client.link_into(state / "bin")),
        engine_environment=dict(engine.build_client.environment),
    )


def rehearsal(target: SiteTarget, suites: tuple[str, ...], options: Options) -> str:
    """Return what a run would do, of which nothing is done; pure."""
    images = (
        f"push images to {target.registry}" if target.registry else "copy an image, and pack it by mksquashfs in a job"
    )
    lines = (
        f"log in to {target.host} by your own ssh settings, again and again while tests run",
        "ask there: sinfo, scontrol show config, srun --help; and, by one job, uname, /etc/os-release, enroot version",
        f"make the folder ~/{target.folder(options.run)}; outside of it only jobs write: enroot's own folders, /tmp",
        images,
        f"run {', '.join(suites)}, up to four tests at a time (fewer: -- -n 1), each with a few short jobs",
        f"put in front of every command there: {'; '.join(target.prelude(options.run).splitlines())}",
        "cancel the run's jobs, and remove its containers and its folder",
    )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
