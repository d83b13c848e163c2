"""What a round has left behind.

A machine has other work. So a thing counts only where it can be ascribed: by the run's id, or by the volumes, ports and
temporary folder that this round alone had. The engine's own mounts, cables and open files can't be.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import time

import psutil

from ci.engine.connection import Engine
from ci.engine.labels import LABEL_RUN
from ci.environment import launching

Left = dict[str, list[str]]
"""Names of what is left by kind; only kinds of which there is something."""


@dataclass(frozen=True, kw_only=True)
class Lookout:
    """Looks at a machine for what a round leaves."""

    engine: Engine
    run: str
    temporary: Path
    """The temporary folder of the round's processes, and of nothing else."""
    proc: Path = Path("/proc")

    def volumes(self) -> frozenset[str]:
        """Return the volumes of the containers that are up, those without a name of their own among them."""
        containers = self.engine.api.containers.list(filters={"label": f"{LABEL_RUN}={self.run}"})
        mounts = (mount for container in containers for mount in container.attrs["Mounts"])
        return frozenset(str(mount["Name"]) for mount in mounts if mount["Type"] == "volume")

    def left(self, volumes: Collection[str] = (), ports: Collection[int] = ()) -> Left:
        """Return what is there.

        :param volumes: those that the round had.
        :param ports: likewise; they are free now, or have another owner.
        """
        api = self.engine.api.api
        published = (port for container in api.containers() for port in container.get("Ports") or ())
        others = {int(port["PublicPort"]) for port in published if port.get("PublicPort")}
        labelled = self.engine.left({LABEL_RUN: self.run})
        there = {str(volume["Name"]) for volume in (api.volumes() or {}).get("Volumes") or ()}
        found = {
            "containers, networks, volumes": labelled,
            "volumes without a label": there & set(volumes) - set(labelled),
            "image names": [name for port in ports for name in self.engine.names_below(f"localhost:{port}/")],
            "processes": self._processes(),
            "temporary files": [path.name for path in self.temporary.glob("*")],
            "folders of keys": [run for run in launching.runs() if run == self.run],
            "listening ports": [str(port) for port in listening() & set(ports) - others],
        }
        return {kind: sorted(names) for kind, names in found.items() if names}

    def _processes(self) -> list[str]:
        found = []
        for folder in self.proc.glob("*"):
            with suppress(OSError):  # it is no process, or has ended
                if f"TMPDIR={self.temporary}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_text(errors="replace").split("\0")
                    found.append(f"{folder.name}: {' '.join(words).strip()}")
        return found


def settled(look: Callable[[], Left], *, limit: float) -> Left:
    """Return what is left when the limit has passed; the engine removes some things a moment after it said so."""
    until = time.monotonic() + limit
    while (found := look()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def listening() -> set[int]:
    """Return the ports that somebody on this machine listens on."""
    every = (each for each in psutil.net_connections("inet") if each.status == psutil.CONN_LISTEN)
    return {each.laddr.port for each in every if each.laddr}
