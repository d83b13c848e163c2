"""How many cells this machine can have up at a time."""

from dataclasses import dataclass
import os
from pathlib import Path

from ci.engine.connection import Engine
from ci.terminal import console

_GIB = 1024**3
# Seen under the suites: a node 31 MiB and the registry 18 without a job, each Python process 60 to 100 MiB, of which a
# cell has seven with four workers. The rest is room for jobs and builds: mksquashfs, pip, several at a time.
_PER_NODE = _GIB
_PER_CELL = _GIB
# What the engine, a build of an image and everything else on the machine keep.
_KEPT_BACK = 0.5 * _GIB


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a machine has."""

    cores: int
    memory: int
    """Bytes that are free to use."""

    def fitting(self, nodes: int) -> int:
        """Return how many cells of so many nodes fit into the memory; one at least, for it can only be tried."""
        return max(1, int((self.memory - _KEPT_BACK) // (_PER_CELL + nodes * _PER_NODE)))

    def jobs(self, wanted: int, *, cells: int, nodes: int) -> int:
        """Return how many cells to have up at a time.

        :param wanted: what the user wants; 0 for as many as are of use. More than fit are never taken.
        """
        # A cell waits more than it computes (for Slurm, a push, an import), so one to a core keeps all of them busy.
        return max(1, min(wanted or self.cores, self.fitting(nodes), cells))


def of_machine(engine: Engine) -> Capacity:
    """Return the capacity of the machine that the engine runs on."""
    info = engine.api.info()
    if not engine.found.local:
        return Capacity(cores=int(info["NCPU"]), memory=int(info["MemTotal"]))
    return Capacity(cores=_own_cores(), memory=min(_free(), _limit(), int(info["MemTotal"])))


def warn_if_fewer(capacity: Capacity, wanted: int, *, cells: int, nodes: int) -> None:
    """Say why fewer cells are up at a time than was asked for."""
    fitting = capacity.fitting(nodes)
    if wanted > fitting and cells > fitting:
        console.warn(
            f"--jobs {wanted}: {capacity.memory / _GIB:.1f} GiB of memory are free, and a cell needs about "
            f"{(_PER_CELL + nodes * _PER_NODE) / _GIB:.1f}; {fitting} at a time"
        )


def _own_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _free() -> int:
    """Return the memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = dict(line.split(":", 1) for line in lines)
    return int(found["MemAvailable"].split()[0]) * 1024


def _limit() -> int:
    """Return the limit that a CI runner sets for this process' group (cgroup v2 or v1)."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # another version, or "max"
            continue
    return 2**63
