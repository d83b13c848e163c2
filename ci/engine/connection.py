"""The connection to the container engine, and the labels on everything that is created there.

All objects that this project creates have the labels below. ``reap`` finds them by label alone, so that leftovers of a
killed run can always be removed, and objects of others are never touched.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
import io
import os
from pathlib import Path
import tarfile
import time
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import ReadTimeout, RequestException

from ci.engine.build_client import BuildClient, find_build_client
from ci.engine.finding import FoundEngine, find_engine
from ci.errors import DiskFullError, EngineError, LaunchError, PyxisMatrixError, disk_is_full
from ci.matrix.arch import Arch
from ci.terminal import console

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.images import Image

LABEL = "pyxis-matrix"
LABEL_RUN = f"{LABEL}.run"
LABEL_CELL = f"{LABEL}.cell"
LABEL_ROLE = f"{LABEL}.role"
LABEL_NAME = f"{LABEL}.name"
"""A name that somebody chose for an object: an image's own, or the second host name of a registry."""
LABEL_ORIGIN = f"{LABEL}.origin"
"""Of a base image: where it comes from, and when."""
LABEL_CONTENT = f"{LABEL}.content"
"""Of an image that was built: the hash of everything that went in."""

LABEL_SCRATCH = f"{LABEL}.scratch"
"""Of a container: a folder in it, on a volume of its own, of which nothing is needed when the container goes."""

# Stopping many containers at once can take long; the default of requests is 60 s.
_API_LIMIT_SECONDS = 120
# An engine answers when a volume's files are gone; those of many containers take a busy machine longer than that.
_REQUESTS_FOR_A_VOLUME = 5
# An engine removes a volume's files one by one. On a disk that is told of each at once (the mount option `discard`)
# most of that is waiting: 60,000 files took it 6.5 to 9.7 s, and sixteen processes 2.9 to 4.0.
_EMPTY = 'find "$0" -xdev ! -type d -print0 | xargs -0 -r -n 256 -P 16 rm -f'
_EMPTY_SECONDS = 100
"""Less than a request may last; what is left then goes with the volume."""


def labels(run: str, cell_id: str, role: str) -> dict[str, str]:
    """Return the labels of an object that belongs to ``run`` and ``cell_id``."""
    return {LABEL: "1", LABEL_RUN: run, LABEL_CELL: cell_id, LABEL_ROLE: role}


