"""The registry of an environment: one address, ``localhost:PORT``, for the host and for every node.

The engine uses plain http for registries on loopback, without an edit of daemon.json. Each node forwards the same port
of its own loopback. So an image that was pushed on the host is pulled in a job by the same name.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
import hashlib
from http import HTTPStatus
from pathlib import Path
import socket

from ci import paths
from ci.engine.connection import Container, Engine, InsideFile
from ci.engine.labels import LABEL, LABEL_CELL, LABEL_NAME, LABEL_OWNER, LABEL_ROLE, LABEL_RUN, LABEL_SESSION
from ci.engine.refusals import asking
from ci.environment import service
from ci.environment.registry_client import (
    LOOPBACK,
    LOOPBACK6,
    MANIFESTS,
    RegistryAnswer,
    RegistryClient,
    UnexpectedAnswerError,
    digest_of,
)
from ci.environment.service import Place, Service
from ci.environment.wait import NotYet, wait_for
from ci.errors import LaunchError, PortTakenError, PyxisMatrixError, RegistryChangedError
from ci.terminal import console

PORT = 5000
"""The port inside its container."""

_READY_SECONDS = 30.0
_TRIES = 10
_CONFIG = "/etc/docker/registry/config.yml"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry."""

    container: Container
    port: int
    """The port on loopback, on the host (127.0.0.1, and ::1 where it has that) and on every node."""

    @property
    def address(self) -> str:
        """The address in the names of images that are pushed and pulled."""
        return f"localhost:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image in the registry."""

    reference: str
    digest: str
    media_type: str


def planned(image: str, name: str, *, hostname: str = "registry", port: int = 0, second_name: str = "") -> Service:
    """Return the service of a registry; with ``port`` 0 the engine chooses a free port.

    :param second_name: another host name for pushing images.
    """
    config = (paths.CONTAINERS / "registry" / "config.yml").read_bytes()
    return Service(
        role="registry",
        image=image,
        name=name,
        hostname=hostname,
        files={_CONFIG: InsideFile(content=config)},
        ports={PORT: port},
        labels={LABEL_NAME: second_name} if second_name else {},
    )


def start(place: Place, wanted: Service, ca_bundle: Path | None = None) -> Registry:
    """Start a registry and wait until it answers.

    :param ca_bundle: certificates to trust, for a registry that speaks https.
    :raises LaunchError: if it does not answer in time, or if the engine has images of another registry on this port.
    """
    container = _started(place, wanted)

    def probe() -> Registry | NotYet:
        found = Registry(container=container, port=place.engine.published_port(container, PORT))
        status = RegistryClient(found.address, ca_bundle=ca_bundle).ping()
        # A registry that wants a login answers with 401.
        return found if status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED} else NotYet(f"status {status}")

    found = wait_for(
        f"start of the registry {wanted.hostname}",
        # A container that has ended has no port, and so the probe fails; then its log says why.
        probe,
        limit=_READY_SECONDS,
        watched=service.watched(
            place.engine, container, "a firewall between this process and the engine's published ports?"
        ),
    )
    _warn_about_loopback(container)
    return found


def _started(place: Place, wanted: Service) -> Container:
    """Start the container, with its port on 127.0.0.1 and on ::1: ``localhost`` may mean either.

    If the registry listened on one of them only, any other user of the machine could listen on the other.
    """
    chosen = wanted.ports[PORT]
    if chosen:
        _check_port(place.engine, chosen)
    if not _has_both_loopbacks(place.engine):
        return service.start(place, wanted)
    for remaining in reversed(range(_TRIES)):
        # Not 0: the engine would choose a port for each of the two addresses.
        port = chosen or _free_port(place.engine)
        try:
            both = replace(wanted, ports={PORT: port}, addresses=(LOOPBACK, LOOPBACK6))
            container = service.start(place, both)
        except PortTakenError:
            # Another process took the free port meanwhile, so try the next; a port that the user chose has no next.
            if chosen or not remaining:
                raise
        else:
            break
    return container


