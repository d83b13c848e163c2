"""The Slurm cluster of an environment: a network, a shared home, and nodes that become usable or say why not."""

from contextlib import ExitStack
from dataclasses import dataclass
import secrets
from typing import TYPE_CHECKING, Any

from docker.errors import APIError
from docker.types import DeviceRequest, Mount
import jinja2
from packaging.version import Version
from requests.exceptions import RequestException

from ci import paths
from ci.engine.connection import Answer, Engine, InsideFile, labels
from ci.environment.registry import start_error
from ci.environment.ssh import KeyPair
from ci.environment.wait import NotYet, Watched, tolerating, wait_for
from ci.errors import EngineError, LaunchError
from ci.images import plan
from ci.matrix.cells import Cell, Runtime
from ci.terminal import signals

if TYPE_CHECKING:
    from docker.models.containers import Container

USERS = ("tester", "tester2")

# More than any machine it will run on needs: config_overrides lets Slurm count CPUs that are not there, so that a dozen
# tests of a suite can have jobs running at the same time.
CPUS_PER_NODE = 8
MEMORY_MB_PER_NODE = 4096

# What a node needs beyond the engine's defaults; measured, and far from --privileged.
#   enroot          mounts, user namespaces, FUSE, and a /proc without masked parts
#   slurmd >= 24.11 a namespace of its own in which it reads the user's environment (`sbatch --export=ALL,NAME=VALUE`)
_CAPABILITIES = ["SYS_ADMIN"]
_SECURITY_OPTIONS = ["seccomp=unconfined", "apparmor=unconfined"]
_DEVICES = ["/dev/fuse"]
_SLURMD_MAKES_NAMESPACES = Version("24.11")
# What Docker answers where nothing serves a request for a GPU.
_NO_GPU = "could not select device driver"

READY_SECONDS = 60.0
# One answer of a check; a daemon that hangs must not hold the wait beyond its limit.
_ANSWER_SECONDS = 10
_DAEMON_LOGS = (
    "/var/log/slurm/slurmctld.log",
    "/var/log/slurm/slurmd.log",
    "/var/log/munge/munged.log",
    "/var/log/sshd.log",
)


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Keys made for one run."""

    munge_key: bytes
    host_key: KeyPair
    user_key: KeyPair
    password: str = ""
    """The job users' password; empty: no login by password."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One Slurm node."""

    hostname: str
    container: "Container"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A started cluster; the first node is controller and login node."""

    nodes: tuple[Node, ...]

    @property
    def login(self) -> Node:
        """The node that users enter."""
        return self.nodes[0]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition of "usable": a command on a node that succeeds when it holds."""

    name: str
    node: Node
    command: str
    hint: str
    user: str = "root"
    credential_of: Node | None = None
    """A node whose fresh munge credential the command finds in ``$CREDENTIAL``."""


def new_munge_key() -> bytes:
    """Make a munge key of the usual length."""
    return secrets.token_bytes(128)


