"""Find the container engine of this machine, and check that it answers.

The order is that of the docker client: ``DOCKER_HOST``, then the docker context (``DOCKER_CONTEXT``, ``currentContext``
of its configuration), then the sockets of the usual engines. If the user names an engine, only that one is tried.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import hashlib
import http.client
import json
import os
from pathlib import Path
import re
import socket
import ssl
import sys
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from ci.engine.distribution import Distro, install_advice
from ci.errors import EngineError, EngineMissingError, set_up

EngineKind = Literal["docker", "podman"]

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
MINIMUM: Mapping[EngineKind, tuple[int, int]] = {"docker": (20, 10), "podman": (4, 0)}
"""Docker 20.10 is the first with cgroup v2 and a full BuildKit; Podman 4.0 the first with netavark's networks."""

_TIMEOUT_S = 10.0
_TCP_PORT, _TLS_PORT = 2375, 2376  # Docker's, where an address names none
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, kw_only=True)
class EngineAddress:
    """A place where an engine may answer."""

    url: str
    source: str
    """Where the address was found, for messages."""
    explicit: bool
    """Whether the user named it; then no other place is tried."""
    tls: Path | None = None
    """The folder with ca.pem, cert.pem and key.pem for an engine that wants TLS."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An engine's answers: the JSON documents of ``/version`` and ``/info``."""

    version: Mapping[str, Any]
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FoundEngine:
    """A container engine that answers and is new enough."""

    url: str
    version: str
    kind: EngineKind
    data_root: Path | None = None
    """Its folder for images and containers, as a path on the engine's machine."""
    tls: Path | None = None

    @property
    def local(self) -> bool:
        """Whether a port that it publishes on loopback is reachable from here."""
        return self.url.startswith("unix://") or (urlsplit(self.url).hostname or "") in _LOOPBACK

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point docker-py and the docker client to this engine."""
        variables = {"DOCKER_HOST": self.url}
        if self.tls:
            variables |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(self.tls)}
        return variables


def read_text(path: Path) -> str | None:
    """Return a file's text; ``None`` if it is missing or not readable."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def find_engine(env: Mapping[str, str] = os.environ) -> FoundEngine:
    """Return the first engine that answers.

    :raises EngineMissingError: if no engine is found.
    :raises EngineError: if the engine that the user named does not answer, if there is no permission to open the
        socket, or if the engine is too old.
    """
    tried: list[tuple[EngineAddress, Exception]] = []
    for candidate in candidates(env):
        try:
            return engine_from(candidate, ask_engine(candidate))
        except (OSError, http.client.HTTPException, ValueError, EngineError) as error:
            if candidate.explicit:
                raise _failure(candidate, error) from error
            tried.append((candidate, error))
    # A socket that is there and may not be opened says more than all that are not there.
    for candidate, reason in tried:
        if isinstance(reason, PermissionError | EngineError):
            raise _failure(candidate, reason) from reason
    distro = Distro.of_this_machine()
    raise EngineMissingError(
        "no container engine found on this machine",
        where="; ".join(f"{_place(candidate)}: {_reason(candidate, reason)}" for candidate, reason in tried),
        why="DOCKER_HOST is not set, no docker context is selected, and none of the usual sockets answers",
        next_step=f"start the engine (sudo systemctl start docker), or run {set_up()} as root, or: "
        f"{install_advice(distro, system=sys.platform, packages=distro.engine_packages)}",
    )


def candidates(env: Mapping[str, str]) -> tuple[EngineAddress, ...]:
    """Return the places to try, best first; exactly one if the user named an engine.

    Raises ``EngineError`` for an invalid address or docker context.
    """
    config = Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if host := env.get("DOCKER_HOST", "").strip():
        tls = Path(env.get("DOCKER_CERT_PATH") or config) if env.get("DOCKER_TLS_VERIFY") else None
        return (_checked(EngineAddress(url=host, source="DOCKER_HOST", explicit=True, tls=tls)),)
    if context := env.get("DOCKER_CONTEXT", "").strip():
        return _context(context, f"DOCKER_CONTEXT={context}", config)
    current = _json(read_text(config / "config.json")).get("currentContext")
    if isinstance(current, str) and current not in {"", "default"}:
        return _context(current, f"the docker context {current!r} of {config}/config.json", config)
    return tuple(_usual(env))


def _context(name: str, source: str, config: Path) -> tuple[EngineAddress, ...]:
    if name == "default":
        return (EngineAddress(url=DEFAULT_SOCKET, source=source, explicit=True),)
    # The docker client names a context's folder by the sha256 of the context's name.
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / folder / "meta.json"
    # {"Name": "remote", "Endpoints": {"docker": {"Host": "tcp://build:2376", …}}}
    endpoint = _json(read_text(meta)).get("Endpoints", {}).get("docker", {})
    url = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(url, str) or not url:
        raise EngineError(
            f"the docker context {name!r} was not found or names no engine",
            where=f"{source}, looked up in {meta}",
            next_step="choose another one (docker context ls; docker context use default), or set DOCKER_HOST",
        )
    keys = config / "contexts" / "tls" / folder / "docker"
    tls = keys if read_text(keys / "ca.pem") is not None else None
    return (_checked(EngineAddress(url=url, source=source, explicit=True, tls=tls)),)


