"""The environment of one cell: images, network, registry and cluster, started in order and taken down in reverse."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
import shutil
import time

from docker.errors import APIError
from requests.exceptions import RequestException

from ci import environment_file, paths
from ci.artefacts import sources
from ci.artefacts.sources import Fetched, Sources
from ci.engine.connection import LABEL_CELL, LABEL_RUN, Engine, explain, labels
from ci.environment import accounting, cluster, reaper, registry, ssh
from ci.environment.wait import NotYet, tolerating, wait_for
from ci.environment_file import EnvironmentFile, Login
from ci.errors import EngineError, LaunchError
from ci.images import plan, subject
from ci.images.building import Builder, Built, check_slurm, debian_mirror, wheel_context
from ci.images.checkout import check_open_to_jobs
from ci.images.plan import ContextFile
from ci.images.subject import Wheelhouse
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Subject
from ci.terminal import console, signals
from ci.terminal.console import Timings

_SSH_SECONDS = 30.0
ENVIRONMENT_FILE = "environment.json"
# Where the image `subject` puts it.
NODE_PYTHON = "/opt/subject/bin/python"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller wants of an environment, apart from its cell."""

    run: str
    suite: str
    results: Path
    """The suite's result folder: logs go below it."""
    nodes: int = 1
    registry_port: int = 0
    ssh_port: int = 0
    accounting: bool = False
    """Whether slurmdbd records jobs, so that sacct works."""
    gpus: int = 0
    """How many of the engine's GPUs every node has; several nodes share them."""
    password: str = ""
    user: str = cluster.USERS[0]
    ready_seconds: float = cluster.READY_SECONDS
    """How long each condition of "usable" may take to hold."""


@dataclass(frozen=True, kw_only=True)
class CellImages:
    """The images of a cell, made or found."""

    node: Built
    registry: Built | None
    job: Built | None
    accounting: Built | None
    artefacts: tuple[Fetched, ...]
    mounts: tuple[str, ...]
    """Folders of the host that the nodes need to see (a checkout)."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment that is usable."""

    file: EnvironmentFile
    path: Path
    """Where ``file`` is written."""
    state: Path
    cluster: cluster.Cluster
    images: CellImages
    ready: dict[str, float] = field(default_factory=dict)
    """Seconds until each condition of "usable" held, counted from the start of the first container."""


def state_dir(run: str, cell_id: str) -> Path:
    """Return the folder that holds an environment's keys for as long as it is up."""
    return paths.cache_dir() / "environments" / run / cell_id


def prepare(
    engine: Engine,
    builder: Builder,
    cell: Cell,
    *,
    what: Subject,
    checkout: Path | None,
    where: Sources,
    with_accounting: bool = False,
) -> CellImages:
    """Fetch the artefacts, make the wheelhouses and build the images of a cell."""
    if engine.arch is not cell.arch:
        raise EngineError(
            f"{cell.id} needs an engine of its own architecture",
            where=f"{engine.found.url} runs {engine.arch} code",
            why="starting a container needs a single-threaded process, and an emulated one never is",
            next_step=f"run it on a machine with {cell.arch} hardware; a distant engine's ports can't be reached",
        )
    mirror = debian_mirror()
    artefacts = tuple(sources.fetch(artefact, where) for artefact in sources.artefacts_for(cell))
    extra = tuple(
        ContextFile(source=it.path, target=f"artefacts/{it.artefact.name}", sha256=it.sha256) for it in artefacts
    )
    slurm_image = plan.slurm(cell.slurm.suite, cell.arch, mirror)
    builder.ensure(slurm_image)
    observed = builder.observe(slurm_image)
    check_slurm(observed, slurm_image, cell.slurm.version)
    house = _wheelhouse(what, checkout, observed.python, cell.arch)
    if house.checkout:
        check_open_to_jobs(house.checkout)
    mounts = (str(house.checkout),) if house.checkout else ()
    runtime_image = plan.runtime(cell, mirror, extra)
    node = builder.ensure(plan.node(cell, runtime_image, slurm_image, wheel_context(house, editable=True)))
    slurmdbd = builder.ensure(plan.accounting(slurm_image)) if with_accounting else None
    if cell.runtime is Runtime.LEGACY:
        return CellImages(node=node, registry=None, job=None, accounting=slurmdbd, artefacts=artefacts, mounts=mounts)
    in_images = _wheelhouse(what, checkout, plan.JOB_PYTHON, cell.arch)
    return CellImages(
        node=node,
        registry=builder.ensure(plan.registry(cell.arch, mirror)),
        job=builder.ensure(plan.job(cell.arch, mirror, wheel_context(in_images, editable=False))),
        accounting=slurmdbd,
        artefacts=artefacts,
        mounts=mounts,
    )


def _wheelhouse(what: Subject, checkout: Path | None, python: str, arch: Arch) -> Wheelhouse:
    if checkout:
        return subject.checkout_wheelhouse(checkout, what.constraints, python=python, arch=arch)
    return subject.wheelhouse([what.requirement], what.constraints, python=python, arch=arch)


