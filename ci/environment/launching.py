"""Launching a planned environment whose images are built: start in order, wait until usable, take down in reverse."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
import secrets
import time

from ci import environment_file, paths
from ci.engine.connection import Engine
from ci.engine.labels import LABEL_CELL, LABEL_RUN, LABEL_SESSION, owner
from ci.engine.refusals import asking
from ci.environment import accounting, base_images, cluster, reaper, registry, ssh, usable, users
from ci.environment.describing import Started, describe
from ci.environment.plan import EnvironmentPlan
from ci.environment.registry_client import V2S2
from ci.environment.service import Place
from ci.environment_file import EnvironmentFile, Login
from ci.errors import LaunchError, PyxisMatrixError, TeardownError, typed
from ci.images.building import BuiltCell
from ci.matrix.cells import Cell, Runtime
from ci.options.values import password_in
from ci.terminal import console, signals
from ci.terminal.console import Timings
from ci.terminal.quantities import count

ENVIRONMENT_FILE = "environment.json"
_LOGS_FOLDER = "logs"
# The job image's repository in the registry.
_JOB_REPOSITORY = "pyxis-matrix/job"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment that is usable."""

    plan: EnvironmentPlan
    file: EnvironmentFile
    path: Path
    """The path of ``file``."""
    cluster: cluster.Cluster
    ready: dict[str, float] = field(default_factory=dict)
    """Seconds until each condition of "usable" held, counted from the start of the first container."""
    check: Callable[[], object] = lambda: None
    """Raises ``LaunchError`` if the environment is no longer usable."""
    verify: Callable[[], None] = lambda: None
    """Raises ``RegistryChangedError`` if the job image in the registry is not the one that was pushed."""
    save_logs: Callable[[Path], None] = lambda _folder: None
    """Saves what the daemons have written so far into a folder."""

    def handed_to(self, plan: EnvironmentPlan) -> "Environment":
        """Return this environment for the next suite, and write that suite and its results into the file.

        :param plan: as before, with another suite's name.
        """
        file = replace(self.file, suite=plan.options.name, results=str(plan.options.folder(plan.cell)))
        environment_file.save(self.path, file)
        return replace(self, plan=plan, file=file)


def state_dir(run: str, cell_id: str) -> Path:
    """Return the folder with an environment's keys; it exists as long as the environment is up."""
    return _states() / run / cell_id


def runs() -> list[str]:
    """Return the ids of the runs that have folders with keys."""
    return sorted(folder.name for folder in _states().iterdir()) if _states().is_dir() else []


def state_dirs(run: str, cell_id: str = "") -> list[Path]:
    """Return a run's folders with keys: of one cell, or of all. In a shared cache, others' may be unreadable."""
    folder = _states() / run
    found = sorted(folder.iterdir()) if folder.is_dir() and os.access(folder, os.R_OK) else []
    return [state for state in found if cell_id in {"", state.name}]


def is_own(state: Path) -> bool:
    """Tell whether a folder with keys belongs to this user and machine; several machines can share a home and cache."""
    if not os.access(state, os.R_OK | os.X_OK):
        return False
    try:
        return environment_file.load(state / ENVIRONMENT_FILE).owner in {"", owner()}
    except LaunchError:  # the session was killed before it wrote the file
        return True


def _states() -> Path:
    return paths.cache_dir() / "environments"


@contextmanager
def launch(
    engine: Engine,
    plan: EnvironmentPlan,
    images: BuiltCell,
    *,
    timings: Timings,
) -> Iterator[Environment]:
    """Start a planned environment, wait until it is usable, and take it down afterwards.

    With the option ``keep`` it stays up if the block ended without an exception; after a failure or an interruption it
    is always taken down. Raises ``LaunchError`` or a subclass, ``EngineError`` or ``DiskFullError``; then nothing is
    left, or a warning says what. Raises ``TeardownError`` where the block ended well, and something is left.
    """
    run, cell = plan.options.run, plan.cell
    state = _claimed(engine, run, cell)
    session = secrets.token_hex(8)
    with reaper.watching(environment=engine.found.environment, session=session, state=state), ExitStack() as stack:
        place = Place(engine=engine, stack=stack, run=run, cell=cell.id, network=plan.names.network, session=session)
        # First on the stack, so the last to be called: it removes objects that no other callback knows, because the
        # engine made them and its answer never arrived.
        stack.callback(engine.reap, {LABEL_SESSION: session})
        done = False
        try:
            with asking(f"launching {cell.id}"):
                launched = _launch(place, plan, images, state, timings)
            yield launched
            done = True
        finally:
            if plan.options.keep and done:
                # Forgotten, not called: `down` finds all of it by its labels. The reaper is told "done" all the same.
                stack.pop_all()
            else:
                with signals.shielded(), console.step("taking down", phase="teardown", timings=timings):
                    problem = _taken_down(place, plan)
                if problem and done:
                    raise problem
                if problem:
                    console.warn(str(problem))


