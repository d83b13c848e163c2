"""The connection to the container engine. Where Docker and Podman differ, it hides the difference."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
import io
import os
from pathlib import Path
import tarfile
import time
from typing import TYPE_CHECKING, Any

from ci.engine import references
from ci.engine.build_client import BuildClient, find_build_client
from ci.engine.finding import FoundEngine, find_engine
from ci.engine.labels import LABEL
from ci.engine.refusals import asking
from ci.engine.removing import OwnObjects
from ci.errors import EngineError, LaunchError, NotOnEngineError, RefusedError
from ci.matrix.arch import Arch
from ci.terminal import console
from ci.terminal.processes import Completed

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container as Container  # noqa: PLC0414 - others import it from here
    from docker.models.images import Image as Image  # noqa: PLC0414
else:
    # Used in annotations only: docker-py takes 0.2 s to load, and most commands need no engine.
    Container = Image = object

# docker-py's default is 60 s, and an engine that stops many containers at once was seen to take longer.
_API_LIMIT_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class InsideFile:
    """A file to be copied into a container before it starts."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """The exit status and output of a command inside a container."""

    status: int
    output: str


@dataclass(frozen=True, kw_only=True)
class Engine(OwnObjects):
    """A connection to the engine that was found, and the client program that can build with it."""

    found: FoundEngine
    build_client: BuildClient

    @property
    def arch(self) -> Arch:
        """The architecture whose code this engine runs natively."""
        return Arch.parse(str(self.api.version()["Arch"]))

    def emulates(self, arch: Arch) -> bool:
        """Tell whether this engine needs an emulator for code of an architecture (see `ci.engine.emulation`)."""
        return self.arch is not arch

    def local_name(self, name: str) -> str:
        """Return the name by which the engine's API finds an image that was built by the client.

        Podman's client adds the host ``localhost`` to the names of images that it builds, and finds them without it.
        Podman's API looks for a name without a host at Docker Hub.
        """
        made_here = name.startswith(f"{LABEL}/")
        return f"localhost/{name}" if made_here and self.found.kind == "podman" else name

    def image(self, name: str) -> Image:
        """Return a local image; ``NotOnEngineError`` if there is none of that name."""
        with asking(f"looking at the image {name}"):
            return self.api.images.get(self.local_name(name))

    def image_exists(self, name: str) -> bool:
        """Tell whether the engine has an image of that name."""
        try:
            self.image(name)
        except NotOnEngineError:
            return False
        return True

    def tag(self, name: str, new: str) -> None:
        """Give a local image one more name."""
        repository, _, version = self.local_name(new).rpartition(":")
        with asking(f"giving {name} the name {new}"):
            self.api.images.get(self.local_name(name)).tag(repository, version)

    def import_root(self, archive: Path, name: str, changes: list[str]) -> str:
        """Make an image of a root file system in a tar archive, and return the engine's answer.

        :param changes: instructions of a Containerfile.
        """
        # The tag is part of the repository's name, because Podman ignores the API's own parameter for a tag.
        with asking(f"importing {name}"):
            return str(self.api.api.import_image(src=str(archive), repository=self.local_name(name), changes=changes))

    def push(self, reference: str) -> str | None:
        """Push an image to a registry: with the login that is kept for it, and to one on loopback without TLS.

        :return: the digest that was pushed, as the engine reports it; None with Podman, which reports none.
        :raises LaunchError: if pushing fails.
        """
        if self.found.kind == "podman":
            # By the client, because Podman's API wants https even on loopback unless it gets a parameter that docker-py
            # does not send. In Docker's format, because real enroot does not ask a registry for another one. The digest
            # is not known: a client of a remote Podman writes no --digestfile, and RepoDigests has the digest of
            # Podman's own copy, which is compressed differently.
            done = self.run_client("push", *references.podman_words(reference), "--format=v2s2", reference)
            done.check(LaunchError, f"pushing {reference} failed")
            return None
        repository, _, tag = reference.rpartition(":")
        found = ""
        with asking(f"pushing {reference}"):
            # The API answers 200 before it pushes: a refusal is a line, {"error": …}; so is the digest, near the end:
            # {"aux": {"Tag": "1", "Digest": "sha256:…"}}.
            for line in self.api.images.push(repository, tag=tag, stream=True, decode=True):
                if "error" in line:
                    raise LaunchError(f"pushing {reference} failed", why=str(line["error"]))
                found = line.get("aux", {}).get("Digest", found)
        return found

    def run_client(self, *words: str, log: Path | None = None) -> Completed:
        """Run the client that can build, pointed to this engine; its output is also added to ``log``."""
        command = [str(self.build_client.path), *words]
        return console.call(command, env={**os.environ, **self.build_client.environment}, log=log)

    def with_whole_proc(self, host_config: dict[str, Any]) -> dict[str, Any]:
        """Return a container's ``HostConfig`` with no path of /proc masked; docker-py has no parameter for that."""
        if self.found.kind == "podman":
            return {**host_config, "SecurityOpt": [*(host_config.get("SecurityOpt") or ()), "unmask=ALL"]}
        # The same as --security-opt systempaths=unconfined of the docker client.
        return {**host_config, "MaskedPaths": [], "ReadonlyPaths": []}

    def check_gpus(self) -> None:
        """Refuse GPUs if the engine would silently start a container without them."""
        if self.found.kind == "podman":
            raise EngineError(
                "GPUs cannot be used with Podman",
                where=f"{self.found.url} (Podman {self.found.version})",
                why="its Docker API ignores a request for GPUs",
                next_step="leave --gpus out, or use Docker",
            )

    def pull(self, reference: str, platform: str) -> bool:
        """Pull an image; False if the registry does not answer or does not have it."""
        with suppress(RefusedError), asking(f"pulling {reference}"):
            self.api.images.pull(reference, platform=platform)
            return True
        return False

    def registry_digest(self, reference: str) -> str | None:
        """Return the digest that a registry has for a name now; None if no registry has one."""
        with suppress(RefusedError), asking(f"looking up {reference}"):
            return str(self.api.images.get_registry_data(reference).id)
        return None

    def run_image(self, image: str, script: str, labels: Mapping[str, str]) -> str:
        """Run a shell script in a container of an image, without a network, and return its output."""
        with asking(f"running a command in the image {image}"):
            output: bytes = self.api.containers.run(
                self.local_name(image),
                ["-c", script],
                entrypoint="/bin/sh",
                remove=True,
                labels=dict(labels),
                network_disabled=True,
            )
        return output.decode(errors="replace")

    def copy_into(self, container: Container, files: Mapping[str, InsideFile]) -> None:
        """Copy files into a container, running or not; works with a remote engine, too, unlike a mount."""
        with asking(f"copying files into {container.name}"):
            # Folders that are missing are made, for root.
            container.put_archive("/", packed(files))

    def run_inside(
        self,
        container: Container,
        command: list[str],
        *,
        user: str = "root",
        environment: Mapping[str, str] | None = None,
    ) -> ExecResult:
        """Run a command inside a running container."""
        with asking(f"running {command[0]} in {container.name}"):
            result = container.exec_run(command, user=user, environment=dict(environment or {}))
        if result.exit_code is None:
            raise LaunchError(
                "the engine did not report how a command ended",
                where=f"{' '.join(command)} in {container.name}",
                why="the engine returned no exit status; treated as a failure",
                next_step=f"docker logs {container.name}",
            )
        output = result.output if isinstance(result.output, bytes) else b""
        return ExecResult(status=result.exit_code, output=output.decode(errors="replace"))

    def published_port(self, container: Container, inside: int) -> int:
        """Return the port on the host's loopback that leads to a port of the container."""
        with asking(f"looking for the ports of {container.name}"):
            container.reload()
        # After the reload: docker-py keeps what it saw last, and a container has no ports before it runs.
        bindings: list[dict[str, str]] | None = container.ports.get(f"{inside}/tcp")
        if not bindings:
            raise LaunchError(
                f"port {inside} of {container.name} is not published",
                why=f"the container is {container.status}",
                next_step=f"docker logs {container.name}",
            )
        return int(bindings[0]["HostPort"])

    def alive(self, container: Container) -> bool | str:
        """Return True while a container runs, else how it ended, as a sentence."""
        try:
            with asking(f"looking at {container.name}"):
                container.reload()
        except NotOnEngineError:
            return "the container has been removed"
        state = container.attrs["State"]
        if state["Running"]:
            return True
        detail = f" ({state['Error']})" if state.get("Error") else ""
        return f"the container ended with exit code {state['ExitCode']}{detail}"

    def log_tail(self, container: Container, lines: int = 20) -> str:
        """Return the last lines that a container wrote; empty if it is removed."""
        with suppress(RefusedError), asking(f"reading the log of {container.name}"):
            return bytes(container.logs(tail=lines)).decode(errors="replace")
        return ""


def packed(files: Mapping[str, InsideFile]) -> bytes:
    """Return files, by their absolute paths, as a tar archive that an engine can unpack in a container."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            # A tar entry without a time is of 1970.
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
            entry.uid, entry.gid = file.uid, file.gid
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def client(environ: Mapping[str, str]) -> "docker.DockerClient":
    """Return docker-py's client for the engine that the variables of the docker client name."""
    import docker

    return docker.from_env(environment=dict(environ), timeout=_API_LIMIT_SECONDS)


def connect() -> Engine:
    """Find an engine and a client that can build, and connect; ``EngineError`` says what is missing."""
    found = find_engine()
    build_client = find_build_client(engine=found)
    try:
        with asking("the first question"):
            api = client(found.environment)
            api.ping()
    except RefusedError as error:
        raise EngineError(
            "the container engine does not answer", where=found.url, why=error.why, next_step="docker info"
        ) from error
    return Engine(api=api, found=found, build_client=build_client)
