"""Find a command-line client on PATH that can build with BuildKit.

The first ``docker`` on PATH may not be able to: since version 23 it needs its buildx plugin, which is a package of its
own, while an older client further back on PATH has BuildKit built in. Tools under test call ``docker build``
themselves, so they need a client that works.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
import shlex
import subprocess
import sys

from ci.engine.distribution import Distro, install_advice
from ci.engine.finding import EngineKind, FoundEngine, version_number
from ci.errors import EngineError

# From 23 on `docker build` is the plugin's; from 18.09 on the client itself builds by BuildKit, if DOCKER_BUILDKIT=1.
_NEEDS_BUILDX = (23, 0)
_BUILDKIT_BUILT_IN = (18, 9)
_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class BuildClient:
    """A client that can build with BuildKit (or Podman's own builder)."""

    path: Path
    kind: EngineKind
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """Its environment variables: they make it build with BuildKit, and point it to the engine that was found."""

    def link_into(self, folder: Path) -> Path:
        """Link the client into a folder that is to be first on PATH, and return its path there.

        Podman is linked as ``docker``, too: a tool that runs ``docker`` must not find the client of another engine.
        """
        folder.mkdir(exist_ok=True)
        client = folder / self.kind
        client.unlink(missing_ok=True)
        client.symlink_to(self.path)
        if self.kind == "podman":
            # A script and no link: Podman prints the name by which it was called, and tools recognise it by that.
            docker = folder / "docker"
            docker.write_text(f'#!/bin/sh\nexec {shlex.quote(str(client))} "$@"\n', encoding="utf-8")
            docker.chmod(0o755)
        return client


def find_build_client(
    env: Mapping[str, str] = os.environ, *, engine: FoundEngine | None = None, kind: EngineKind | None = None
) -> BuildClient:
    """Return the first client on PATH that can build: every ``docker`` in order, then every ``podman``.

    With ``engine``, only a client of that engine's kind is taken (an image that Podman built is not in Docker's store),
    and its environment points to that engine. ``kind`` names the kind of client when there is no engine yet. Raises
    ``EngineError`` with the packages to install if there is no client.
    """
    kind = engine.kind if engine else kind
    refused: list[str] = []
    # Each of them, not the first alone: one without its plugin may stand before one that has it.
    for name in ("docker", "podman"):
        for path in executables_on_path(name, env.get("PATH", os.defpath)):
            client = examine(path)
            if isinstance(client, str):
                refused.append(f"{path}: {client}")
            elif kind and client.kind != kind:
                refused.append(f"{path}: a client of {client.kind}, not of {kind}")
            else:
                return _pointed_to(client, engine)
    distro = Distro.of_this_machine()
    raise EngineError(
        "no docker or podman client on PATH can build images with BuildKit",
        where="; ".join(refused) or "neither docker nor podman is on PATH",
        why="a docker client from version 23 on needs its buildx plugin",
        next_step=install_advice(distro, system=sys.platform, packages=distro.client_packages(kind or "docker")),
    )


def examine(path: Path) -> BuildClient | str:
    """Return the client at ``path``, or the reason why it can't build."""
    status, text = run_probe((str(path), "--version"))
    version = _version_word(text)
    number = version_number(version)
    if status != 0 or number is None:
        return "does not print its version"
    if "podman" in text.lower():  # also Debian's podman-docker, which is called docker
        # Podman's default is OCI's format, and real enroot does not ask a self-hosted registry for that one
        # (NVIDIA/enroot PR 273).
        return BuildClient(path=path, kind="podman", version=version, environment={"BUILDAH_FORMAT": "docker"})
    if number >= _NEEDS_BUILDX and run_probe((str(path), "buildx", "version"))[0] != 0:
        return f"version {version} without its buildx plugin"
    if number < _BUILDKIT_BUILT_IN:
        return f"version {version} is too old for BuildKit"
    # Newer clients get the variable, too: with it they fail instead of falling back silently to the classic builder.
    return BuildClient(path=path, kind="docker", version=version, environment={"DOCKER_BUILDKIT": "1"})


def executables_on_path(name: str, search_path: str) -> list[Path]:
    """Return all executables called ``name`` on ``search_path``, in order, each file once."""
    found: dict[Path, Path] = {}
    for folder in filter(None, search_path.split(os.pathsep)):
        path = Path(folder) / name
        if os.access(path, os.X_OK) and path.is_file():
            # By the file itself: /bin is a link to /usr/bin on most systems.
            found.setdefault(path.resolve(), path)
    return list(found.values())


def run_probe(command: tuple[str, ...]) -> tuple[int, str]:
    """Run a client and return its status and output; 127 if it does not start, or does not end within 30 s."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout + done.stderr


def _version_word(text: str) -> str:
    """Return "20.10.24+dfsg1" of "Docker version 20.10.24+dfsg1, build 297e128"."""
    _, _, rest = text.partition("version ")
    return rest.split(",")[0].split()[0] if rest.split() else ""


def _pointed_to(client: BuildClient, engine: FoundEngine | None) -> BuildClient:
    if engine is None:
        return client
    # Podman's client reads CONTAINER_HOST in place of DOCKER_HOST.
    target = engine.environment if client.kind == "docker" else {"CONTAINER_HOST": engine.url}
    return replace(client, environment={**client.environment, **target})