def _has_both_loopbacks(engine: Engine) -> bool:
    # Podman accepts a port on ::1 for a container in one of its networks, but nothing answers there.
    if engine.found.kind == "podman" or not engine.found.local:
        return False
    try:
        socket.create_server((LOOPBACK6, 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _free_port(engine: Engine) -> int:
    """Return a port that is free on both loopbacks, and that no image name of the engine has."""
    for _ in range(_TRIES):
        with suppress(OSError), socket.create_server((LOOPBACK, 0)) as first:
            port = int(first.getsockname()[1])
            socket.create_server((LOOPBACK6, port), family=socket.AF_INET6).close()
            # Such names are of an earlier registry on this port; they would be removed with this one's.
            if not engine.names_below(f"localhost:{port}/"):
                return port
    raise LaunchError(
        "no free port was found for the registry",
        where=f"{LOOPBACK} and {LOOPBACK6}",
        why=f"{_TRIES} ports that were free on the first were taken on the second",
        next_step="ss -tln shows what listens there; or choose one with --registry-port",
    )


def _warn_about_loopback(container: Container) -> None:
    """Warn if the engine publishes only one of two loopbacks; some ignore an address that they can't publish."""
    wanted: list[dict[str, str]] = container.attrs["HostConfig"]["PortBindings"].get(f"{PORT}/tcp") or []
    served: list[dict[str, str]] = container.ports.get(f"{PORT}/tcp") or []
    if missing := {port["HostIp"] for port in wanted} - {port["HostIp"] for port in served}:
        console.warn(
            f"the engine does not publish the registry on {', '.join(sorted(missing))}; if localhost means that, "
            "another user of this machine can run a registry in its place"
        )


def _check_port(engine: Engine, port: int) -> None:
    if taken := engine.names_below(f"localhost:{port}/"):
        raise LaunchError(
            f"this engine has images of another registry on port {port}",
            where=", ".join(taken),
            why="at the end all image names with this address are removed, and these belong to somebody else",
            next_step="choose another --registry-port, or none to get a free one, or remove them: `docker image rm`",
        )


def filled_name(registry_identity: str, job_identity: str) -> str:
    """Return the name for an image of a registry that already has the job image in it."""
    key = hashlib.sha256(f"{registry_identity} {job_identity}".encode()).hexdigest()[:12]
    return f"{LABEL}/registry-filled:{key}"


def keep_filled(engine: Engine, registry: Registry, name: str) -> None:
    """Save a filled registry as an image, from which later registries start; then pushing the same image takes no time.

    If saving fails, later registries start empty, as this one did.
    """
    repository, tag = name.rsplit(":", 1)
    # A container's image inherits its labels, and an instruction can only make them empty.
    # With the labels of the run, the image would be removed at the end of the run.
    of_the_run = (LABEL_RUN, LABEL_CELL, LABEL_SESSION, LABEL_OWNER, LABEL_ROLE, LABEL_NAME)
    forgotten = [f'LABEL {label}=""' for label in of_the_run]
    try:
        with asking(f"committing {name}"):
            # Images are in it because they lie outside the volume of `registry:2` (containers/registry/config.yml).
            registry.container.commit(engine.local_name(repository), tag, changes=forgotten)
    except PyxisMatrixError as error:
        console.warn(f"the filled registry was not kept as {name}: {error.why}")


def push(engine: Engine, registry: Registry, *, tag: str, repository: str) -> Pushed:
    """Push a local image to ``repository`` in the registry, with its own tag.

    The local name for that is removed, with all others of this registry, when the environment ends.
    """
    version = tag.rsplit(":", 1)[1]
    target = f"{registry.address}/{repository}"
    engine.tag(tag, f"{target}:{version}")
    digest = engine.push(f"{target}:{version}")
    # Read back, because anybody on this machine can push to the port meanwhile.
    stored = _manifest(f"{target}:{version}")
    pushed = Pushed(
        reference=f"{target}:{version}",
        digest=digest_of(stored.body),
        media_type=stored.headers.get("Content-Type", ""),
    )
    if digest is not None and pushed.digest != digest:
        raise _changed(pushed, f"the registry has {pushed.digest}, and the engine pushed {digest or 'nothing'}")
    return pushed


def check_unchanged(pushed: Pushed) -> None:
    """Refuse a registry that no longer has the image that was pushed: everybody who reaches the port can write to it.

    :raises RegistryChangedError: naming both digests.
    """
    try:
        found = digest_of(_manifest(pushed.reference).body)
    except UnexpectedAnswerError as error:
        raise _changed(pushed, f"it can't be read any more: {error}") from error
    if found != pushed.digest:
        raise _changed(pushed, f"{pushed.digest} was pushed, and {found} is there now")


def _manifest(reference: str) -> RegistryAnswer:
    # "localhost:5005/pyxis-matrix/job:TAG": the address has a colon as well as the tag.
    address, _, path = reference.partition("/")
    repository, _, version = path.rpartition(":")
    return RegistryClient(address).manifest(repository, version, ", ".join(MANIFESTS))


def _changed(pushed: Pushed, why: str) -> RegistryChangedError:
    return RegistryChangedError(
        "the job image in the registry is not the one that was pushed",
        where=pushed.reference,
        why=f"{why}; the registry asks for no password, and other users of this machine can write to it",
        next_step="find out what pushed there (registry.log); a suite's own image needs another name than $JOB_IMAGE",
    )