def _taken_down(place: Place, plan: EnvironmentPlan) -> TeardownError | None:
    """Take an environment down; then ask the engine whether anything is left, and return the error for that."""
    run, cell = place.run, plan.cell
    next_step = typed(f"down {run}")
    try:
        try:
            with asking(f"taking down {cell.id}"):
                place.stack.close()
        except PyxisMatrixError as error:
            console.warn(str(error))
        still = place.left()
    except PyxisMatrixError as error:
        # The keys are kept: `down` needs them to know whose environment this is.
        return TeardownError(
            f"{cell.id} was not taken down: the engine does not answer",
            where=f"containers, network and volumes whose names begin with {plan.names.prefix}",
            why=error.why,
            next_step=f"when the engine answers again: {next_step}",
        )
    if still:
        return left_of(run, still)
    forget(run, cell.id)
    return None


def left_of(run: str, names: Sequence[str]) -> TeardownError:
    """Return the error for objects of a run that could not be removed."""
    return TeardownError(
        f"{count(len(names), 'object')} of the run {run} could not be removed",
        where=", ".join(names),
        why="the engine refused; its messages are shown above",
        next_step=f"repair the engine (often: restart it), then: {typed(f'down {run}')}",
    )


def _claimed(engine: Engine, run: str, cell: Cell) -> Path:
    """Make the folder for an environment's keys.

    If the folder exists, the environment belongs to another session. If the engine has objects of this run and cell,
    too: that session may have another home, and so another folder for keys.
    """
    state = state_dir(run, cell.id)
    of_others = engine.left({LABEL_RUN: run, LABEL_CELL: cell.id})
    if not of_others:
        paths.make_directory(state.parent)
        try:
            # Of two sessions that come here at once, mkdir tells one that the folder exists.
            # With parents: another cell of the run may have ended meanwhile, and removed the run's empty folder.
            state.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            of_others = [str(state)]
    if of_others:
        raise LaunchError(
            f"an environment of {cell.id} is already up in run {run}",
            where=", ".join(of_others),
            why="there can be only one per run and cell, because names and labels are made from these two",
            next_step=f"{typed(f'down {run}')}, if it is yours to take down; or another PYXIS_MATRIX_RUN",
        )
    return state


def forget(run: str, cell_id: str) -> None:
    """Remove the keys of an environment that is down."""
    reaper.remove(state_dir(run, cell_id))


def forget_all() -> None:
    """Remove the keys of all environments of this user and machine."""
    for run in runs():
        for state in filter(is_own, state_dirs(run)):
            forget(run, state.name)


def _launch(place: Place, plan: EnvironmentPlan, images: BuiltCell, state: Path, timings: Timings) -> Environment:
    """Start everything, wait until it is usable, and write the environment's file."""
    engine, cell = place.engine, plan.cell
    with console.step(f"launching {cell.id}", phase="launch", timings=timings):
        started = _start(place, plan, images, state)
    with console.step("waiting until usable", phase="ready", timings=timings) as step:
        wanted = usable.checks(
            started.cluster,
            user=started.login.user,
            registry_port=started.registry.port if started.registry else None,
            plugin=cell.runtime is not Runtime.LEGACY,
            accounting=images.accounting is not None,
        )
        ready = usable.wait_until_usable(engine, wanted, started.login, started=started.at)
        step.note = f"usable {ready['sshd']:.1f} s after the first container's start"
    started = replace(started, observed=cluster.observe(engine, started.cluster, cell))
    # Before the push, which takes seconds: nothing that follows would be a result of this cell.
    cluster.check_versions(cell, started.observed, image=images.node.tag)
    pushed: registry.Pushed | None = None
    if started.registry and images.job:
        with console.step("pushing the job image", phase="push", timings=timings):
            pushed = registry.push(engine, started.registry, tag=images.job.tag, repository=_JOB_REPOSITORY)
            if not engine.image_exists(filled := _filled_registry(images)):
                registry.keep_filled(engine, started.registry, filled)
        _warn_about(pushed)
    file = describe(place, plan, images, started, pushed, state)
    path = state / ENVIRONMENT_FILE
    environment_file.save(path, file)
    return Environment(
        plan=plan,
        file=file,
        path=path,
        cluster=started.cluster,
        ready=ready,
        check=lambda: usable.wait_until_usable(engine, wanted, started.login, started=time.monotonic()),
        verify=lambda: registry.check_unchanged(pushed) if pushed else None,
        save_logs=lambda folder: save_logs(lambda: _logs(engine, started.cluster, started.registry), folder),
    )


