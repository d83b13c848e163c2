"""Starting a service: a container with its files and labels, on the stack that takes it down.

Registry, accounting, nodes and the registries of tests are all started this way.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
import secrets
from typing import Any

from ci.engine import removing
from ci.engine.connection import Container, Engine, InsideFile
from ci.engine.labels import LABEL_SESSION, labels
from ci.engine.refusals import asking
from ci.environment.registry_client import LOOPBACK
from ci.environment.wait import Watched
from ci.errors import EngineError, LaunchError, PortTakenError, RefusedError, typed
from ci.terminal import signals

# In Docker's answer if no runtime can pass on a GPU.
_NO_GPU = "could not select device driver"
# In the answers of runc, crun and Podman if a container's limit is higher than the engine's own.
_RLIMIT = "rlimit"


@dataclass(frozen=True, kw_only=True)
class Place:
    """The engine and network for the services of one environment, and the stack that takes them down.

    A stack and not a generator, because an environment may be kept: a generator cleans up when it is garbage-collected,
    a stack does not.
    """

    engine: Engine
    stack: ExitStack
    run: str
    cell: str
    network: str
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    """The id in the labels of all objects made here, and of no others."""
    addresses: list[str] = field(default_factory=list)
    """Of registries: names of local images that begin with these are removed with the environment."""

    def labels(self, role: str) -> dict[str, str]:
        """Return the labels of an object that has this role."""
        return labels(self.run, self.cell, role, self.session)

    def left(self) -> list[str]:
        """Return the names of objects that are still on the engine."""
        names = [name for address in self.addresses for name in self.engine.names_below(f"{address}/")]
        return self.engine.left({LABEL_SESSION: self.session}) + names

    def untag_with(self, address: str) -> None:
        """Have the local names of images for a registry removed with the environment."""
        self.addresses.append(address)
        self.stack.callback(self.engine.untag, f"{address}/")

    def create_network(self) -> None:
        """Create the network."""
        # Signals wait: in between, the engine would still create the network, and nothing would remove it.
        with asking(f"making the network {self.network}"), signals.shielded():
            # Docker before 25 takes a name twice unless it is asked to check, and even then of two requests at once
            # (https://github.com/moby/moby/issues/20648).
            network = self.engine.api.networks.create(
                self.network, driver="bridge", labels=self.labels("network"), check_duplicate=True
            )
            # By its id: there may be another one of its name.
            self.stack.callback(removing.remove_object, self.network, network.remove)

    def create_volume(self, name: str) -> None:
        """Create a volume."""
        with asking(f"making the volume {name}"), signals.shielded():  # as above
            self.engine.api.volumes.create(name, labels=self.labels("volume"))
            # For a name that is taken, an engine reports no error, and returns the existing volume.
            volume = self.engine.api.volumes.get(name)
            ours = (volume.attrs.get("Labels") or {}).get(LABEL_SESSION) == self.session
            if ours:
                self.stack.callback(removing.remove_volume, self.engine.api, name)
        if not ours:
            raise LaunchError(
                f"a volume named {name} exists already",
                where="the engine",
                why="it was made by another session, and its content belongs to that",
                next_step=f"{typed(f'down {self.run}')}, if it is yours to take down; or another PYXIS_MATRIX_RUN",
            )


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What a container may do beyond the engine's defaults, and which defaults it lacks; by default neither."""

    capabilities: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Capabilities that the engine gives to every container."""
    security_options: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    gpus: int = 0
    """How many, the engine's first (``docker run --gpus COUNT``)."""
    whole_proc: bool = False
    """Mask no path of /proc: rootless Podman mounts one of its own, and the kernel forbids that if paths are masked."""
    own_cgroups: bool = False
    """A private cgroup namespace: the container sees its own cgroup as the root, and no others."""


# Under systemd, containerd passes on a limit of 2^30 (https://github.com/moby/moby/issues/45060). Before it loads a
# user's environment for a batch job, a child of slurmd closes as many file descriptors one by one: that takes minutes,
# and Slurm gives up before that. slurmd.service has 131072. This is less, because no engine can give more than it has
# itself.
OPEN_FILES = 16384
"""The most files that a process of a service can have open."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """The description of a container."""

    role: str
    """For its label and for messages."""
    image: str
    name: str
    hostname: str
    """Also its name in the network."""
    environment: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Addresses by host name, for its /etc/hosts."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels beside those that every object has."""
    files: Mapping[str, InsideFile] = field(default_factory=dict)
    """Files that are copied into it before it starts, by path."""
    mounts: tuple[Mapping[str, Any], ...] = ()
    """In the form of the engine's API (`mount`)."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Ports to publish on the host's loopback: inside → outside; 0 means a free one."""
    addresses: tuple[str, ...] = (LOOPBACK,)
    """The host's loopback addresses for these ports; with several, the outer port must not be 0."""
    tmpfs: tuple[str, ...] = ()
    """Folders in memory."""
    scratch: tuple[str, ...] = ()
    """Folders in memory that everybody may write to."""
    rights: Rights = Rights()


