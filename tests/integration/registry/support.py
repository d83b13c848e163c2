"""Registries of a test's own, and jobs that pull from them.

Such a registry runs beside the environment's: same image, same network, and the same labels, so that whatever takes the
environment down takes it down too. The host, which pushes, reaches it on a published loopback port; the nodes, which
pull, reach it by its name in the network.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
import http.client
import secrets
import shlex
import ssl
from typing import TYPE_CHECKING

from ci import paths
from ci.engine.connection import LABEL_CELL, LABEL_ROLE, LABEL_RUN, Engine, InsideFile, labels
from ci.environment.ssh import Completed
from ci.environment.wait import NotYet, Watched, wait_for
from ci.environment_file import EnvironmentFile
from ci.images.plan import REGISTRY_PORT
from tests.integration.container_support import IMAGE_MARKER, Node, Shell
from tests.integration.oci import Image, Pushed, push
from tests.integration.registry import tls as certificates

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.types import EndpointConfig

_READY_SECONDS = 30.0
_CONFIG = "/etc/docker/registry/config.yml"

# ENROOT_ALLOW_HTTP is the administrator's: Pyxis keeps a job from setting it, and the environment's nodes have it on.
# For a job of this suite the node's file asks this variable instead; for every other job its answer is still yes.
PLAIN_HTTP = "PYXIS_MATRIX_PLAIN_HTTP"
HTTPS_ONLY = {PLAIN_HTTP: "no"}

# Everything that needs a token lies in one repository: a token opens exactly the one that it names.
TOKEN_REPOSITORY = "guarded/img"  # noqa: S105 - a repository's name


@dataclass(frozen=True, kw_only=True)
class OwnRegistry:
    """A registry that a test or a suite started for itself."""

    container: "Container"
    host_address: str
    """Where this process pushes to."""
    name: str
    """Its host name on the nodes; what credentials are filed under."""
    authorization: str = ""
    """Header with which to push."""
    tls: ssl.SSLContext | None = None

    @property
    def node_address(self) -> str:
        """Where jobs pull from."""
        return f"{self.name}:{REGISTRY_PORT}"

    def push(
        self, repository: str, tag: str, *images: Image, authorization: str | None = None, **how: object
    ) -> Pushed:
        """Push images and return them under the address that the nodes know."""
        header = self.authorization if authorization is None else authorization
        options: dict[str, object] = {**how, "authorization": header, "tls": self.tls}
        pushed = push(self.host_address, repository, tag, *images, **options)  # type: ignore[arg-type]
        return pushed.at(self.node_address)


@dataclass(frozen=True, kw_only=True)
class Marked:
    """An image, not pushed yet, and what only it holds."""

    image: Image
    marker: str


@dataclass(frozen=True, kw_only=True)
class TlsRegistry:
    """A registry behind https, and the authority that signed its certificate."""

    registry: OwnRegistry
    authority: certificates.Certificate


@dataclass(frozen=True, kw_only=True)
class LoginRegistry:
    """A registry that asks for a password, and two accounts that it knows."""

    registry: OwnRegistry
    user: str
    password: str
    second_user: str
    second_password: str


def htpasswd_settings() -> dict[str, str]:
    """Return the settings of a registry that reads its accounts from ``/htpasswd``."""
    return {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "test",
        "REGISTRY_AUTH_HTPASSWD_PATH": "/htpasswd",
    }


def new_name(kind: str) -> str:
    """Return a host name that nothing else in the network has."""
    return f"{kind}-{secrets.token_hex(3)}"


def start_registry(
    stack: ExitStack,
    engine: Engine,
    environment: EnvironmentFile,
    *,
    name: str,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    authorization: str = "",
    tls: ssl.SSLContext | None = None,
) -> OwnRegistry:
    """Start a registry that ``stack`` removes.

    ``settings`` are distribution's own environment variables (REGISTRY_HTTP_TLS_KEY and so on), which override its
    configuration file key by key; ``files`` are placed into the container under their paths.
    """
    ours = {LABEL_RUN: environment.run, LABEL_CELL: environment.cell}
    query = [f"{key}={value}" for key, value in (ours | {LABEL_ROLE: "registry"}).items()]
    (shared,) = engine.api.containers.list(filters={"label": query})
    (network,) = shared.attrs["NetworkSettings"]["Networks"]
    endpoint: EndpointConfig = engine.api.api.create_endpoint_config(aliases=[name])
    container = engine.api.containers.create(
        shared.attrs["Image"],
        name=f"pyxis-matrix-{environment.run}-{environment.cell}-{name}",
        labels=labels(environment.run, environment.cell, "own-registry"),
        environment=dict(settings or {}),
        ports={f"{REGISTRY_PORT}/tcp": ("127.0.0.1", 0)},
        network=network,
        networking_config={network: endpoint},
    )
    stack.callback(engine.remove, container)
    inside = {_CONFIG: (paths.CONTAINERS / "registry" / "config.yml").read_bytes(), **(files or {})}
    engine.put(container, {path: InsideFile(content=content) for path, content in inside.items()})
    container.start()
    address = f"localhost:{engine.published_port(container, REGISTRY_PORT)}"
    wait_for(
        f"registry {name}",
        lambda: _answers(address, tls),
        limit=_READY_SECONDS,
        watched=Watched(alive=lambda: engine.alive(container), diagnose=lambda: engine.log_tail(container)),
    )
    return OwnRegistry(container=container, host_address=address, name=name, authorization=authorization, tls=tls)


def _answers(address: str, tls: ssl.SSLContext | None) -> int | NotYet:
    connection = (
        http.client.HTTPSConnection(address, timeout=5, context=tls)
        if tls
        else http.client.HTTPConnection(address, timeout=5)
    )
    try:
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return NotYet(str(error))
    finally:
        connection.close()
    return status if status in {200, 401} else NotYet(f"status {status}")


# -- jobs -----------------------------------------------------------------------------------------------------------


def srun(
    shell: Shell,
    reference: str,
    variables: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    files: tuple[str, ...] = (IMAGE_MARKER,),
) -> Completed:
    """Run a job step that reads files of the image, with these variables in the job's environment."""
    words = ["env", *(f"{name}={value}" for name, value in (variables or {}).items())]
    words += ["srun", f"--container-image={reference}", *options, "cat", *files]
    return shell.run_unchecked(shlex.join(words))