def start(
    stack: ExitStack,
    engine: Engine,
    *,
    cell: Cell,
    image: str,
    names: plan.Names,
    run_id: str,
    keys: Secrets,
    registry_port: int | None,
    ssh_port: int = 0,
    mounts: tuple[str, ...] = (),
    accounting: bool = False,
    gpus: int = 0,
) -> Cluster:
    """Start the nodes, which ``stack`` removes; they are started then, not yet usable (see ``checks``).

    ``mounts`` are folders of the engine's host that every node sees read-only under the same path.
    """
    containers = cell.runtime is not Runtime.LEGACY
    volumes = [names.home_volume, *(names.data_volumes if containers else ())]
    for volume in volumes:
        # Made and on the stack, or neither: the engine goes on making what an interrupted request asked for.
        with signals.shielded():
            stack.callback(engine.remove_volume, volume)
            engine.api.volumes.create(volume, labels=labels(run_id, cell.id, "volume"))
    nodes = []
    for index, hostname in enumerate(names.hostnames):
        role = "controller" if index == 0 else "compute"
        environment = {"NODE_ROLE": role, "NODE_NAME": hostname, "JOB_PASSWORD": keys.password}
        if registry_port is not None:
            environment["REGISTRY_PORT"] = str(registry_port)
        binds = [Mount("/home", names.home_volume)]
        if containers:
            binds.append(Mount(plan.ENROOT_DATA, names.data_volumes[index]))
        binds += [Mount(folder, folder, type="bind", read_only=True) for folder in mounts]
        try:
            with signals.shielded():
                container = _create(
                    engine,
                    image,
                    name=names.nodes[index],
                    hostname=hostname,
                    network=names.network,
                    labels=labels(run_id, cell.id, role),
                    environment=environment,
                    mounts=binds,
                    ports={f"{plan.SSH_PORT}/tcp": ("127.0.0.1", ssh_port)} if index == 0 else {},
                    containers=containers,
                    admin=containers or cell.slurm.parsed >= _SLURMD_MAKES_NAMESPACES,
                    gpus=gpus,
                )
                stack.callback(engine.remove, container)
            engine.put(container, _files(cell, names, keys, hostname, accounting=accounting, gpus=gpus))
            container.start()
        except (APIError, RequestException) as error:
            if _NO_GPU in str(error):
                raise _no_gpu(hostname, error) from error
            raise start_error(error, f"starting node {hostname}", ssh_port) from error
        nodes.append(Node(hostname=hostname, container=container))
    return Cluster(nodes=tuple(nodes))


def checks(cluster: Cluster, *, registry_port: int | None, plugin: bool, accounting: bool = False) -> tuple[Check, ...]:
    """Return what has to hold before a job is submitted, in the order in which one depends on the other."""
    first = cluster.login
    count = len(cluster.nodes)
    wanted = [
        Check(
            name="munge",
            node=node,
            command="munge -n | unmunge",
            hint="munged refuses keys of the wrong owner or mode",
        )
        for node in cluster.nodes
    ]
    wanted += [
        Check(
            name=f"munge credential of {first.hostname}",
            node=node,
            command='echo "$CREDENTIAL" | unmunge',
            credential_of=first,
            hint="all nodes need the same munge key, and clocks that agree",
        )
        for node in cluster.nodes[1:]
    ]
    wanted.append(
        Check(
            name="controller",
            node=first,
            command="scontrol ping | grep -q UP",
            hint="slurmctld.log names the setting that this Slurm does not accept",
        )
    )
    wanted.append(
        Check(
            name="nodes idle",
            node=first,
            command=(
                f'test "$(sinfo --noheader --Node --format %T | sort -u)" = idle && '
                f'test "$(sinfo --noheader --Node --format %N | sort -u | wc -l)" = {count} || '
                "{ sinfo --Node --long; sinfo --list-reasons; exit 1; }"
            ),
            hint="a node whose RealMemory or name does not fit is drained; the reason stands above",
        )
    )
    if registry_port is not None:
        wanted += [
            Check(
                name="registry from node",
                node=node,
                command=f"curl --silent --show-error --fail --noproxy '*' http://localhost:{registry_port}/v2/",
                hint="the node's forwarder leads to the registry's container; is that still running?",
            )
            for node in cluster.nodes
        ]
    if plugin:
        wanted += [
            Check(
                name="plugin loaded",
                node=node,
                command="srun --help | grep -q -- --container-image",
                hint="plugstack.conf has to name a plugin that was compiled for this very Slurm",
            )
            for node in cluster.nodes
        ]
    if accounting:
        wanted.append(
            Check(
                name="accounting",
                node=first,
                command="sacct --noheader --allusers",
                hint="slurmdbd.log says what the database refused",
            )
        )
    return tuple(wanted)