@dataclass(frozen=True, kw_only=True)
class InsideFile:
    """A file to be copied into a container before it starts."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command inside a container answered."""

    status: int
    output: str


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A connection to the engine that was found, and the client program that can build with it."""

    api: docker.DockerClient
    found: FoundEngine
    build_client: BuildClient

    @property
    def arch(self) -> Arch:
        """The architecture whose code this engine runs natively."""
        return Arch.parse(str(self.api.version()["Arch"]))

    def emulates(self, arch: Arch) -> bool:
        """Tell whether this engine runs code of an architecture by an emulator only (see `ci.engine.emulation`)."""
        return self.arch is not arch

    def local_name(self, name: str) -> str:
        """Return the name under which the engine's API knows an image; those that this project makes have two.

        Podman's client puts what it builds under the host ``localhost``, and finds it without. Podman's API takes a
        name without a host for one of Docker Hub.
        """
        made_here = name.startswith(f"{LABEL}/")
        return f"localhost/{name}" if made_here and self.found.kind == "podman" else name

    def image(self, name: str) -> "Image":
        """Return a local image; docker-py's ``ImageNotFound`` if there is none of that name."""
        return self.api.images.get(self.local_name(name))

    def image_exists(self, name: str) -> bool:
        """Tell whether the engine has an image of that name."""
        try:
            self.image(name)
        except ImageNotFound:
            return False
        return True

    def import_root(self, archive: Path, name: str, changes: list[str]) -> str:
        """Make an image of a root that is packed as a tar archive, and return the engine's answer.

        :param changes: instructions of a Containerfile.
        """
        # The tag is part of the repository's name: Podman ignores a tag that is given by itself.
        return str(self.api.api.import_image(src=str(archive), repository=self.local_name(name), changes=changes))

    def push(self, reference: str) -> None:
        """Push an image to a registry on loopback, which speaks plain http; ``LaunchError`` if that fails."""
        if self.found.kind == "podman":
            # Its API wants https even there. It can be told otherwise, but not by docker-py. Images that are not in
            # Docker's format are not what real enroot asks a registry for.
            command = [str(self.build_client.path), "push", "--tls-verify=false", "--format=v2s2", reference]
            done = console.call(command, env={**os.environ, **self.build_client.environment})
            done.check(LaunchError, f"pushing {reference} failed")
            return
        repository, _, tag = reference.rpartition(":")
        for line in self.api.images.push(repository, tag=tag, stream=True, decode=True):
            if "error" in line:
                raise LaunchError(f"pushing {reference} failed", why=str(line["error"]))

    def with_whole_proc(self, host_config: dict[str, Any]) -> dict[str, Any]:
        """Return a container's ``HostConfig`` with no path of /proc masked, which docker-py can't ask for."""
        if self.found.kind == "podman":
            return {**host_config, "SecurityOpt": [*(host_config.get("SecurityOpt") or ()), "unmask=ALL"]}
        # The same as --security-opt systempaths=unconfined of the docker client.
        return {**host_config, "MaskedPaths": [], "ReadonlyPaths": []}

    def check_gpus(self) -> None:
        """Refuse GPUs where the engine would start a container without them and say nothing."""
        if self.found.kind == "podman":
            raise EngineError(
                "Podman does not pass on GPUs here",
                where=f"{self.found.url} (Podman {self.found.version})",
                why="its Docker API ignores a request for GPUs",
                next_step="leave --gpus out, or use Docker",
            )

    def pull(self, reference: str, platform: str) -> bool:
        """Pull an image; False if the registry does not answer or does not have it."""
        try:
            self.api.images.pull(reference, platform=platform)
        except (APIError, RequestException):
            return False
        return True

    def registry_digest(self, reference: str) -> str | None:
        """Return the digest that a registry has under a name now; None where none answers for it."""
        try:
            return str(self.api.images.get_registry_data(reference).id)
        except (APIError, RequestException):
            return None

    def put(self, container: "Container", files: Mapping[str, InsideFile]) -> None:
        """Copy files into a container, running or not; works with a remote engine, too."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, file in sorted(files.items()):
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
                entry.uid, entry.gid = file.uid, file.gid
                archive.addfile(entry, io.BytesIO(file.content))
        container.put_archive("/", buffer.getvalue())

    def ask(
        self,
        container: "Container",
        command: list[str],
        *,
        user: str = "root",
        environment: Mapping[str, str] | None = None,
    ) -> Answer:
        """Run a command inside a running container and return what it answered."""
        result = container.exec_run(command, user=user, environment=dict(environment or {}))
        if result.exit_code is None:
            raise LaunchError(
                "the engine does not say how a command ended",
                where=f"{' '.join(command)} in {container.name}",
                why="it gave no exit status, and none is not success",
                next_step=f"docker logs {container.name}",
            )
        output = result.output if isinstance(result.output, bytes) else b""
        return Answer(status=result.exit_code, output=output.decode(errors="replace"))

    def published_port(self, container: "Container", inside: int) -> int:
        """Return the host's loopback port behind which the container's port answers."""
        container.reload()
        bindings: list[dict[str, str]] | None = container.ports.get(f"{inside}/tcp")
        if not bindings:
            raise LaunchError(
                f"port {inside} of {container.name} is not published",
                why=f"the container is {container.status}",
                next_step=f"docker logs {container.name}",
            )
        return int(bindings[0]["HostPort"])

    def aliases(self, network: str, alias: str) -> dict[str, Any]:
        """Return docker-py's ``networking_config`` that gives a container a second name in a network."""
        return {network: self.api.api.create_endpoint_config(aliases=[alias])}

    def alive(self, container: "Container") -> bool | str:
        """Return True while a container runs, else how it ended, as a sentence."""
        try:
            container.reload()
        except NotFound:
            return "the container has been removed"
        state = container.attrs["State"]
        if state["Running"]:
            return True
        detail = f" ({state['Error']})" if state.get("Error") else ""
        return f"the container ended with exit code {state['ExitCode']}{detail}"

    def log_tail(self, container: "Container", lines: int = 20) -> str:
        """Return the last lines that a container wrote; empty if it is removed."""
        try:
            return bytes(container.logs(tail=lines)).decode(errors="replace")
        except (APIError, RequestException):
            return ""

    def remove(self, container: "Container") -> None:
        """Kill and remove a container with its anonymous volumes."""
        _gone(container.name or "", lambda: _kill_and_remove(container))

    def remove_volume(self, name: str) -> None:
        """Remove a volume."""
        _gone(name, lambda: self.api.api.remove_volume(name, force=True), requests=_REQUESTS_FOR_A_VOLUME)

    def remove_network(self, name: str) -> None:
        """Remove a network."""
        _gone(name, lambda: self.api.api.remove_network(name))

    def reap(self, filters: Mapping[str, str] | None = None) -> list[str]:
        """Remove every container, network and volume of this project (with the given labels); return their names."""
        return reap(self.api, filters)

    def untag(self, prefix: str) -> list[str]:
        """Remove the local images whose names start with ``prefix``: those that were pushed to a run's registry."""
        return untag(self.api, prefix)

    def untag_exactly(self, name: str) -> None:
        """Remove one name of a local image."""
        _gone(name, lambda: self.api.images.remove(name))


