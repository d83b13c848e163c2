"""What repeated measurements come to: the middle and the spread, never a single number."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
import os
from pathlib import Path
import platform
import statistics

from ci.engine.connection import Engine

_GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Some measurements of the same thing."""

    count: int
    least: float
    median: float
    p95: float
    """Nineteen of twenty are no greater (nearest rank, so it is one of the measurements)."""
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Return what measurements come to; there has to be one at least."""
    ordered = sorted(values)
    return Spread(
        count=len(ordered),
        least=ordered[0],
        median=statistics.median(ordered),
        p95=ordered[math.ceil(0.95 * len(ordered)) - 1],
        most=ordered[-1],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(it.replace('|', '¦') for it in line)} |" for line in lines) + "\n"


def busy() -> str:
    """Return how busy the machine is where it has more to do than cores: seconds measured on it say nothing."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"load {load:.1f}, {cores} cores" if load > cores else ""


def machine(engine: Engine, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what figures were measured on, as one line."""
    told = engine.api.info()
    parts = [
        f"{os.cpu_count()} cores ({_processor(cpuinfo)})",
        f"{int(told['MemTotal']) / _GIB:.0f} GiB of memory",
        str(told["OperatingSystem"]),
        f"kernel {platform.release()}",
        f"{engine.found.kind} {told['ServerVersion']} ({told['Driver']})",
    ]
    return ", ".join(parts)


def _processor(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