def wait_for_check(engine: Engine, check: Check, limit: float = READY_SECONDS) -> None:
    """Wait until a condition holds; ``LaunchError`` with state, last log lines and hint if it never does."""

    def ask(node: Node, command: str, environment: dict[str, str]) -> Answer:
        bounded = ["timeout", str(_ANSWER_SECONDS), "/bin/sh", "-c", command]
        return engine.ask(node.container, bounded, user=check.user, environment=environment)

    def probe() -> bool | NotYet:
        environment = {}
        if check.credential_of:
            environment["CREDENTIAL"] = ask(check.credential_of, "munge -n", {}).output.strip()
        answer = ask(check.node, check.command, environment)
        return True if answer.status == 0 else NotYet(answer.output.strip() or f"exit status {answer.status}")

    wait_for(
        f"{check.name} on {check.node.hostname}",
        tolerating(probe, APIError),
        limit=limit,
        watched=watched(engine, check.node, check.hint),
    )


def watched(engine: Engine, node: Node, hint: str = "") -> Watched:
    """Return how to see that a node has died, and what it said."""
    return Watched(alive=lambda: engine.alive(node.container), diagnose=lambda: last_words(engine, node), hint=hint)


def last_words(engine: Engine, node: Node) -> str:
    """Return the last lines of a node's container and, while it runs, of its daemons."""
    text = engine.log_tail(node.container)
    if engine.alive(node.container) is True:
        command = f"tail -n 4 {' '.join(_DAEMON_LOGS)} 2>/dev/null"
        text += engine.ask(node.container, ["/bin/sh", "-c", command]).output
    return text


def observe(engine: Engine, cluster: Cluster, cell: Cell) -> dict[str, str]:
    """Return the versions as they are inside the first node, not as the matrix has them."""
    questions = {
        "slurm": "sinfo --version | awk '{ print $NF }'",
        "kernel": "uname -r",
        "arch": "uname -m",
        "os": ". /etc/os-release; echo $PRETTY_NAME",
        "python": "python3 --version | cut -d' ' -f2",
    }
    if cell.runtime is not Runtime.LEGACY:
        questions["enroot"] = "enroot version"
    if cell.runtime is Runtime.NVIDIA:
        questions["pyxis"] = r"sed -n 's/.*pyxis: version v//p' /var/log/slurm/slurmd.log | tail -n 1"
    return {
        name: engine.ask(cluster.login.container, ["/bin/sh", "-c", command]).output.strip()
        for name, command in questions.items()
    }


def wait_for_port(engine: Engine, cluster: Cluster) -> int:
    """Return the loopback port that leads to sshd; where the node died at once, its last words instead."""
    node = cluster.login

    def probe() -> int | NotYet:
        return engine.published_port(node.container, plan.SSH_PORT)

    return wait_for(
        f"start of {node.hostname}",
        tolerating(probe, LaunchError),
        limit=5.0,
        watched=watched(engine, node),
    )


def _create(
    engine: Engine,
    image: str,
    *,
    name: str,
    hostname: str,
    network: str,
    labels: dict[str, str],
    environment: dict[str, str],
    mounts: list[Mount],
    ports: dict[int | str, tuple[str, int]],
    containers: bool,
    admin: bool,
    gpus: int,
) -> "Container":
    """Create a node's container, by the engine's own API: docker-py's models can't unmask /proc."""
    api = engine.api.api
    options: dict[str, Any] = {
        "mounts": mounts,
        "tmpfs": {"/run": "exec,mode=755"},
        "port_bindings": ports,
        "network_mode": network,
        "cap_add": _CAPABILITIES if admin else None,
        "security_opt": (_SECURITY_OPTIONS if containers else _SECURITY_OPTIONS[1:]) if admin else None,
        "devices": _DEVICES if containers else None,
    }
    if gpus:
        options |= gpu_options(gpus)
    host_config: dict[str, Any] = api.create_host_config(**options)
    if containers:
        # What the client calls --security-opt systempaths=unconfined: a /proc with masked parts can't be mounted anew.
        host_config |= {"MaskedPaths": [], "ReadonlyPaths": []}
    created = api.create_container(
        image,
        name=name,
        hostname=hostname,
        labels=labels,
        environment=environment,
        ports=[(plan.SSH_PORT, "tcp")] if ports else [],
        host_config=host_config,
        networking_config={"EndpointsConfig": engine.aliases(network, hostname)},
    )
    return engine.api.containers.get(created["Id"])