def names_below(
    api: docker.DockerClient, prefix: str, kinds: tuple[str, ...] = ("RepoTags", "RepoDigests")
) -> list[str]:
    """Return the names of local images that start with ``prefix``, those with a tag before those with a digest."""
    # The plain list: docker-py's objects would look up each image again, and others may remove some meanwhile.
    images: list[dict[str, Any]] = api.api.images()
    names: list[str] = [name for kind in kinds for image in images for name in image.get(kind) or ()]
    return [name for name in names if name.startswith(prefix)]


def untag(api: docker.DockerClient, prefix: str) -> list[str]:
    """Remove the local images whose names start with ``prefix``; return the names."""
    removed = []
    # Digests too: an image whose tag was moved to a newer one has only its digest. They are asked for when the tags are
    # gone: Podman's go with them, and it takes one of an image that has other names for the whole image.
    for kind in ("RepoTags", "RepoDigests"):
        for name in names_below(api, prefix, (kind,)):
            removed += _gone(name, lambda it=name: api.images.remove(it, noprune=False))
    return removed


def left(api: docker.DockerClient) -> list[str]:
    """Return the names of all containers, networks and volumes with this project's label."""
    query: dict[str, Any] = {"label": f"{LABEL}=1"}
    found = [it.name or it.id or "" for it in api.containers.list(all=True, filters=query, ignore_removed=True)]
    found += [it.name or "" for it in api.networks.list(filters=query)]
    return found + [it.name for it in api.volumes.list(filters=query)]


