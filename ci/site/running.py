"""Suites on a cluster that exists: its environment is a folder there, and what describes it here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
import secrets
import shutil

from filelock import FileLock, Timeout

from ci import environment_file, paths
from ci.artefacts import checkout
from ci.engine import labels
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
from ci.session.running import EnvironmentContext, withdraw
from ci.site import registry
from ci.site.cleaning import claim, clean, note
from ci.site.observing import SiteFacts, observe
from ci.site.target import SiteTarget
from ci.terminal import console, signals

_REPOSITORY = "pyxis-matrix-site/job"
_OWNER = "owner"
"""What a run's folder there says whose it is; in its folder here."""
_ADDRESS = "address"
"""Which cluster a name is for; beside the folders of runs."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster that was reached and told what it is, with its folder made."""

    target: SiteTarget
    seen: SiteFacts
    login: Login
    state: Path
    """The folder here with what is known of it; it is there as long as something may be left there."""
    https: bool = False
    """Whether its registry speaks https."""
    taking_down: ExitStack = field(default_factory=ExitStack)
    """Its end removes all that the run made there."""


@contextmanager
def reached(target: SiteTarget, options: Options, suites: Sequence[str]) -> Iterator[Site]:
    """Log in, clean up what killed runs from here left, ask for versions; at the end, remove all that the run made.

    What an earlier attempt of the run left of the suites is no result any more, before anything is asked.

    :raises SelectionError: if the run is in progress there, from here or from another machine.
    :raises SiteError: if the cluster can't be asked. :raises TeardownError: if something is left there.
    """
    run = options.run
    login = replace(target.login, prelude=target.prelude(run))
    states = _states(target)
    with _alone(states, run), ExitStack() as taking_down:
        for name in suites:
            # A site's results are in `…@NAME`; what stands before the @ is known only when it was asked.
            for folder in (options.results / run).glob(f"*@{target.name}/{name}"):
                withdraw(folder)
        # Before anything is made there: all tests would fail for it.
        https = bool(target.registry and registry.reached(target.registry).ca_bundle)
        with ssh.connect(login) as connection:
            # After the login, so that an address which does not exist takes no name.
            (states / _ADDRESS).write_text(target.address, encoding="utf-8")
            _clean_up(connection, states, run)
            state = paths.make_directory(states / run)
            owner = f"{secrets.token_hex(8)} {labels.owner()}, {store.utc_now():%Y-%m-%d %H:%M:%S} UTC"
            # Written here before anything is made there: killed in between, the next run from here still cleans up.
            (state / _OWNER).write_text(owner, encoding="utf-8")
            # By `push` and not `callback`, because it has to know whether there is an error already.
            taking_down.push(partial(_taken_down, login, state))
            try:
                claim(connection, target, run, owner)
            except SelectionError:  # it is another session's: nothing was made
                taking_down.pop_all()
                _forget(state)
                raise
            seen = observe(connection, target, run)
            note(connection, run, seen.nodes, seen.enroot_data)
        # Until here ~/.ssh/config may have named the user; suites need the name.
        login = replace(login, user=seen.user)
        yield Site(target=target, seen=seen, login=login, state=state, https=https, taking_down=taking_down)


def take_down(target: SiteTarget, run: str) -> None:
    """Remove what a run left on the cluster, whoever began it.

    :raises SelectionError: if it is in progress from here. :raises TeardownError: if something is left.
    """
    states = _states(target)
    with _alone(states, run), ssh.connect(replace(target.login, prelude=target.prelude(run))) as connection:
        if left := clean(connection, run):
            raise _left_there(run, left)
        _forget(states / run)


def _states(target: SiteTarget) -> Path:
    """Return the folder here with what is known of runs on a cluster; by its name, as the ids of results.

    :raises SelectionError: if the name is that of another one.
    """
    states = paths.cache_dir() / "sites" / target.name
    address = states / _ADDRESS
    if address.is_file() and address.read_text(encoding="utf-8") != target.address:
        raise SelectionError(
            f"{target.name} is the name of another cluster, or of another login",
            where=str(target.path or states),
            why="results of both would have one id; and what runs leave there is removed by this name",
            next_step=f"give it another name; if it is the same cluster at a new address: rm -r {states}",
        )
    return paths.make_directory(states)


@contextmanager
def _alone(states: Path, run: str) -> Iterator[None]:
    """Have a run to oneself on this machine."""
    try:
        with FileLock(_lock(states, run), timeout=0):
            try:
                yield
            finally:
                if not (states / run).exists():
                    _lock(states, run).unlink(missing_ok=True)
    except Timeout as error:
        raise SelectionError(f"run {run} is already in progress on this cluster", where=str(states)) from error


def _clean_up(connection: ssh.Connection, states: Path, run: str) -> None:
    """Remove what runs left that were begun here and are dead: nobody holds their lock; and an earlier `run`'s own."""
    for state in sorted(folder for folder in states.glob("*") if folder.is_dir()):
        # The kernel frees a lock when its process ends, even by kill -9. This run's own is held already (`_alone`).
        with suppress(Timeout), nullcontext() if state.name == run else FileLock(_lock(states, state.name), timeout=0):
            console.say(f"removing what the run {state.name} left there")
            try:
                _removed(connection, state)
            except TeardownError as problem:
                if state.name == run:
                    raise
                console.warn(str(problem))


