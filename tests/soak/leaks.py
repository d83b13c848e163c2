"""What a round may leave behind: what is there of each kind, and what came and did not go.

A machine has other work. So a thing counts only where it can be ascribed: by label, by the container that it belongs
to, or by the temporary folder, ports and run ids that the rounds alone have.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
import re
import time
from typing import Any

from docker.errors import APIError

from ci.engine.connection import Engine
from ci.engine.labels import LABEL_RUN
from ci.engine.removing import names_below
from ci.environment import launching

_LISTENS = "0A"
_DAEMONS = frozenset({"dockerd", "podman"})
_SHIM = re.compile(r"containerd-shim\S* .*-id (?P<id>[0-9a-f]{64})")
_PROXY = re.compile(r"docker-proxy .*-host-port (?P<port>\d+)")


class Kind(StrEnum):
    """A kind of thing that can be left."""

    CONTAINERS = "containers"
    NETWORKS = "networks"
    VOLUMES = "volumes"
    IMAGES = "image names"
    LAYERS = "images without a name"
    MOUNTS = "mounts"
    INTERFACES = "network interfaces"
    PROCESSES = "processes"
    FILES = "temporary files"
    KEYS = "folders of keys"
    PORTS = "listening ports"


Seen = Mapping[Kind, frozenset[str]]
"""Names of what is there."""

Left = dict[Kind, list[str]]
"""What was not there before; only kinds of which there is something."""


def left(before: Seen, after: Seen) -> Left:
    """Return what is there and was not."""
    found = {kind: sorted(after.get(kind, frozenset()) - before.get(kind, frozenset())) for kind in Kind}
    return {kind: names for kind, names in found.items() if names}


def joined(one: Seen, more: Mapping[Kind, Collection[str]]) -> Seen:
    """Return what is in either: what is known to be left is not to be told again."""
    return {kind: frozenset(one.get(kind, frozenset())) | frozenset(more.get(kind, ())) for kind in Kind}


def settled(
    before: Seen,
    look: Callable[[], Seen],
    *,
    limit: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Left:
    """Return what is left when the limit has passed; the engine removes some things a moment after it said so."""
    until = clock() + limit
    while (found := left(before, look())) and clock() < until:
        sleep(0.2)
    return found


@dataclass(frozen=True, kw_only=True)
class _Running:
    """What the containers that are there explain."""

    ids: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()
    roots: frozenset[str] = frozenset()
    """Where the engine mounts their roots, and the names of their network namespaces."""

    def explains_mount(self, path: str) -> bool:
        """Tell whether a mount is one of theirs."""
        return path in self.roots or Path(path).name in self.roots or any(it in path for it in self.ids)


@dataclass(frozen=True, kw_only=True)
class Lookout:
    """Looks at a machine for what rounds leave."""

    engine: Engine
    run: str
    """The ids of the rounds' runs begin with it."""
    temporary: Path
    """The temporary folder of the rounds' processes, and of nothing else."""
    proc: Path = field(default=Path("/proc"))
    net: Path = field(default=Path("/sys/class/net"))

    def look(self, ports: Collection[int] = ()) -> Seen:
        """Return what is there.

        :param ports: those that the round had; they are free now, or have another owner.
        """
        api = self.engine.api
        containers = self._listed(api.api.containers(all=True))
        networks = self._listed(api.api.networks())
        volumes = self._listed((api.api.volumes() or {}).get("Volumes") or ())
        running = self._running()
        bridges = {f"br-{it['Id'][:12]}" for it in api.api.networks()}
        return {
            Kind.CONTAINERS: frozenset(str(it["Names"][0]).lstrip("/") for it in containers),
            Kind.NETWORKS: frozenset(str(it["Name"]) for it in networks),
            Kind.VOLUMES: frozenset(str(it["Name"]) for it in volumes),
            Kind.IMAGES: frozenset(name for port in ports for name in names_below(api, f"localhost:{port}/")),
            Kind.LAYERS: frozenset(str(it["Id"]) for it in api.api.images(filters={"dangling": True})),
            Kind.MOUNTS: frozenset(it for it in mounts(self._read("self/mountinfo")) if not running.explains_mount(it)),
            Kind.INTERFACES: frozenset(self._interfaces(bridges)),
            Kind.PROCESSES: frozenset(self._processes(running)),
            Kind.FILES: frozenset(it.name for it in _children(self.temporary)),
            Kind.KEYS: frozenset(self._keys()),
            Kind.PORTS: frozenset(str(it) for it in self._listening() & set(ports) - running.ports),
        }

    def engine_files(self) -> int | None:
        """Return how many files the engine has open; None where that is not to be seen, or while containers run."""
        if self.engine.api.api.containers():  # each has it open some
            return None
        with suppress(OSError):
            for pid in self._pids():
                if self._read(f"{pid}/comm").strip() in _DAEMONS:
                    return len(list((self.proc / pid / "fd").iterdir()))
        return None

    def _listed(self, found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the objects that are not known to be of another run."""
        runs = [(it, str((it.get("Labels") or {}).get(LABEL_RUN, ""))) for it in found]
        return [it for it, run in runs if not run or run.startswith(self.run)]

    def _running(self) -> _Running:
        ids, ports, roots = set(), set(), set()
        for container in self.engine.api.api.containers(all=True):
            ids.add(str(container["Id"]))
            ports |= {int(it["PublicPort"]) for it in container.get("Ports") or () if it.get("PublicPort")}
            with suppress(APIError):  # it may be gone by now
                told = self.engine.api.api.inspect_container(container["Id"])
                roots.add(str((told["GraphDriver"]["Data"] or {}).get("MergedDir", "")))
                roots.add(Path(str(told["NetworkSettings"].get("SandboxKey", ""))).name)
        return _Running(ids=frozenset(ids), ports=frozenset(ports), roots=frozenset(roots - {""}))

    def _interfaces(self, bridges: Collection[str]) -> Iterator[str]:
        """Yield the bridges of no network, and the ends of cables that hang on none."""
        for path in _children(self.net):
            loose = path.name.startswith("veth") and not (path / "master").exists()
            if loose or (path.name.startswith("br-") and path.name not in bridges):
                yield path.name

    def _processes(self, running: _Running) -> Iterator[str]:
        """Yield the rounds' own processes, and those of the engine that belong to no container."""
        mine = f"TMPDIR={self.temporary}".encode()
        for pid in self._pids():
            words = self._read(f"{pid}/cmdline").replace("\0", " ").strip()
            shim, proxy = _SHIM.search(words), _PROXY.search(words)
            with suppress(OSError):
                if (
                    mine in (self.proc / pid / "environ").read_bytes().split(b"\0")
                    or (shim and shim["id"] not in running.ids)
                    or (proxy and int(proxy["port"]) not in running.ports)
                ):
                    yield f"{pid}: {words}"

    def _keys(self) -> Iterator[str]:
        for path in _children(launching.state_dir(self.run, "").parent):
            if path.name.startswith(self.run):
                yield path.name

    def _listening(self) -> set[int]:
        return {port for name in ("net/tcp", "net/tcp6") for port in listening(self._read(name))}

    def _pids(self) -> list[str]:
        return [it.name for it in _children(self.proc) if it.name.isdigit()]

    def _read(self, name: str) -> str:
        try:
            return (self.proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def mounts(mountinfo: str) -> Iterator[str]:
    """Yield the places of all mounts; see proc(5)."""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            yield fields[4]


def listening(table: str) -> Iterator[int]:
    """Yield the ports that are listened on; see proc(5)."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTENS:
            yield int(fields[1].rpartition(":")[2], 16)
