"""How long jobs are expected to take, and which shard gets which, so that all end at about the same time."""

from collections.abc import Mapping, Sequence
import heapq
from statistics import median

from ci.errors import SelectionError
from ci.fleet.model import Job
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell

NOMINAL_SECONDS = 60.0
"""Where nothing was measured, all suites count the same."""

Seconds = Mapping[tuple[str, str], float]
"""Seconds of earlier results, by cell id and suite."""


class Expectation:
    """What earlier results lead to expect."""

    def __init__(self, earlier: Seconds) -> None:
        """Learn from earlier results."""
        self._earlier = earlier
        self._typical: dict[str, float] = {}
        # Medians, which one run beside a compilation does not move.
        self._overall = median(earlier.values()) if earlier else NOMINAL_SECONDS

    def of(self, cell: Cell, suite: str) -> tuple[float, bool]:
        """Return the seconds of a suite on a cell, and whether they were measured there.

        What was not is taken for the median of the suite on other cells, else for that of all suites.
        """
        if (measured := self._earlier.get((cell.id, suite))) is not None:
            return measured, True
        if suite not in self._typical:
            of_suite = [seconds for (_, name), seconds in self._earlier.items() if name == suite]
            self._typical[suite] = median(of_suite) if of_suite else self._overall
        return self._typical[suite], False

    def job(self, cell: Cell, suites: Sequence[str], reasons: Sequence[str] = ()) -> Job:
        """Return the job of a cell."""
        expected = [self.of(cell, suite) for suite in suites]
        return Job(
            cell=cell,
            suites=tuple(suites),
            seconds=sum(seconds for seconds, _ in expected),
            measured=all(measured for _, measured in expected),
            reasons=tuple(reasons),
        )


def balance(jobs: Sequence[Job], shards: int) -> list[tuple[Job, ...]]:
    """Return the jobs of each shard; no shard has two architectures, and none is empty.

    :raises SelectionError: for fewer shards than architectures, or more than cells.
    """
    by_arch: dict[Arch, list[Job]] = {}
    for job in jobs:
        by_arch.setdefault(job.cell.arch, []).append(job)
    if shards < len(by_arch):
        raise SelectionError(
            f"--shards {shards} is too few for the architectures {' and '.join(by_arch)}",
            why="a cell runs only on a machine of its own architecture, so each needs a shard of its own",
            next_step=f"--shards {len(by_arch)} or more, or one architecture with --arch",
        )
    if shards > len(jobs):
        raise SelectionError(
            f"--shards {shards} is more than there are cells: {len(jobs)}",
            why="a shard without a cell would have nothing to do",
            next_step=f"--shards {len(jobs)} or fewer",
        )
    counts = _shards_per_arch(by_arch, shards)
    return [shard for arch, of_arch in by_arch.items() for shard in _longest_first(of_arch, counts[arch])]


def _shards_per_arch(by_arch: Mapping[Arch, Sequence[Job]], shards: int) -> dict[Arch, int]:
    """Give each further shard to the architecture whose shards are the longest."""
    counts = dict.fromkeys(by_arch, 1)
    totals = {arch: sum(job.seconds for job in jobs) for arch, jobs in by_arch.items()}
    for _ in range(shards - len(by_arch)):
        # An architecture has no use for more shards than cells.
        open_ones = [arch for arch in by_arch if counts[arch] < len(by_arch[arch])]
        counts[max(open_ones, key=lambda arch: totals[arch] / counts[arch])] += 1
    return counts


def _longest_first(jobs: Sequence[Job], shards: int) -> list[tuple[Job, ...]]:
    """Give the jobs out, longest first, each to the shard that has least to do."""
    places = {job.cell.id: place for place, job in enumerate(jobs)}
    least = [(0.0, 0, number) for number in range(shards)]
    given: list[list[Job]] = [[] for _ in range(shards)]
    # Graham's rule of 1969 (longest processing time first): at most a third longer than the best possible.
    for job in sorted(jobs, key=lambda job: -job.seconds):
        # Between shards with as much to do, the one with fewer cells: no shard stays empty where jobs take no time.
        seconds, count, number = heapq.heappop(least)
        given[number].append(job)
        heapq.heappush(least, (seconds + job.seconds, count + 1, number))
    # Within a shard in the order in which the cells were named, whatever their seconds.
    return [tuple(sorted(shard, key=lambda job: places[job.cell.id])) for shard in given]
