"""Registries of a test's own, and jobs that pull from them.

Such a registry runs beside the environment's: same image, same network, and the same labels, so that whatever takes the
environment down takes it down too. The host, which pushes, reaches it on a published loopback port; the nodes, which
pull, reach it by its name in the network.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
import re
import secrets
import shlex
from typing import TYPE_CHECKING, Any

import trustme

from ci.engine.connection import Engine, InsideFile
from ci.engine.labels import LABEL_CELL, LABEL_ROLE, LABEL_RUN
from ci.environment import registry
from ci.environment.registry_client import Auth
from ci.environment.service import Place
from ci.environment.ssh import RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Cell, engine_name
from tests.support.cluster import Node, Shell
from tests.support.expectations import differs
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import Image, Pushed, push
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

if TYPE_CHECKING:
    from docker.models.containers import Container

# ENROOT_ALLOW_HTTP is the administrator's: Pyxis keeps a job from setting it, and the environment's nodes have it on.
# For a job of this suite the node's file asks this variable instead; for every other job its answer is still yes.
PLAIN_HTTP = "PYXIS_MATRIX_PLAIN_HTTP"
HTTPS_ONLY = {PLAIN_HTTP: "no"}

NOT_IMPORTED = "failed to import docker image"
"""What Pyxis says of every import that failed."""

# Everything that needs a token lies in one repository: a token opens exactly the one that it names.
TOKEN_REPOSITORY = "guarded/img"  # noqa: S105 - a repository's name


@dataclass(frozen=True, kw_only=True)
class OwnRegistry:
    """A registry that a test or a suite started for itself."""

    container: "Container"
    name: str
    """Its host name on the nodes; what credentials are filed under."""
    client: RegistryClient
    """How this process reaches it, with the right to push."""

    @property
    def node_address(self) -> str:
        """Where jobs pull from."""
        return f"{self.name}:{registry.PORT}"

    def wrong_passwords(self, image: Pushed) -> list[str]:
        """Return the users that the registry turned away from an image for their passwords, by its own log.

        Who has no name is none of them: skopeo logs in as nobody where it knows nobody.
        """
        asked = rf'uri="?/v2/{image.repository}/manifests/{image.tag}"? '
        refusal = re.compile(rf'error authenticating user \\"([^"\\]+)\\".* http.request.{asked}')
        return sorted({match[1] for line in self._log() if (match := refusal.search(line))})

    def statuses(self, image: Pushed) -> set[int]:
        """Return the statuses with which the registry answered the jobs that asked for an image, by its own log."""
        request = re.compile(rf'"(?:HEAD|GET) /v2/{image.repository}/manifests/{image.tag} HTTP/[^"]*" (\d+) ')
        lines = [line for line in self._log() if "python-requests" not in line]  # which is this process
        return {int(match[1]) for line in lines if (match := request.search(line))}

    def _log(self) -> list[str]:
        return self.container.logs().decode(errors="replace").splitlines()

    def push(self, repository: str, tag: str, *images: Image, **how: Any) -> Pushed:  # noqa: ANN401 - see ``push``
        """Push images and return them under the address that the nodes know."""
        return push(self.client, repository, tag, *images, **how).at(self.node_address)


@dataclass(frozen=True, kw_only=True)
class Marked:
    """An image, not pushed yet, and what only it holds."""

    image: Image
    marker: str


@dataclass(frozen=True, kw_only=True)
class TlsRegistry:
    """A registry behind https, and the authority that signed its certificate."""

    registry: OwnRegistry
    authority: trustme.CA

    @property
    def trust(self) -> str:
        """The authority's certificate as a file's text."""
        return self.authority.cert_pem.bytes().decode()


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


@dataclass(frozen=True, kw_only=True)
class Registries:
    """Starts registries beside the environment's own; ``stack`` removes them."""

    stack: ExitStack
    engine: Engine
    environment: EnvironmentFile

    def start(
        self,
        name: str,
        *,
        settings: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        auth: Auth | None = None,
        ca_bundle: Path | None = None,
    ) -> OwnRegistry:
        """Start a registry that the nodes know as ``name``, and wait until it answers.

        ``settings`` are distribution's own environment variables (REGISTRY_HTTP_TLS_KEY and so on), which override its
        configuration file key by key; ``files`` are placed into the container under their paths. ``auth`` and
        ``ca_bundle`` are for the client.
        """
        run, cell = self.environment.run, self.environment.cell
        image, network = self._shared()
        usual = registry.planned(image, engine_name(f"pyxis-matrix-{run}-{cell}-{name}"), hostname=name)
        inside = {path: InsideFile(content=content) for path, content in (files or {}).items()}
        wanted = replace(usual, role="own-registry", environment=dict(settings or {}), files={**usual.files, **inside})
        session = self.environment.session
        place = Place(engine=self.engine, stack=self.stack, run=run, cell=cell, network=network, session=session)
        started = registry.start(place, wanted, ca_bundle)
        client = RegistryClient(started.address, auth=auth, ca_bundle=ca_bundle)
        return OwnRegistry(container=started.container, name=name, client=client)

    def _shared(self) -> tuple[str, str]:
        """Return image and network of the environment's registry."""
        asked = {LABEL_RUN: self.environment.run, LABEL_CELL: self.environment.cell, LABEL_ROLE: "registry"}
        query = [f"{key}={value}" for key, value in asked.items()]
        (shared,) = self.engine.api.containers.list(filters={"label": query})
        (network,) = shared.attrs["NetworkSettings"]["Networks"]
        return shared.attrs["Image"], network


