"""The Slurm cluster of an environment: nodes with a shared /home. The first is controller and login node."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
import secrets
import tempfile

from packaging.version import Version

from ci.engine.connection import Container, Engine, InsideFile
from ci.engine.labels import LABEL_SCRATCH
from ci.environment import daemons, service, users
from ci.environment.configuration import configuration, of_profile
from ci.environment.plan import EnvironmentPlan
from ci.environment.service import Place, Rights, Service, mount
from ci.environment.ssh import SSH_PORT, KeyPair, new_key
from ci.errors import VersionMismatchError
from ci.images.subject import Wheelhouse
from ci.matrix.cells import Cell, Runtime
from ci.matrix.observed import mismatches

WHEELS = "/home/.wheels"
"""The folder with the wheels for pip on every node (the home is shared)."""
_PIP_CONF = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"
_ENROOT_DATA = "/var/lib/enroot-data"
# Since then slurmd reads the user's environment (``sbatch --export=ALL,NAME=VALUE``) in a namespace of its own.
_SLURMD_MAKES_NAMESPACES = Version("24.11")
_NEEDLESS = ("NET_RAW", "MKNOD")
"""Capabilities that Docker gives to every container, and that a node does not need."""
# enroot runs its own shell functions by GNU parallel, which uses the shell that called it. Under emulation it finds the
# emulator's process instead, and would use /bin/sh, which does not know bash's exported functions.
_VARIABLES_EMULATED = {"PARALLEL_SHELL": "/bin/bash"}
# For logins over SSH, which get none of the container's variables; their jobs inherit it from them.
_FILES_EMULATED = {
    "/etc/ssh/sshd_config.d/07-emulated.conf": InsideFile(
        content="".join(f"SetEnv {name}={value}\n" for name, value in _VARIABLES_EMULATED.items()).encode()
    )
}
_DAEMON_LOGS = (
    "/var/log/slurm/slurmctld.log",
    "/var/log/slurm/slurmd.log",
    "/var/log/munge/munged.log",
    "/var/log/sshd.log",
)
# All daemons write to one output. Twenty lines would be those of the entry script and of others; within 200 there are
# those of the daemon that ended first (`ci.environment.daemons` finds them).
_LINES_OF_THE_DEAD = 200


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Keys made for one run."""

    munge_key: bytes
    host_key: KeyPair
    user_key: KeyPair
    password: str = ""
    """The job users' password; empty if there is no login by password."""

    @classmethod
    def new(cls, *, password: bool, chosen: str = "") -> "Secrets":
        """Make new keys, and a password if one is wanted: ``chosen``, or a random one.

        They are never used for another run: access to one cluster gives none to another.
        """
        return cls(
            munge_key=secrets.token_bytes(128),  # munge's usual length
            host_key=new_key("host"),
            user_key=new_key("user"),
            password=chosen or (secrets.token_urlsafe(16) if password else ""),
        )