def gpu_options(count: int) -> dict[str, Any]:
    """Return what a container's host configuration says for the engine's first ``count`` GPUs (``--gpus COUNT``)."""
    return {"device_requests": [DeviceRequest(count=count, capabilities=[["gpu"]])]}


def _no_gpu(hostname: str, error: Exception) -> EngineError:
    return EngineError(
        "this engine has no GPU to pass on",
        where=f"starting node {hostname} with --gpus",
        why=str(getattr(error, "explanation", None) or error),
        next_step="leave --gpus out, or set NVIDIA's driver and container toolkit up until `docker run --gpus 1` works",
    )


def configuration(cell: Cell, names: plan.Names, *, accounting: bool, gpus: int = 0) -> dict[str, bytes]:
    """Return Slurm's configuration files by path, rendered for the cell's version of Slurm."""
    folder = "slurm-integration" if cell.runtime is Runtime.LEGACY else "slurm-pyxis-integration"
    variables = {
        "slurm": cell.slurm.version,
        "cluster": "pyxis-matrix",
        "controller": names.hostnames[0],
        "nodes": [{"name": name, "cpus": CPUS_PER_NODE, "memory_mb": MEMORY_MB_PER_NODE} for name in names.hostnames],
        "accounting": accounting,
        "plugstack": cell.runtime is not Runtime.LEGACY,
        "gpus": gpus,
    }
    files = {
        "/etc/slurm/slurm.conf": render(f"{folder}/slurm.conf", variables),
        "/etc/slurm/cgroup.conf": render("slurm-integration/cgroup.conf", variables),
    }
    if gpus:
        files["/etc/slurm/gres.conf"] = render(f"{folder}/gres.conf", variables)
    return files


def _files(
    cell: Cell, names: plan.Names, keys: Secrets, hostname: str, *, accounting: bool, gpus: int
) -> dict[str, InsideFile]:
    rendered = configuration(cell, names, accounting=accounting, gpus=gpus)
    files = {path: InsideFile(content=content) for path, content in rendered.items()}
    files["/etc/munge/munge.key"] = InsideFile(content=keys.munge_key, mode=0o400)
    if hostname == names.hostnames[0]:
        files["/etc/ssh/ssh_host_ed25519_key"] = InsideFile(content=keys.host_key.private, mode=0o600)
        for user in USERS:
            files[f"/etc/ssh/authorized_keys.d/{user}"] = InsideFile(content=keys.user_key.public)
    return files


def render(template: str, variables: dict[str, object]) -> bytes:
    """Render a template below ``containers/``; an unknown variable is an error, never an empty string."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.CONTAINERS),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - these are configuration files, not HTML
    )
    return environment.get_template(template).render(variables).encode()


def collect_logs(engine: Engine, cluster: Cluster) -> dict[str, str]:
    """Return each node's container output and daemon logs by file name; a dead node gives what it can."""
    logs = {}
    for node in cluster.nodes:
        logs[f"{node.hostname}-container.log"] = engine.log_tail(node.container, lines=2000)
        if engine.alive(node.container) is not True:
            continue
        for path in _DAEMON_LOGS:
            answer = engine.ask(node.container, ["cat", path])
            if answer.status == 0:
                logs[f"{node.hostname}-{path.rpartition('/')[2]}"] = answer.output
    return logs