def runs(
    shell: Shell, reference: str, content: str, variables: Mapping[str, str] | None = None, *more_files: str
) -> Completed:
    """Expect that the image is pulled and that the job runs inside this very image.

    ``content`` is the image's marker, and what ``more_files`` hold, a line each.
    """
    done = srun(shell, reference, variables, files=(IMAGE_MARKER, *more_files))
    assert (done.status, done.stdout) == (0, f"{content}\n"), str(done)
    return done


def refused(
    shell: Shell, reference: str, variables: Mapping[str, str] | None = None, options: tuple[str, ...] = ()
) -> str:
    """Expect that the image can't be had and that nothing ran in its place; return what the user was told."""
    done = srun(shell, reference, variables, options)
    assert done.status != 0, str(done)
    assert done.stdout == "", str(done)
    assert "failed to import docker image" in done.stderr, str(done)
    return done.stderr


def let_jobs_choose_https(environment: EnvironmentFile) -> None:
    """Make the nodes' ENROOT_ALLOW_HTTP ask the job (see ``PLAIN_HTTP``); all other jobs notice nothing.

    The file is replaced in one step and always by the same text, so several workers may do this while jobs run; and it
    stays, for a worker that restored it would pull it from under the others. It ends with the environment's nodes.
    """
    value = f'$(test "${{{PLAIN_HTTP}-}}" = no || echo yes)'
    script = f"s#^ENROOT_ALLOW_HTTP.*#ENROOT_ALLOW_HTTP {value}#"
    for index in range(len(environment.containers)):
        command = f'f=$(grep -rl ^ENROOT_ALLOW_HTTP /etc/enroot) && test -n "$f" && sed -i {shlex.quote(script)} $f'
        done = Node.of(environment, index).run(command)
        assert done.status == 0, str(done)


def user_files(shell: Shell, files: Mapping[str, str]) -> str:
    """Write files into a new folder of the user's (on all nodes, below the shared home) and return its path."""
    writing = [f'printf %s {shlex.quote(text)} > "$folder"/{shlex.quote(name)}' for name, text in files.items()]
    script = " && ".join(['folder=$(mktemp -d "$HOME/registry-suite-XXXXXXXX")', *writing, 'echo "$folder"'])
    return shell.run(script).stdout.strip()