@dataclass(frozen=True, kw_only=True)
class Node:
    """One Slurm node."""

    hostname: str
    container: Container


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A started cluster."""

    nodes: tuple[Node, ...]

    @property
    def login(self) -> Node:
        """The login node."""
        return self.nodes[0]


def start(place: Place, plan: EnvironmentPlan, *, image: str, keys: Secrets, registry_port: int | None) -> Cluster:
    """Start the nodes, without waiting until they are usable (see `ci.environment.usable`)."""
    containers = plan.cell.runtime is not Runtime.LEGACY
    for volume in (plan.names.home_volume, *(plan.names.data_volumes if containers else ())):
        place.create_volume(volume)
    nodes = []
    for index, hostname in enumerate(plan.names.hostnames):
        wanted = planned_node(
            plan,
            index,
            image=image,
            keys=keys,
            registry_port=registry_port,
            emulated=place.engine.emulates(plan.cell.arch),
        )
        nodes.append(Node(hostname=hostname, container=service.start(place, wanted)))
    return Cluster(nodes=tuple(nodes))


def planned_node(
    plan: EnvironmentPlan,
    index: int,
    *,
    image: str,
    keys: Secrets,
    registry_port: int | None,
    emulated: bool = False,
) -> Service:
    """Return the service of a node; node 0 is controller and login node.

    :param emulated: whether its code runs through an emulator.
    """
    first = index == 0
    role = "controller" if first else "compute"
    hostname = plan.names.hostnames[index]
    environment = {"NODE_ROLE": role, "NODE_NAME": hostname, "JOB_PASSWORD": keys.password}
    environment |= {**users.variables(plan.options), **(_VARIABLES_EMULATED if emulated else {})}
    if registry_port is not None:
        environment |= {"REGISTRY_PORT": str(registry_port), "REGISTRY_HOST": plan.names.registry_hostname}
    containers = plan.cell.runtime is not Runtime.LEGACY
    mounts = [mount("/home", plan.names.home_volume)]
    if containers:
        # On overlay2, where the rest of a node lies, enroot fails: "failed to create ovlfs whiteout".
        mounts.append(mount(_ENROOT_DATA, plan.names.data_volumes[index]))
    mounts += [mount(folder, folder, "bind", read_only=True) for folder in plan.mounts]
    return Service(
        role=role,
        image=image,
        name=plan.names.nodes[index],
        hostname=hostname,
        environment=environment,
        # There the node forwards the registry's port, as it does for localhost.
        hosts={plan.options.registry_name: "127.0.0.1"} if plan.options.registry_name else {},
        # Emptied before the container goes, because engines are slow at it (`ci.engine.removing`).
        labels={LABEL_SCRATCH: _ENROOT_DATA} if containers else {},
        files={**_files(plan, keys, first=first), **(_FILES_EMULATED if emulated else {})},
        mounts=tuple(mounts),
        ports={SSH_PORT: plan.options.ssh_port} if first else {},
        tmpfs=("/run",),
        scratch=plan.profile.tmpfs if plan.profile else (),
        rights=rights(plan),
    )


def rights(plan: EnvironmentPlan) -> Rights:
    """Return what a node needs beyond the engine's defaults, and which of the defaults it is not given.

    All of it was measured, and is much less than --privileged. Why each stays, and what was dropped:
    docs/what-you-trust.md.
    """
    cell, profile = plan.cell, plan.profile
    if cell.runtime is Runtime.LEGACY:
        needed = Rights(dropped=_NEEDLESS)
        if cell.slurm.parsed >= _SLURMD_MAKES_NAMESPACES:
            needed = replace(needed, capabilities=("SYS_ADMIN",), security_options=("apparmor=unconfined",))
    else:
        # Real enroot makes a device node for each file that a layer removes. Docker gives MKNOD to every container,
        # Podman does not, so it is asked for.
        makes_devices = ("MKNOD",) if cell.runtime is Runtime.NVIDIA else ()
        needed = Rights(
            capabilities=("SYS_ADMIN", *makes_devices),
            dropped=tuple(name for name in _NEEDLESS if name not in makes_devices),
            security_options=("seccomp=unconfined", "apparmor=unconfined"),
            devices=("/dev/fuse",),
            whole_proc=True,
        )
    for_settings: list[str] = []
    if profile and profile.cgroups:
        for_settings.append("SYS_PTRACE")  # without it Slurm can't read the memory use of a user's job
    if profile and profile.binds_tasks:
        # Without it Slurm can't bind a user's task to CPUs: no task starts, and batch jobs drain the node
        # ("task_g_set_affinity: Operation not permitted").
        for_settings.append("SYS_NICE")
    return replace(
        needed,
        capabilities=(*needed.capabilities, *for_settings),
        own_cgroups=profile is not None and profile.cgroups,
        gpus=plan.options.gpus,
    )


def _files(plan: EnvironmentPlan, keys: Secrets, *, first: bool) -> Mapping[str, InsideFile]:
    files = {path: InsideFile(content=content) for path, content in configuration(plan).items()}
    files |= of_profile(plan)
    files["/etc/munge/munge.key"] = InsideFile(content=keys.munge_key, mode=0o400)
    files |= users.files(plan.options, keys.password)
    if plan.images.node_wheels:
        files["/etc/pip.conf"] = InsideFile(content=_PIP_CONF.encode())
    if first:
        files["/etc/ssh/ssh_host_ed25519_key"] = InsideFile(content=keys.host_key.private, mode=0o600)
        for user in users.logins(plan.options):
            files[f"/etc/ssh/authorized_keys.d/{user}"] = InsideFile(content=keys.user_key.public)
    return files


def put_wheels(engine: Engine, cluster: Cluster, house: Wheelhouse, python: str) -> None:
    """Copy wheels to the folder where pip on the nodes looks for them; if pip is among them, make it usable there.

    :param python: major and minor version of the nodes' Python.
    """
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        copy = Path(folder) / "wheels"
        house.copy_to(copy)
        wheels = {
            f"{WHEELS}/{wheel.relative_to(copy).as_posix()}": InsideFile(content=wheel.read_bytes())
            for wheel in sorted(copy.rglob("*.whl"))
        }
    engine.copy_into(cluster.login.container, wheels)
    for pip in (path for path in wheels if path.rpartition("/")[2].startswith("pip-")):
        files = {
            # pip runs from its wheel, without an installation: a .pth file adds the wheel to the path of Debian's
            # Python.
            f"/usr/local/lib/python{python}/dist-packages/pip.pth": InsideFile(content=f"{pip}\n".encode()),
            "/usr/local/bin/pip": InsideFile(content=b'#!/bin/sh\nexec python3 -m pip "$@"\n', mode=0o755),
        }
        for node in cluster.nodes:
            engine.copy_into(node.container, files)


def last_words(engine: Engine, node: Node) -> str:
    """Return the last lines of a node and of its daemons; of a node that ended, those of the daemon that ended it."""
    if engine.alive(node.container) is not True:
        return daemons.last_words(engine.log_tail(node.container, lines=_LINES_OF_THE_DEAD))
    # Few of each: a wait shows the last twenty lines of all (`ci.environment.wait`).
    command = f"tail -n 4 {' '.join(_DAEMON_LOGS)} 2>/dev/null"
    return engine.log_tail(node.container) + engine.run_inside(node.container, ["/bin/sh", "-c", command]).output


def observe(engine: Engine, cluster: Cluster, cell: Cell) -> dict[str, str]:
    """Return the versions that are installed on the first node, independent of matrix.toml."""
    questions = {
        # "slurm 24.11.5"; of Debian's packages "slurm-wlm 22.05.8".
        "slurm": "sinfo --version | awk '{ print $NF }'",
        "kernel": "uname -r",
        "arch": "uname -m",
        "os": ". /etc/os-release; echo $PRETTY_NAME",
        "python": "python3 --version | cut -d' ' -f2",
    }
    if cell.runtime is not Runtime.LEGACY:
        questions["enroot"] = "enroot version"
    if cell.runtime is Runtime.NVIDIA:
        # Pyxis has no command of its own; slurmd logs "pyxis: version v0.24.0" when it loads the plugin.
        questions["pyxis"] = r"sed -n 's/.*pyxis: version v//p' /var/log/slurm/slurmd.log | tail -n 1"
    return {
        name: engine.run_inside(cluster.login.container, ["/bin/sh", "-c", command]).output.strip()
        for name, command in questions.items()
    }


def check_versions(cell: Cell, observed: Mapping[str, str], *, image: str) -> None:
    """Refuse a cluster with other versions than the cell's id: its results would be those of another cell.

    :param image: the nodes' image, for the message.
    :raises VersionMismatchError: naming each version that was observed, and the cell's own.
    """
    if not (wrong := mismatches(cell.axes, observed)):
        return
    raise VersionMismatchError(
        f"the cluster has other versions than its id: {', '.join(wrong)}",
        where=f"{cell.id}, image {image}",
        why="the image was built from another release, or was changed afterwards",
        next_step="put the right release into the mirror, or name it with --slurm, --enroot or --pyxis; "
        f"then docker image rm {image}",
    )


def collect_logs(engine: Engine, cluster: Cluster) -> dict[str, str]:
    """Return the output and daemon logs of all nodes' containers by file name; of a stopped node only the output."""
    logs = {}
    for node in cluster.nodes:
        logs[f"{node.hostname}-container.log"] = engine.log_tail(node.container, lines=2000)
        if engine.alive(node.container) is not True:
            continue
        for path in _DAEMON_LOGS:
            answer = engine.run_inside(node.container, ["cat", path])
            if answer.status == 0:
                logs[f"{node.hostname}-{path.rpartition('/')[2]}"] = answer.output
    return logs
