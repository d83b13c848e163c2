"""What a fleet is to do: shards, which are cells that one machine runs, and images that are built before them."""

from collections.abc import Mapping
from dataclasses import dataclass
import shlex

from ci.errors import INSTALLED, session
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.paths import REPORT_FOLDER

# A machine of a fleet may have been set up by nobody; an installed program is on its PATH.
SET_UP = "" if INSTALLED else "ci/bootstrap "
"""What stands before a command in the script of a job."""


def report(*names: str) -> str:
    """Return the command that makes a report of these results, or of all; the session has a folder for it by itself."""
    return session("report", shlex.join([*(["--output", f"results/{REPORT_FOLDER}"] if INSTALLED else []), *names]))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One cell, with the suites that run on it."""

    cell: Cell
    suites: tuple[str, ...]
    seconds: float
    """How long it is expected to take."""
    measured: bool
    """Whether earlier results say so for each of its suites."""
    reasons: tuple[str, ...] = ()
    """Why a change can affect it; empty where nobody asked."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Cells for one machine, and the nox session that does them."""

    arch: Arch
    session: str
    cells: tuple[Cell, ...]
    options: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """What comes after ``--`` on nox' command line, or after the command of an installed program."""
        return (*(cell.id for cell in self.cells), *self.options)

    @property
    def command(self) -> str:
        """The command, as a person types it."""
        return session(self.session, shlex.join(self.arguments))


@dataclass(frozen=True, kw_only=True)
class Shard(Batch):
    """The cells that one machine runs."""

    number: int
    """Counted from 1, over all architectures."""
    jobs: tuple[Job, ...]

    @property
    def seconds(self) -> float:
        """How long it is expected to take."""
        return sum(job.seconds for job in self.jobs)


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """All jobs of a fleet."""

    run: str
    """The id of the run that all shards belong to."""
    group: str
    """Empty where cells were named."""
    suites: tuple[str, ...]
    shards: tuple[Shard, ...]
    images: tuple[Batch, ...] = ()
    """Built first, into the image cache that the shards take them from; none where no cache is named."""
    image_cache: str = ""
    since: str = ""
    """The revision that changes are counted from; empty where nobody asked."""
    left_out: Mapping[str, str]
    """Cells of the group that have no job, and why."""
    runners: Mapping[Arch, str]
    """By architecture, the label (GitHub) or tag (GitLab) of the machines that take its jobs."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs of all shards."""
        return tuple(job for shard in self.shards for job in shard.jobs)

    @property
    def nothing(self) -> str:
        """What is said where no cell has a job."""
        return f"nothing to run: no cell can be affected by what has changed since {self.since}"

    @property
    def measured(self) -> int:
        """How many jobs have earlier results for each of their suites."""
        return sum(job.measured for job in self.jobs)
