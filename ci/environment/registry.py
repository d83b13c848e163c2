"""The registry of an environment: one address, ``localhost:PORT``, for the host and for every node.

The engine treats registries on loopback as plain http without any daemon.json, and each node answers the same port on
its own loopback; so what was pushed on the host is pulled in a job under the very same name.
"""

from contextlib import ExitStack
from dataclasses import dataclass
import http.client
from typing import TYPE_CHECKING

from docker.errors import APIError
from requests.exceptions import RequestException

from ci import paths
from ci.engine.connection import Engine, InsideFile, explain, labels, names_below
from ci.environment.wait import NotYet, Watched, tolerating, wait_for
from ci.errors import LaunchError, PortTakenError
from ci.images import plan
from ci.terminal import signals

if TYPE_CHECKING:
    from docker.models.containers import Container

_READY_SECONDS = 30.0
_CONFIG = "/etc/docker/registry/config.yml"

# What enroot asks for; anything else in a self-hosted registry answers 404 (NVIDIA/enroot PR 273).
V2S2 = "application/vnd.docker.distribution.manifest.v2+json"
_MANIFESTS = (
    V2S2,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry that answers."""

    container: "Container"
    port: int

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


def start(
    stack: ExitStack, engine: Engine, *, image: str, names: plan.Names, run_id: str, cell_id: str, port: int = 0
) -> Registry:
    """Start a registry on loopback; ``stack`` removes it. ``port`` 0 lets the engine choose a free one.

    What is started is put on a stack and not wrapped in a generator, because an environment may be kept: a generator
    that is forgotten cleans up when it is collected, a stack that is forgotten does not.
    """
    if port and (taken := names_below(engine.api, f"localhost:{port}/")):
        raise LaunchError(
            f"this engine has images of somebody's registry on port {port}",
            where=", ".join(taken),
            why="at the end all names below the registry's address are removed, and these are not ours",
            next_step="choose another --registry-port, or none to get a free one, or remove them: `docker image rm`",
        )
    config = (paths.CONTAINERS / "registry" / "config.yml").read_bytes()
    try:
        # Made and on the stack, or neither: the engine goes on making what an interrupted request asked for.
        with signals.shielded():
            container = engine.api.containers.create(
                image,
                name=names.registry,
                labels=labels(run_id, cell_id, "registry"),
                ports={f"{plan.REGISTRY_PORT}/tcp": ("127.0.0.1", port)},
                network=names.network,
                networking_config=engine.aliases(names.network, "registry"),
            )
            stack.callback(engine.remove, container)
        engine.put(container, {_CONFIG: InsideFile(content=config)})
        container.start()
    except (APIError, RequestException) as error:
        raise start_error(error, "starting the registry", port) from error
    return _answering(engine, container)


def _answering(engine: Engine, container: "Container") -> Registry:
    def probe() -> Registry | NotYet:
        registry = Registry(container=container, port=engine.published_port(container, plan.REGISTRY_PORT))
        try:
            status, _ = _get(registry, "/v2/")
        except (OSError, http.client.HTTPException) as error:
            return NotYet(str(error))
        return registry if status == http.HTTPStatus.OK else NotYet(f"status {status}")

    return wait_for(
        "start of the registry",
        tolerating(probe, LaunchError),  # one that died at once has no port; its last words say more than that
        limit=_READY_SECONDS,
        watched=Watched(
            alive=lambda: engine.alive(container),
            diagnose=lambda: engine.log_tail(container),
            hint="a firewall between this process and the engine's published ports?",
        ),
    )


def push(engine: Engine, registry: Registry, *, tag: str, repository: str) -> Pushed:
    """Push a local image into the registry under ``repository``, with its own tag.

    The local name made for it is removed again with all others of this registry when the environment ends.
    """
    version = tag.rsplit(":", 1)[1]
    target = f"{registry.address}/{repository}"
    try:
        engine.api.images.get(tag).tag(target, version)
        for line in engine.api.images.push(target, tag=version, stream=True, decode=True):
            if "error" in line:
                raise LaunchError(f"{target}:{version} can't be pushed", why=str(line["error"]))
    except (APIError, RequestException) as error:
        raise explain(error, f"pushing {target}") from error
    _, headers = _get(registry, f"/v2/{repository}/manifests/{version}", accept=", ".join(_MANIFESTS))
    return Pushed(
        reference=f"{target}:{version}",
        digest=headers.get("docker-content-digest", ""),
        media_type=headers.get("content-type", ""),
    )


def start_error(error: Exception, doing: str, port: int) -> Exception:
    """Name the port where the engine refused to publish it, and its holder where the system tells."""
    text = str(getattr(error, "explanation", None) or error)
    if "port is already allocated" in text or "address already in use" in text:
        return PortTakenError(
            f"port {port} is taken",
            where=f"127.0.0.1:{port}, wanted for {doing.removeprefix('starting ')}",
            why=text,
            next_step=f"find its holder with `ss -tlnp 'sport = :{port}'`, or leave the port out to get a free one",
        )
    return explain(error, doing)


def _get(registry: Registry, path: str, accept: str = "*/*") -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=5)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()