@contextmanager
def launch(
    engine: Engine, cell: Cell, images: CellImages, options: Options, *, what: str, timings: Timings, keep: bool = False
) -> Iterator[Environment]:
    """Start a cell's environment, wait until it is usable, and take it down afterwards.

    With ``keep`` it stays up if it was usable and the block ended by itself; what fails or is interrupted is always
    taken down. Raises ``LaunchError`` and its kin; nothing is left behind then.
    """
    state = _claimed(options.run, cell)
    watched = reaper.watching(environment=engine.found.environment, run=options.run, cell_id=cell.id, state=state)
    with watched, ExitStack() as stack:
        done = False
        try:
            try:
                environment = _start(stack, engine, cell, images, options, what=what, state=state, timings=timings)
            except (APIError, RequestException) as error:
                raise explain(error, f"launching {cell.id}") from error
            yield environment
            done = True
        finally:
            if keep and done:
                stack.pop_all()
            else:
                with signals.shielded(), console.step("taking down", phase="teardown", timings=timings):
                    try:
                        stack.close()
                    finally:
                        engine.reap({LABEL_RUN: options.run, LABEL_CELL: cell.id})
                        forget(options.run, cell.id)


def _claimed(run: str, cell: Cell) -> Path:
    """Make the folder for an environment's keys; who finds it made must not touch what is somebody else's."""
    state = state_dir(run, cell.id)
    paths.make_directory(state.parent)
    try:
        state.mkdir(mode=0o700)
    except FileExistsError as error:
        raise LaunchError(
            f"an environment of {cell.id} is up already in run {run}",
            where=str(state),
            why="names and labels are made of run and cell, so there can be one at a time",
            next_step=f"python -m ci down {run} (after a crash: down --all), or another PYXIS_MATRIX_RUN",
        ) from error
    return state


def forget(run: str, cell_id: str) -> None:
    """Remove the keys of an environment that is down."""
    state = state_dir(run, cell_id)
    shutil.rmtree(state, ignore_errors=True)
    # The run's own folder goes with its last cell.
    if state.parent.is_dir() and not any(state.parent.iterdir()):
        state.parent.rmdir()


def forget_all() -> None:
    """Remove the keys of all environments."""
    shutil.rmtree(paths.cache_dir() / "environments", ignore_errors=True)


def _start(
    stack: ExitStack,
    engine: Engine,
    cell: Cell,
    images: CellImages,
    options: Options,
    *,
    what: str,
    state: Path,
    timings: Timings,
) -> Environment:
    """Start everything, each on ``stack``, and wait until it is usable."""
    started = time.monotonic()
    names = plan.names(options.run, cell, options.nodes)
    keys = cluster.Secrets(
        munge_key=cluster.new_munge_key(),
        host_key=ssh.new_key("host"),
        user_key=ssh.new_key("user"),
        password=options.password,
    )
    served: registry.Registry | None = None
    pushed: registry.Pushed | None = None
    with console.step(f"launching {cell.id}", phase="launch", timings=timings):
        _network(stack, engine, cell, options, names.network)
        if images.registry and images.job:
            served = registry.start(
                stack,
                engine,
                image=images.registry.tag,
                names=names,
                run_id=options.run,
                cell_id=cell.id,
                port=options.registry_port,
            )
            stack.callback(engine.untag, f"{served.address}/")
        if images.accounting:
            database = accounting.start(
                stack,
                engine,
                image=images.accounting.tag,
                names=names,
                run_id=options.run,
                cell_id=cell.id,
                munge_key=keys.munge_key,
                slurm_conf=cluster.configuration(cell, names, accounting=True)["/etc/slurm/slurm.conf"],
            )
            stack.callback(_save_logs, lambda: accounting.logs(engine, database), options.results / "logs")
        nodes = cluster.start(
            stack,
            engine,
            cell=cell,
            image=images.node.tag,
            names=names,
            run_id=options.run,
            keys=keys,
            registry_port=served.port if served else None,
            ssh_port=options.ssh_port,
            mounts=images.mounts,
            accounting=images.accounting is not None,
            gpus=options.gpus,
        )
        stack.callback(_save_logs, lambda: _logs(engine, nodes, served), options.results / "logs")
    login = _login(engine, nodes, keys, options, state)
    ready = _wait_usable(engine, nodes, served, login, cell=cell, timings=timings, started=started, options=options)
    if served and images.job:
        with console.step("pushing the job image", phase="push", timings=timings):
            pushed = registry.push(engine, served, tag=images.job.tag, repository="pyxis-matrix/job")
        _warn_about(pushed)
    file = EnvironmentFile(
        run=options.run,
        cell=cell.id,
        suite=options.suite,
        runtime=cell.runtime.value,
        arch=cell.arch.value,
        slurm=cell.slurm.version,
        enroot=str(cell.enroot) if cell.enroot else None,
        pyxis=str(cell.pyxis) if cell.pyxis else None,
        nodes=names.hostnames,
        containers=names.nodes,
        login=login,
        second_user=cluster.USERS[1],
        registry=served.address if served else None,
        accounting=images.accounting is not None,
        gpus=options.gpus,
        job_image=images.job.tag if images.job else None,
        job_reference=pushed.reference if pushed else None,
        subject=what,
        subject_python=NODE_PYTHON,
        engine_client=str(_client_alone_on_path(engine, state)),
        engine_environment=dict(engine.build_client.environment),
        observed=cluster.observe(engine, nodes, cell),
        artefacts={it.artefact.path: str(it.path) for it in images.artefacts},
        results=str(options.results),
    )
    environment_file.save(state / ENVIRONMENT_FILE, file)
    return Environment(file=file, path=state / ENVIRONMENT_FILE, state=state, cluster=nodes, images=images, ready=ready)


