"""The registry of an environment: one address, ``localhost:PORT``, for the host and for every node.

The engine uses plain http for registries on loopback, without an edit of daemon.json. Each node answers the same port
on its own loopback. So an image that was pushed on the host is pulled in a job under the same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import APIError
from requests.exceptions import RequestException

from ci import paths
from ci.engine.connection import (
    LABEL,
    LABEL_CELL,
    LABEL_NAME,
    LABEL_ROLE,
    LABEL_RUN,
    Engine,
    InsideFile,
    explain,
    names_below,
)
from ci.environment import service
from ci.environment.registry_client import MANIFESTS, RegistryClient
from ci.environment.service import Place, Service
from ci.environment.wait import NotYet, Watched, tolerating, wait_for
from ci.errors import LaunchError
from ci.terminal import console

if TYPE_CHECKING:
    from docker.models.containers import Container

PORT = 5000
"""The port inside its container."""

_READY_SECONDS = 30.0
_CONFIG = "/etc/docker/registry/config.yml"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry."""

    container: "Container"
    port: int
    """The port on loopback, on the host and on every node."""

    @property
    def address(self) -> str:
        """The address under which images are pushed and pulled."""
        return f"localhost:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image in the registry."""

    reference: str
    digest: str
    media_type: str


def planned(image: str, name: str, *, hostname: str = "registry", port: int = 0, second_name: str = "") -> Service:
    """Return the service of a registry; with ``port`` 0 the engine chooses a free port.

    :param second_name: a host name under which images are pushed to it, too.
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
    _check_port(place.engine, wanted.ports)
    container = service.start(place, wanted)

    def probe() -> Registry | NotYet:
        found = Registry(container=container, port=place.engine.published_port(container, PORT))
        status = RegistryClient(found.address, ca_bundle=ca_bundle).ping()
        # 401 is the answer of a registry that wants a login.
        return found if status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED} else NotYet(f"status {status}")

    return wait_for(
        f"start of the registry {wanted.hostname}",
        # A container that ended at once has no port; its log says why.
        tolerating(probe, LaunchError, RequestException),
        limit=_READY_SECONDS,
        watched=Watched(
            alive=lambda: place.engine.alive(container),
            diagnose=lambda: place.engine.log_tail(container),
            hint="a firewall between this process and the engine's published ports?",
        ),
    )


def _check_port(engine: Engine, ports: Mapping[int, int]) -> None:
    port = ports[PORT]
    if port and (taken := names_below(engine.api, f"localhost:{port}/")):
        raise LaunchError(
            f"this engine has images of another registry on port {port}",
            where=", ".join(taken),
            why="at the end all image names with this address are removed, and these are not ours",
            next_step="choose another --registry-port, or none to get a free one, or remove them: `docker image rm`",
        )


def filled_name(registry_identity: str, job_identity: str) -> str:
    """Return the name of the image of a registry that holds the job image already."""
    key = hashlib.sha256(f"{registry_identity} {job_identity}".encode()).hexdigest()[:12]
    return f"{LABEL}/registry-filled:{key}"


def keep_filled(engine: Engine, registry: Registry, name: str) -> None:
    """Keep what a registry holds as an image, from which later ones start; pushing the same again then takes no time.

    If that fails, later ones are filled as this one was.
    """
    repository, tag = name.rsplit(":", 1)
    # The labels of the run would have it removed with the run.
    forgotten = [f'LABEL {label}=""' for label in (LABEL_RUN, LABEL_CELL, LABEL_ROLE, LABEL_NAME)]
    try:
        registry.container.commit(engine.local_name(repository), tag, changes=forgotten)
    except (APIError, RequestException) as error:
        console.warn(f"the filled registry was not kept as {name}: {explain(error, 'committing it').why}")


def push(engine: Engine, registry: Registry, *, tag: str, repository: str) -> Pushed:
    """Push a local image into the registry under ``repository``, with its own tag.

    Its local name is removed with all others of this registry when the environment ends.
    """
    version = tag.rsplit(":", 1)[1]
    target = f"{registry.address}/{repository}"
    try:
        engine.image(tag).tag(target, version)
        engine.push(f"{target}:{version}")
    except (APIError, RequestException) as error:
        raise explain(error, f"pushing {target}") from error
    stored = RegistryClient(registry.address).manifest(repository, version, ", ".join(MANIFESTS)).headers
    return Pushed(
        reference=f"{target}:{version}",
        digest=stored.get("Docker-Content-Digest", ""),
        media_type=stored.get("Content-Type", ""),
    )