# -- jobs -----------------------------------------------------------------------------------------------------------


def srun_unchecked(
    shell: Shell,
    reference: str,
    variables: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    files: tuple[str, ...] = (IMAGE_MARKER,),
) -> RemoteAnswer:
    """Run a job step that reads files of the image, with these variables in the job's environment; see what comes."""
    words = ["env", *(f"{name}={value}" for name, value in (variables or {}).items())]
    words += ["srun", shell.here, f"--container-image={reference}", *options, "cat", *files]
    return shell.run_unchecked(shlex.join(words))


def runs(
    shell: Shell, reference: str, content: str, variables: Mapping[str, str] | None = None, *more_files: str
) -> RemoteAnswer:
    """Expect that the image is pulled and that the job runs inside this very image.

    ``content`` is the image's marker, and what ``more_files`` hold, a line each.
    """
    done = srun_unchecked(shell, reference, variables, files=(IMAGE_MARKER, *more_files))
    assert done.status == 0, str(done)
    first, *rest = content.splitlines()
    assert behind(done, first, f"inside {reference}") == rest, str(done)
    return done


def refused(
    shell: Shell, reference: str, says: str, variables: Mapping[str, str] | None = None, options: tuple[str, ...] = ()
) -> str:
    """Expect that the import failed, that nothing ran in its place, and that the user is told why; return all of it.

    ``says`` are words of Pyxis or enroot for this very reason. Where they have none (it is curl or tar that speaks),
    `NOT_IMPORTED` is what is said, and the test shows by a second step that the image runs without the reason.
    """
    done = srun_unchecked(shell, reference, variables, options)
    assert not imported(done), str(done)
    assert says in done.stderr, f"it does not say {says!r}: {done}"
    return done.stderr


def imported(done: RemoteAnswer) -> bool:
    """Tell whether an image was imported and a step ran; if not, its import failed, and nothing ran in its place."""
    if done.status != 0:
        assert done.stdout == "", str(done)
        assert NOT_IMPORTED in done.stderr, str(done)
    return done.status == 0


def asks_as(cell: Cell, user: str = "") -> str:
    """Return what is said when a registry turns a user away; one without a name is anonymous."""
    if differs(cell, "words of a registry that refuses"):
        return "the registry turned the account away"
    return f"Authenticating with user: {user or '<anonymous>'}"


def let_jobs_choose_https(environment: EnvironmentFile) -> None:
    """Make the nodes' ENROOT_ALLOW_HTTP ask the job (see ``PLAIN_HTTP``); all other jobs notice nothing.

    The file is replaced in one step and always by the same text, so several workers may do this while jobs run; and it
    stays, for a worker that restored it would pull it from under the others. It ends with the environment's nodes.
    """
    value = f'$(test "${{{PLAIN_HTTP}-}}" = no || echo yes)'
    script = f"s#^ENROOT_ALLOW_HTTP.*#ENROOT_ALLOW_HTTP {value}#"
    for index in range(len(environment.containers)):
        command = f'f=$(grep -rl ^ENROOT_ALLOW_HTTP /etc/enroot) && test -n "$f" && sed -i {shlex.quote(script)} $f'
        Node.of(environment, index).run(command)


def user_files(shell: Shell, files: Mapping[str, str]) -> str:
    """Write files into a new folder of the user's (on all nodes, below the shared home) and return its path."""
    writing = [f'printf %s {shlex.quote(text)} > "$folder"/{shlex.quote(name)}' for name, text in files.items()]
    script = " && ".join(['folder=$(mktemp -d "$HOME/registry-suite-XXXXXXXX")', *writing, 'echo "$folder"'])
    return shell.run(script).stdout.strip()