def _usual(env: Mapping[str, str]) -> Iterator[EngineAddress]:
    home, runtime = Path.home(), Path(env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    places = [
        (Path("/var/run/docker.sock"), "Docker's socket"),
        (runtime / "docker.sock", "rootless Docker's socket"),
        (home / ".docker/run/docker.sock", "Docker Desktop's socket"),
        (home / ".colima/default/docker.sock", "Colima's socket"),
        (home / ".orbstack/run/docker.sock", "OrbStack's socket"),
        (home / ".rd/docker.sock", "Rancher Desktop's socket"),
        (runtime / "podman/podman.sock", "rootless Podman's socket"),
        (Path("/run/podman/podman.sock"), "Podman's socket"),
    ]
    if temporary := env.get("TMPDIR"):  # where `podman machine` puts it on macOS
        places.append((Path(temporary) / "podman/podman-machine-default-api.sock", "Podman machine's socket"))
    for path, source in places:
        yield EngineAddress(url=f"unix://{path}", source=source, explicit=False)


def _checked(candidate: EngineAddress) -> EngineAddress:
    where = f"{candidate.url} (from {candidate.source})"
    if candidate.url.startswith("ssh://"):
        raise EngineError(
            "an engine over ssh is not supported",
            where=where,
            why="the ports of registry and nodes are published on that machine's loopback, not on this one's",
            next_step="run this on the engine's machine itself, or unset DOCKER_HOST / choose a local docker context",
        )
    if _split(candidate.url) is None:
        raise EngineError(
            "the address of the container engine is invalid",
            where=where,
            next_step="give it as unix:///path/to/socket or tcp://host:port",
        )
    return candidate


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError:
        return None
    usable = parts.path.startswith("/") if parts.scheme == "unix" else bool(parts.hostname)
    return parts if usable and parts.scheme in {"unix", "tcp", "http", "https"} else None


def engine_from(candidate: EngineAddress, reply: Reply) -> FoundEngine:
    """Make the ``FoundEngine`` of an engine's answer; ``EngineError`` if it is too old."""
    # Podman answers as Docker does, except that this list has a "Podman Engine".
    components = [str(part.get("Name", "")) for part in reply.version.get("Components") or []]
    kind: EngineKind = "podman" if any("podman" in name.lower() for name in components) else "docker"
    version = str(reply.version.get("Version", ""))
    number = version_number(version)
    minimum = MINIMUM[kind]
    # A build without a number, such as a developer's, counts as new enough.
    if number and number < minimum:
        raise EngineError(
            f"the container engine is too old: {kind} {version}; {minimum[0]}.{minimum[1]} or newer is needed",
            where=_place(candidate),
            next_step="upgrade it, or point DOCKER_HOST to a newer one",
        )
    info = reply.info
    return FoundEngine(
        url=candidate.url,
        version=version,
        kind=kind,
        data_root=Path(info["DockerRootDir"]) if info.get("DockerRootDir") else None,
        tls=candidate.tls,
    )


def version_number(text: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version; ``None`` if there are none."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else None


def _failure(candidate: EngineAddress, error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, PermissionError):
        return EngineError(
            "no permission to talk to the container engine",
            where=_place(candidate),
            why="its socket may be opened by root and its group only",
            next_step='sudo usermod -aG docker "$USER", then log in again; or run this as root',
        )
    return EngineError(
        "the container engine does not answer",
        where=_place(candidate),
        why=_reason(candidate, error),
        next_step="start that engine, or correct or unset "
        + ("DOCKER_HOST" if candidate.source == "DOCKER_HOST" else "the context (docker context use default)"),
    )


def _place(candidate: EngineAddress) -> str:
    return f"{candidate.url} ({candidate.source})"


def _reason(candidate: EngineAddress, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such socket" if candidate.url.startswith("unix:") else f"no such file: {error.filename}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:  # the docker client reports an invalid file of its own itself
        return {}
    return value if isinstance(value, dict) else {}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def ask_engine(candidate: EngineAddress) -> Reply:
    """Ask the engine for ``/_ping``, ``/version`` and ``/info``, with ten seconds at most for each.

    By `http.client` and not by docker-py, because ``ci/bootstrap`` calls this where no package is installed yet.

    :raises OSError, http.client.HTTPException: if the engine does not answer.
    :raises ValueError: for an invalid answer.
    """
    connection = _connection(candidate)
    try:
        _get(connection, "/_ping")
        return Reply(
            version=_json(_get(connection, "/version")),
            info=_json(_get(connection, "/info")),
        )
    finally:
        connection.close()


def _connection(candidate: EngineAddress) -> http.client.HTTPConnection:
    parts = urlsplit(candidate.url)
    if parts.scheme == "unix":
        # A socket in a folder that we may not enter counts as missing (/run/podman is 0700). It must not look like a
        # lack of permission on the socket itself.
        if not os.path.exists(parts.path):  # noqa: PTH110 -- Path.exists raises PermissionError on older Pythons
            raise FileNotFoundError(2, "no such socket", parts.path)
        return _UnixConnection(parts.path)
    host = parts.hostname or ""
    if candidate.tls:
        context = ssl.create_default_context(cafile=str(candidate.tls / "ca.pem"))
        context.load_cert_chain(candidate.tls / "cert.pem", candidate.tls / "key.pem")
        return http.client.HTTPSConnection(host, parts.port or _TLS_PORT, timeout=_TIMEOUT_S, context=context)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port or _TLS_PORT, timeout=_TIMEOUT_S)
    return http.client.HTTPConnection(host, parts.port or _TCP_PORT, timeout=_TIMEOUT_S)


def _get(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    # Read in any case, because the connection is used again for the next question.
    body = response.read().decode("utf-8", "replace")
    if response.status != http.HTTPStatus.OK:
        # With a number, because only then the text is its `strerror`, which `_reason` shows.
        raise OSError(0, f"{path} answered {response.status} {response.reason}")
    return body