def reap(api: docker.DockerClient, filters: Mapping[str, str] | None = None) -> list[str]:
    """Remove every container, network and volume with this project's label (and the given ones); return their names.

    With a registry, the local names of what was pushed to it are removed, too. It is safe to call this twice, and while
    another process removes the same objects.
    """
    # One label is asked for, and the others are looked at here: of several, one is enough for Podman's volumes, and too
    # much for its images.
    query: dict[str, Any] = {"label": f"{LABEL}=1"}

    def wanted(labels: Mapping[str, str] | None) -> bool:
        return (filters or {}).items() <= (labels or {}).items()

    removed = []
    containers = api.containers.list(all=True, filters=query, ignore_removed=True)
    for container in (it for it in containers if wanted(it.labels)):
        # Only a running registry has a port; images were pushed only to one that ran.
        if container.labels.get(LABEL_ROLE) == "registry":
            ports = [binding["HostPort"] for bindings in container.ports.values() for binding in bindings or ()]
            hosts = {"localhost", container.labels.get(LABEL_NAME, "localhost")}
            removed += [tag for port in ports for host in hosts for tag in untag(api, f"{host}:{port}/")]
        removed += _gone(container.name or container.id or "", lambda it=container: _kill_and_remove(it))
    images = api.api.images(filters=query)  # as in `names_below`
    for name in (_own_name(it) for it in images if wanted(it.get("Labels"))):
        removed += _gone(name, lambda it=name: api.images.remove(it)) if name else []
    for network in (it for it in api.networks.list(filters=query) if wanted(it.attrs.get("Labels"))):
        removed += _gone(network.name or "", network.remove)
    for volume in (it for it in api.volumes.list(filters=query) if wanted(it.attrs.get("Labels"))):
        removed += _gone(volume.name, lambda it=volume: it.remove(force=True), requests=_REQUESTS_FOR_A_VOLUME)
    return removed


def _own_name(image: Mapping[str, Any]) -> str:
    """Return the name that a run gave to an image; empty for one that is built upon such, and inherits the label."""
    name: str = (image.get("Labels") or {}).get(LABEL_NAME, "")
    # Podman says the whole name.
    return name if {name, f"docker.io/{name}", f"docker.io/library/{name}"} & set(image.get("RepoTags") or ()) else ""


def connect() -> Engine:
    """Find an engine and a client that can build, and connect; ``EngineError`` says what is missing."""
    found = find_engine()
    build_client = find_build_client(engine=found)
    try:
        api = docker.from_env(environment=dict(found.environment), timeout=_API_LIMIT_SECONDS)
        api.ping()
    except (DockerException, RequestException) as error:
        raise EngineError(
            "the container engine does not answer", where=found.url, why=str(error), next_step="docker info"
        ) from error
    return Engine(api=api, found=found, build_client=build_client)


def explain(error: Exception, doing: str) -> PyxisMatrixError:
    """Turn an error that docker-py raised while ``doing`` something into one of ours, with the next command."""
    text = str(getattr(error, "explanation", None) or error)
    if disk_is_full(text):
        return DiskFullError(f"the disk filled up while {doing}", why=text, next_step="docker system df")
    return LaunchError(f"the engine refused: {doing}", why=text, next_step="docker info")


def _kill_and_remove(container: "Container") -> None:
    if folder := container.labels.get(LABEL_SCRATCH):
        _empty(container, folder)
    # Removing it by force is enough for Docker; Podman first asks it to end, and waits ten seconds for that.
    with suppress(APIError):  # it does not run
        container.kill()
    container.remove(force=True, v=True)


def _empty(container: "Container", folder: str) -> None:
    """Remove the files below a folder of a container; what that leaves goes with the folder's volume."""
    with suppress(APIError, RequestException):  # it does not run, or answers no more
        container.exec_run(["timeout", str(_EMPTY_SECONDS), "sh", "-c", _EMPTY, folder], user="root")


def _gone(name: str, remove: Any, *, requests: int = 1) -> list[str]:  # noqa: ANN401 - docker-py's methods are untyped
    """Remove one object; it may be gone, or another process may be removing it.

    If that fails, warn and go on.

    :param requests: how many may go without an answer before it has failed.
    """
    problem: Exception | None = None
    for _ in range(5):
        try:
            remove()
        except NotFound:
            return [name] if isinstance(problem, ReadTimeout) else []
        except APIError as error:
            problem = error
            if error.status_code not in {409, 500, 403}:  # in use by a container that is being removed
                break
            time.sleep(0.2)
        except RequestException as error:
            problem = error
            requests -= 1
            if not requests or not isinstance(error, ReadTimeout):  # one that can't be asked can't be the next time
                break
        else:
            return [name]
    console.warn(f"{name} could not be removed: {problem}")
    return []