def mount(target: str, source: str, kind: str = "volume", *, read_only: bool = False) -> dict[str, Any]:
    """Return the mount of a volume, or of a folder of the host (``bind``)."""
    return {"Target": target, "Source": source, "Type": kind, "ReadOnly": read_only}


def start(place: Place, service: Service) -> Container:
    """Start a service, without waiting until it is usable.

    :raises PortTakenError: if a fixed port is in use.
    :raises EngineError: if the engine has no GPU to pass on.
    :raises LaunchError, DiskFullError: if the engine refuses for another reason.
    """
    engine = place.engine
    if service.rights.gpus:
        engine.check_gpus()
    container = None
    try:
        # Signals wait: in between, the engine would still create the container, and nothing would remove it.
        with signals.shielded():
            container = _create(place, service)
            place.stack.callback(removing.remove_container, container)
        engine.copy_into(container, service.files)
        with asking(_starting(service)):
            container.start()
    except RefusedError as error:
        if container:  # removed at once, so that its name is free for another try
            removing.remove_container(container)
        raise start_error(error, service) from error
    return container


def watched(engine: Engine, container: Container, hint: str) -> Watched:
    """Return how a wait notices that a service has ended, with the likely cause if it does not get ready."""
    return Watched(alive=lambda: engine.alive(container), diagnose=lambda: engine.log_tail(container), hint=hint)


def _create(place: Place, service: Service) -> Container:
    """Create the container with the low-level API, because docker-py's models have no parameter to unmask /proc."""
    api: Any = place.engine.api.api  # the stubs want docker-py's own classes, but mappings are enough
    rights = service.rights
    host_config: dict[str, Any] = api.create_host_config(
        mounts=list(service.mounts),
        # "exec", because engines mount a tmpfs noexec (https://github.com/docker/docs/issues/8138).
        tmpfs=dict.fromkeys(service.tmpfs, "exec,mode=755") | dict.fromkeys(service.scratch, "exec,mode=1777"),
        port_bindings={
            f"{inside}/tcp": [(address, outside) for address in service.addresses]
            for inside, outside in service.ports.items()
        },
        network_mode=place.network,
        cap_add=list(rights.capabilities) or None,
        cap_drop=list(rights.dropped) or None,
        security_opt=list(rights.security_options) or None,
        devices=list(rights.devices) or None,
        device_requests=[{"count": rights.gpus, "capabilities": [["gpu"]]}] if rights.gpus else None,
        extra_hosts=dict(service.hosts) or None,
        ulimits=[{"name": "nofile", "soft": OPEN_FILES, "hard": OPEN_FILES}],
    )
    if rights.whole_proc:
        host_config = place.engine.with_whole_proc(host_config)
    if rights.own_cgroups:
        host_config["CgroupnsMode"] = "private"
    # The engine's DNS knows containers by their names and aliases, not by their host names.
    second_name = api.create_endpoint_config(aliases=[service.hostname])
    with asking(_starting(service)):
        created = api.create_container(
            place.engine.local_name(service.image),
            name=service.name,
            hostname=service.hostname,
            labels={**place.labels(service.role), **service.labels},
            environment=dict(service.environment),
            ports=[(inside, "tcp") for inside in service.ports],
            host_config=host_config,
            networking_config={"EndpointsConfig": {place.network: second_name}},
        )
        return place.engine.api.containers.get(created["Id"])


def _starting(service: Service) -> str:
    return f"starting the {service.role} {service.hostname}"


def start_error(refused: RefusedError, service: Service) -> LaunchError | EngineError:
    """Return the error for an engine's refusal: a port in use, a missing GPU, or any other."""
    text = refused.why
    port = next((outside for outside in service.ports.values() if outside), 0)
    # Docker's words if another container has the port, and the kernel's if any other process has it.
    if "port is already allocated" in text or "address already in use" in text:
        return PortTakenError(
            f"port {port} is already in use",
            where=f"{' and '.join(service.addresses)}, wanted for the {service.role} {service.hostname}",
            why=text,
            next_step=f"find the process with `ss -tlnp 'sport = :{port}'`, or leave the port out to get a free one",
        )
    if "is already in use by container" in text:
        return LaunchError(
            f"a container named {service.name} exists already",
            where=f"the engine, {_starting(service)}",
            why=text,
            next_step=f"docker container rm {service.name}, if it is yours to remove; or another --container-name",
        )
    if _RLIMIT in text:
        return EngineError(
            f"this engine cannot give a container {OPEN_FILES} open files",
            where=f"the engine, {_starting(service)}",
            why=text,
            next_step="raise the engine's own limit (LimitNOFILE= in its systemd unit, or ulimit -n before its start), "
            "and restart it",
        )
    if _NO_GPU in text:
        return EngineError(
            "this engine has no GPU to pass on",
            where=f"{_starting(service)} with --gpus",
            why=text,
            next_step="leave --gpus out, or set up NVIDIA's driver and container toolkit so that "
            "`docker run --gpus 1` works",
        )
    return refused
