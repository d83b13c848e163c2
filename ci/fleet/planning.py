"""Makes the plan of a fleet from cells, suites and what earlier results say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ci.environment.plan import plan_environment
from ci.errors import SelectionError, typed
from ci.fleet.balancing import Expectation, Seconds, balance
from ci.fleet.model import Batch, FleetPlan, Job, Shard
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Options, Scope

_HANDED_ON = (Scope.IMAGES, Scope.CLUSTER)
Reasons = Mapping[str, tuple[str, ...]]
"""By cell id, why a change can affect it; a cell that it can't affect is not in here."""


@dataclass(frozen=True, kw_only=True)
class FleetRequest:
    """What a person or a CI job asks for."""

    suites: tuple[Suite, ...]
    group: str = ""
    shards: int | None = None
    """None: one per architecture."""
    options: Options
    image_cache: str = ""
    images_first: bool = True
    """Whether jobs fill the image cache before the shards; not where it may be read only."""
    since: str = ""
    runners: Mapping[Arch, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Cells that can't take part, whatever the suites, and why."""


def of_arch(cells: Sequence[Cell], arch: Arch | None, group: str = "") -> tuple[Cell, ...]:
    """Return the cells of an architecture, if one is asked for.

    :param group: whose cells they are; empty for cells that are named, none of which may be left out.
    :raises SelectionError: where none is left, or a named one would be left out.
    """
    found = tuple(cell for cell in cells if arch in (None, cell.arch))
    if group and not found:
        raise SelectionError(
            f"the group {group!r} has no cell" + (f" for {arch}" if arch else ""),
            next_step=f"{typed(f'cells --group {group}')} lists its cells",
        )
    if not group and (others := [cell.id for cell in cells if cell not in found]):
        raise SelectionError(
            f"--arch {arch} leaves out a cell that is named: {', '.join(others)}",
            next_step="leave one of the two out",
        )
    return found


def plan_fleet(
    cells: Sequence[Cell], matrix: Matrix, request: FleetRequest, earlier: Seconds, reasons: Reasons | None = None
) -> FleetPlan:
    """Plan the jobs for these cells.

    :param earlier: seconds of earlier results.
    :param reasons: given, only these cells get a job.
    :raises SelectionError: where a number of shards is impossible, or no suite runs on any cell.
    """
    # Every suite that does not apply is named, because a cell is left out only if all of them do not.
    unfit = {cell.id: {suite.name: suite.unfit(cell, matrix.subject) for suite in request.suites} for cell in cells}
    fitting = {cell: tuple(name for name, why in whys.items() if not why) for cell, whys in unfit.items()}
    runnable = [cell for cell in cells if fitting[cell.id]]
    left_out = dict(request.left_out) | {
        cell.id: "; ".join(f"{name}: {why}" for name, why in unfit[cell.id].items())
        for cell in cells
        if not fitting[cell.id]
    }
    if not runnable:
        raise SelectionError(
            "none of these suites runs on any of these cells",
            why="; ".join(dict.fromkeys(left_out.values())),
            next_step="name other suites with --suite, or other cells",
        )
    if reasons is not None:
        unchanged = f"nothing that it is made of has changed since {request.since}"
        left_out |= {cell.id: unchanged for cell in runnable if cell.id not in reasons}
        runnable = [cell for cell in runnable if cell.id in reasons]
    expect = Expectation(earlier)
    jobs = [expect.job(cell, fitting[cell.id], (reasons or {}).get(cell.id, ())) for cell in runnable]
    return FleetPlan(
        run=request.options.run,
        group=request.group,
        suites=tuple(suite.name for suite in request.suites if any(suite.name in job.suites for job in jobs)),
        shards=_shards(jobs, request, shrunk=reasons is not None),
        images=_images(runnable, matrix, request) if request.image_cache and request.images_first else (),
        image_cache=request.image_cache,
        since=request.since,
        left_out=left_out,
        runners=request.runners,
    )


def _shards(jobs: Sequence[Job], request: FleetRequest, *, shrunk: bool) -> tuple[Shard, ...]:
    if not jobs:
        return ()
    arches = len({job.cell.arch for job in jobs})
    # No machine runs cells of two architectures.
    wanted = arches if request.shards is None else request.shards
    # Nobody knows beforehand how many cells a change affects.
    wanted = min(wanted, len(jobs)) if shrunk else wanted
    return tuple(
        Shard(
            arch=members[0].cell.arch,
            session="matrix",
            cells=tuple(job.cell for job in members),
            options=_arguments(members, request),
            number=number,
            jobs=members,
        )
        for number, members in enumerate(balance(jobs, wanted), start=1)
    )


def _arguments(jobs: Sequence[Job], request: FleetRequest) -> tuple[str, ...]:
    """Return the options of a shard: the suites that any of its cells runs, and what was asked for beside them."""
    needed = {name for job in jobs for name in job.suites}
    named = (word for suite in request.suites if suite.name in needed for word in ("--suite", suite.name))
    return (*named, *request.options.words(*_HANDED_ON))


def _images(cells: Sequence[Cell], matrix: Matrix, request: FleetRequest) -> tuple[Batch, ...]:
    """Return one job per Slurm: the cells that share its image, so that no two machines build it."""
    # To compile Slurm takes minutes; every image of its cells is made on top of it.
    by_slurm: dict[str, list[Cell]] = {}
    for cell in cells:
        by_slurm.setdefault(plan_environment(cell, matrix, request.options).images.slurm.name, []).append(cell)
    options = tuple(request.options.words(Scope.IMAGES))
    return tuple(
        Batch(arch=its[0].arch, session="images", cells=tuple(its), options=options) for its in by_slurm.values()
    )