def _network(stack: ExitStack, engine: Engine, cell: Cell, options: Options, name: str) -> None:
    try:
        # Made and on the stack, or neither: the engine goes on making what an interrupted request asked for.
        with signals.shielded():
            stack.callback(engine.remove_network, name)
            engine.api.networks.create(name, driver="bridge", labels=labels(options.run, cell.id, "network"))
    except (APIError, RequestException) as error:
        raise explain(error, f"making the network {name}") from error


def _login(engine: Engine, nodes: cluster.Cluster, keys: cluster.Secrets, options: Options, state: Path) -> Login:
    port = cluster.wait_for_port(engine, nodes)
    home = state / "home"
    ssh.write_home(home, user_key=keys.user_key, host_key=keys.host_key, port=port)
    return Login(
        host="127.0.0.1",
        port=port,
        user=options.user,
        password=keys.password,
        private_key=str(home / ".ssh" / "id_ed25519"),
        known_hosts=str(home / ".ssh" / "known_hosts"),
        home=str(home),
    )


def _wait_usable(
    engine: Engine,
    nodes: cluster.Cluster,
    served: registry.Registry | None,
    login: Login,
    *,
    cell: Cell,
    timings: Timings,
    started: float,
    options: Options,
) -> dict[str, float]:
    """Wait for every condition of "usable" in turn; return the seconds since the start at which each held."""
    ready: dict[str, float] = {}
    plugin = cell.runtime is not Runtime.LEGACY
    with console.step("waiting until usable", phase="ready", timings=timings) as step:
        wanted = cluster.checks(
            nodes,
            registry_port=served.port if served else None,
            plugin=plugin,
            accounting=options.accounting,
        )
        for check in wanted:
            cluster.wait_for_check(engine, check, options.ready_seconds)
            ready[check.name] = round(time.monotonic() - started, 3)
        wait_for(
            "login over SSH",
            tolerating(lambda: _entered(login), LaunchError),
            limit=min(_SSH_SECONDS, options.ready_seconds),
            watched=cluster.watched(
                engine,
                nodes.login,
                "sshd.log says why; the key was made for this run and stands in /etc/ssh/authorized_keys.d",
            ),
        )
        ready["sshd"] = round(time.monotonic() - started, 3)
        step.note = f"usable {ready['sshd']:.1f} s after the first container's start"
    return ready


def _entered(login: Login) -> bool | NotYet:
    with ssh.connect(login) as connection:
        answer = connection.run("true", limit=10)
    return True if answer.status == 0 else NotYet(str(answer))


def _warn_about(pushed: registry.Pushed) -> None:
    """Say so when this engine pushes a format that enroot can't ask a self-hosted registry for."""
    if pushed.media_type != registry.V2S2:
        console.warn(
            f"this engine pushed {pushed.reference} as {pushed.media_type}; real enroot gets 404 for that from a "
            "self-hosted registry (NVIDIA/enroot PR 273). Turn the engine's containerd image store off."
        )


def _client_alone_on_path(engine: Engine, state: Path) -> Path:
    """Give the client that can build a folder of its own, to be put first on PATH for whoever calls ``docker``."""
    folder = state / "bin"
    folder.mkdir(exist_ok=True)
    client = folder / engine.build_client.kind
    client.unlink(missing_ok=True)
    client.symlink_to(engine.build_client.path)
    return client


def _logs(engine: Engine, nodes: cluster.Cluster, served: registry.Registry | None) -> dict[str, str]:
    logs = cluster.collect_logs(engine, nodes)
    if served:
        logs["registry.log"] = engine.log_tail(served.container, lines=5000)
    return logs


def _save_logs(gather: Callable[[], dict[str, str]], folder: Path) -> None:
    """Keep what the daemons wrote; that it can't be had must not hide why it is wanted."""
    try:
        logs = gather()
        paths.make_directory(folder)
        for name, text in logs.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (APIError, RequestException, OSError) as error:
        console.warn(f"the daemons' logs could not be kept: {error}")