def _lock(states: Path, run: str) -> Path:
    return states / f"{run}.lock"


def _taken_down(login: Login, state: Path, _kind: object, error: BaseException | None, _trace: object) -> None:
    """Remove all that a run made, over a connection of its own: the first one may be broken.

    :raises TeardownError: if something is left, and there is no error before.
    """
    with signals.shielded(), console.step("removing what was made on the cluster"):
        problem = _problem(login, state)
    if problem and not error:
        raise problem
    if problem:
        console.warn(str(problem))


def _problem(login: Login, state: Path) -> TeardownError | None:
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
    """Remove what a run made that was begun here. Without an owner it had not come to make anything."""
    owner = (state / _OWNER).read_text(encoding="utf-8") if (state / _OWNER).is_file() else ""
    if left := clean(connection, state.name, owner) if owner else "":
        raise _left_there(state.name, left)
    _forget(state)


def _left_there(run: str, left: str) -> TeardownError:
    return TeardownError(
        f"not all that the run {run} made on the cluster could be removed",
        where=left,
        next_step=f"remove it by hand, or try again: --down {run}",
    )


def _forget(state: Path) -> None:
    shutil.rmtree(state, ignore_errors=True)
    _lock(state.parent, state.name).unlink(missing_ok=True)


def plan_site(site: Site, rows: Matrix, options: Options) -> EnvironmentPlan:
    """Plan the one image that may be built for it: that of jobs, which is the same for all cells."""
    cell = site.seen.cell
    any_cell = Cell(slurm=SlurmVersion(version="22.05"), os=job_os(), runtime=Runtime.EMBEDDED, arch=cell.arch)
    settled = replace(options, nodes=len(site.seen.nodes))
    return EnvironmentPlan(
        cell=cell,
        given=options,
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


def environment_of(site: Site, connect: Callable[[], Engine] | None) -> EnvironmentContext:
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
        # What slurm-sdk has settings for; a target's other words are `beyond_the_sdk`.
        jobs={name: value for name in ("partition", "account") if (value := getattr(target, name))},
        beyond_the_sdk=target.beyond_the_sdk,
    )
    # Here, and not behind it: so what is left there is told of a suite.
    with site.taking_down, ExitStack() as stack:
        if connect and target.registry:
            file = _with_job_image(file, record, connect(), stack, site)
        path = site.state / launching.ENVIRONMENT_FILE
        environment_file.save(path, file)
        launched = Environment(
            plan=record.plan,
            file=file,
            path=path,
            # Nothing here is entered by an engine: all goes over SSH.
            cluster=cluster.Cluster(nodes=()),
            check=partial(_answers, site.login),
        )
        record.environment = launched
        yield launched


def _with_job_image(
    file: EnvironmentFile, record: Record, engine: Engine, stack: ExitStack, site: Site
) -> EnvironmentFile:
    """Build the job image here and push it to the site's registry; its names here go at the end."""
    if Arch.parse(file.arch) is not engine.arch or record.plan.images.job is None:
        raise SiteError(f"job images for {file.arch} can't be built here", why=f"this engine's is {engine.arch}")
    if site.https and engine.found.kind == "podman":
        why = "slurm-sdk's tests have Podman push without a look at the certificate: anybody could get the password"
        raise SiteError(f"job images are not pushed to {file.registry} by Podman", why=why, next_step="use Docker")
    record.engine = engine
    logs = paths.make_directory(record.plan.options.folder(record.plan.cell)) / store.LOGS_FOLDER
    record.builder = Builder(engine, sources_of(record.plan.options), logs=logs)
    with console.step("the job image", phase="images", timings=record.timings):
        built = record.builder.ensure(record.plan.images.job)
    reference = f"{file.registry}/{_REPOSITORY}:{built.tag.rpartition(':')[2]}"
    # The user's own images of that registry stay: only names that are given from here on are taken away.
    stack.callback(engine.untag, f"{file.registry}/", engine.names_below(f"{file.registry}/"))
    with console.step("pushing the job image", phase="push", timings=record.timings):
        engine.tag(built.tag, reference)
        engine.push(reference)
    return replace(
        file,
        job_image=built.tag,
        job_reference=reference,
        engine_client=str(engine.build_client.link_into(site.state / "bin")),
        engine_environment=dict(engine.build_client.environment),
    )


def rehearsal(target: SiteTarget, suites: tuple[str, ...], options: Options) -> str:
    """Return what a run would do, of which nothing is done; pure."""
    images = (
        f"push images to {target.registry}" if target.registry else "copy an image, and pack it by mksquashfs in a job"
    )
    lines = (
        f"log in to {target.host} by your own ssh settings, again and again while tests run",
        f"make the folder ~/{target.folder(options.run)}; outside of it only jobs write: enroot's own folders, /tmp",
        "ask there: sinfo, scontrol show config, srun --help (for --redact also hostname, id, sacctmgr)",
        "ask by a job on each of one or two nodes for all versions",
        "ask by a job on each of up to eight nodes whether Pyxis is loaded there",
        images,
        f"run {', '.join(suites)}, up to four tests at a time (fewer: -- -n 1), each with a few short jobs",
        f"put in front of every command there: {'; '.join(target.prelude(options.run).splitlines())}",
        "cancel the run's jobs, end processes that work in its folder, and remove that and its containers",
    )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
