"""What a run of a group means to do: ``results/RUN/matrix.json``; tells what is missing of one that was broken off."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from ci.errors import ResultsError, SelectionError
from ci.record import files
from ci.record.store import Moment

SCHEMA = 1
PLAN_FILE = "matrix.json"


class PlannedCell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell of the run."""

    id: str
    stands_for: str = ""
    """With candidates in it, or a profile: the id of the matrix's cell that they were put into."""
    suites: tuple[str, ...]
    """In the order in which they run."""
    not_applicable: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Suites that were asked for and are not for this cell, and why."""
    not_run: str = ""
    """Why the cell can't run on this machine; empty if it can."""


class RunPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of a group."""

    run: str
    started: Moment
    matrix: str
    """The hash of what matrix.toml says; a run goes on only with the same."""
    cells: tuple[PlannedCell, ...]
    suites: tuple[str, ...] = ()
    """Suites that were asked for; empty for all that apply."""
    left_out: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Cells of the group that are for another machine, and why."""
    options: tuple[str, ...] = ()
    """Options of images and of the cluster, as on the command line."""
    words: tuple[str, ...] = ()
    """More arguments for pytest."""
    schema: int = SCHEMA


def begin(plan: RunPlan, folder: Path) -> None:
    """Write a run's plan into its folder.

    The same may be planned there already: a job that a CI or Slurm starts again has the run of before.

    :raises SelectionError: if the folder has another plan, whose results would be lost or mixed with these.
    :raises ResultsError, DiskFullError: if writing fails.
    """
    if (path := folder / PLAN_FILE).exists():
        # A plan that can't be read is another one: nobody knows which cells its results are of.
        same = False
        with suppress(ResultsError):
            # Only the time when it began may differ.
            same = msgspec.structs.replace(load(folder), started=plan.started) == plan
        if not same:
            raise SelectionError(
                f"run {plan.run} exists already, with other cells, suites, options or another matrix.toml",
                where=str(path),
                why="its results would be mixed with those of this one",
                next_step=f"--resume {plan.run} to go on with it, or leave PYXIS_MATRIX_RUN and --run out for a run of "
                "its own",
            )
    files.dump(folder / PLAN_FILE, plan, what="the plan")


def load(folder: Path) -> RunPlan:
    """Read the plan of the run in this folder.

    :raises ResultsError: if there is none, or an invalid one.
    """
    path = folder / PLAN_FILE
    try:
        return files.load(path, RunPlan, SCHEMA, what="the plan of a run")
    except ResultsError as error:
        missing = "the file is missing: the run is unknown here, or was not a run of a group"
        raise ResultsError(
            f"there is no run {folder.name} to go on with",
            where=str(path),
            why=error.why if path.exists() else missing,
            next_step=f"`ls {folder.parent}` shows the runs that are there; without --resume a new one begins",
        ) from error