def _start(place: Place, plan: EnvironmentPlan, images: BuiltCell, state: Path) -> Started:
    """Start network, registry, accounting and nodes; each needs the ones before it."""
    engine, options = place.engine, plan.options
    logs = options.folder(plan.cell) / _LOGS_FOLDER
    # Names that the user chose are refused, if they are taken, before anything is started.
    users.check(place, images.node.tag, options)
    base_images.check(engine, options.base_image)
    at = time.monotonic()
    chosen = password_in(options.password_file) if options.password_file else ""
    keys = cluster.Secrets.new(password=options.plain, chosen=chosen)
    served: registry.Registry | None = None
    place.create_network()
    if images.registry:
        filled = _filled_registry(images)
        wanted = registry.planned(
            filled if engine.image_exists(filled) else images.registry.tag,
            plan.names.registry,
            hostname=plan.names.registry_hostname,
            port=options.registry_port,
            second_name=options.registry_name,
        )
        served = registry.start(place, wanted)
        # Suites may push by either name.
        for host in {"localhost", options.registry_name or "localhost"}:
            place.untag_with(f"{host}:{served.port}")
    if images.job:
        base_images.name_job_image(place, images.job.tag, options.base_image, images.base_wheels)
    if images.accounting:
        database = accounting.start(place, plan, image=images.accounting.tag, munge_key=keys.munge_key)
        # On the stack above the container, so called before it is removed.
        place.stack.callback(save_logs, lambda: {"slurmdbd.log": engine.log_tail(database, lines=2000)}, logs)
    nodes = cluster.start(place, plan, image=images.node.tag, keys=keys, registry_port=served.port if served else None)
    place.stack.callback(save_logs, lambda: _logs(engine, nodes, served), logs)
    login = _login(usable.wait_for_port(engine, nodes), users.job_user(options), keys, state)
    if images.node_wheels:
        cluster.put_wheels(engine, nodes, images.node_wheels, images.observed.python)
    return Started(cluster=nodes, registry=served, login=login, at=at)


def _filled_registry(images: BuiltCell) -> str:
    """Return the name for an image of the registry that already has the job image in it."""
    if images.registry is None or images.job is None:
        raise LookupError("a cell with a registry has a job image")
    return registry.filled_name(images.registry.identity, images.job.identity)


def _login(port: int, user: str, keys: cluster.Secrets, state: Path) -> Login:
    home = state / "home"
    ssh.write_home(home, user_key=keys.user_key, host_key=keys.host_key, port=port)
    return Login(
        host="127.0.0.1",
        port=port,
        user=user,
        password=keys.password,
        private_key=str(home / ".ssh" / "id_ed25519"),
        known_hosts=str(home / ".ssh" / "known_hosts"),
        home=str(home),
    )


def _warn_about(pushed: registry.Pushed) -> None:
    """Warn if this engine pushed an image in a format that real enroot can't pull from a self-hosted registry."""
    if pushed.media_type != V2S2:
        console.warn(
            f"this engine pushed {pushed.reference} as {pushed.media_type}; real enroot gets 404 for that from a "
            "self-hosted registry (NVIDIA/enroot PR 273). Turn the engine's containerd image store off."
        )


def _logs(engine: Engine, nodes: cluster.Cluster, served: registry.Registry | None) -> dict[str, str]:
    logs = cluster.collect_logs(engine, nodes)
    if served:
        # Its access log has a line for each request of each pull.
        logs["registry.log"] = engine.log_tail(served.container, lines=5000)
    return logs


def save_logs(gather: Callable[[], dict[str, str]], folder: Path) -> None:
    """Save the daemons' logs; if that fails, only warn, so that the original error is not hidden."""
    try:
        logs = gather()
        paths.make_directory(folder)
        for name, text in logs.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (PyxisMatrixError, OSError) as error:
        console.warn(f"saving the daemons' logs failed: {error}")
