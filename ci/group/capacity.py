"""The number of cells that this machine can run at the same time."""

from dataclasses import dataclass
import os
from pathlib import Path

from ci.engine.connection import Engine
from ci.terminal import console

_GIB = 1024**3
# Measured under the suites: without a job a node takes 31 MiB and the registry 18; each Python process takes 60 to 100
# MiB, and a cell with four workers has seven. The rest is for jobs and builds: mksquashfs, pip, several at a time.
_PER_NODE = _GIB
_PER_CELL = _GIB
# For the engine, a build of an image and everything else on the machine.
_KEPT_BACK = 0.5 * _GIB


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The cores and the memory of a machine."""

    cores: int
    memory: int
    """Bytes that are free to use."""

    def fitting(self, nodes: int) -> int:
        """Return how many cells with that many nodes fit into the memory; at least one, which may then fail."""
        return max(1, int((self.memory - _KEPT_BACK) // (_PER_CELL + nodes * _PER_NODE)))

    def jobs(self, wanted: int, *, cells: int, nodes: int) -> int:
        """Return how many cells to run at the same time; never more than fit.

        :param wanted: the user's number; 0 for the best one.
        """
        # A cell waits more than it computes (for Slurm, a push, an import), so one per core keeps all cores busy.
        return max(1, min(wanted or self.cores, self.fitting(nodes), cells))


def of_machine(engine: Engine) -> Capacity:
    """Return the capacity of the machine that the engine runs on."""
    info = engine.api.info()
    if not engine.found.local:
        # Of another machine only the total is known, not how much of it is free.
        return Capacity(cores=int(info["NCPU"]), memory=int(info["MemTotal"]))
    # MemTotal, because an engine in a virtual machine of its own has less than this machine.
    return Capacity(cores=_own_cores(), memory=min(_free(), _limit(), int(info["MemTotal"])))


def warn_if_fewer(capacity: Capacity, wanted: int, *, cells: int, nodes: int) -> None:
    """Say why fewer cells run at the same time than ``--jobs`` names."""
    fitting = capacity.fitting(nodes)
    if wanted > fitting and cells > fitting:
        console.warn(
            f"--jobs {wanted}: {capacity.memory / _GIB:.1f} GiB of memory are free, and a cell needs about "
            f"{(_PER_CELL + nodes * _PER_NODE) / _GIB:.1f}; {fitting} at a time"
        )


def _own_cores() -> int:
    try:
        # Not all cores of the machine: taskset, a Slurm job or a container's cpuset may leave this process a few.
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _free() -> int:
    """Return the memory that is available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = dict(line.split(":", 1) for line in lines)
    return int(found["MemAvailable"].split()[0]) * 1024


def _limit() -> int:
    """Return the memory limit of this process' cgroup (v2 or v1), which a CI runner may set."""
    # In a container these are its own limits. On a host v2 has no such file in the root, and v1 a huge number.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # another version, or "max"
            continue
    return 2**63
