"""What is run of a group: which suites on which cells, and why not the others. Pure, but for a look at the files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
import hashlib
import json
from pathlib import Path
import shlex

import msgspec

from ci.artefacts.candidates import Candidates, for_cells
from ci.engine import emulation
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import SelectionError, session, typed
from ci.matrix import pytest_words
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.mentioned import requested_cells
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES, Suite, requested_suites, suite
from ci.options import Options, Scope
from ci.record import store
from ci.record.planned import PlannedCell, RunPlan
from ci.terminal.quantities import count

OPTIONS = (Scope.IMAGES, Scope.CLUSTER)
"""What a group is run with; that is written down, so that the run can go on."""


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """A cell of a group."""

    environment: EnvironmentPlan
    suites: tuple[Suite, ...]
    not_applicable: dict[str, str] = field(default_factory=dict)
    """Reasons by the name of the suite."""
    not_run: str = ""
    """Why it can't run here; empty if it can."""

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.environment.cell


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """All that is run."""

    options: Options
    cells: tuple[CellPlan, ...]
    record: RunPlan
    """What is written of it."""
    resumed: bool = False
    """Whether it goes on with a run that has results already."""


@dataclass(frozen=True, kw_only=True)
class GroupRequest:
    """What the command line asks of a group."""

    cells: Sequence[str] = ()
    """Ids; none for those of the group."""
    group: str | None = None
    suites: Sequence[str] = ()
    """Names; none for those that apply."""
    words: Sequence[str] = ()
    """More arguments for pytest."""
    candidates: Candidates | None = None
    """What is put into the cells."""


def plan_group(
    request: GroupRequest, matrix: Matrix, options: Options, missing: Callable[[Cell], str | None]
) -> GroupPlan:
    """Plan what is run.

    :param missing: tells which files of a cell are missing, if any.
    :raises SelectionError: for unknown names, options that can't hold for a group, and where nothing is left to run.
    """
    host = Arch.host()
    chosen, left_out = _cells(request, matrix, host, options.unreleased)
    if request.candidates:
        group = () if request.cells else chosen  # a cell that is named is refused below
        left_out |= {cell.id: why for cell in group if (why := request.candidates.unfit(cell))}
        chosen = for_cells([cell for cell in chosen if cell.id not in left_out], request.candidates)
    check_options(options, len(chosen))
    considered = requested_suites(request.suites)
    for each in considered:
        pytest_words.given(each, request.words)
    plans = []
    for cell in chosen:
        unfit = {each.name: each.unfit(cell, matrix.subject) for each in considered}
        applying = tuple(each for each in considered if not unfit[each.name])
        not_run = emulation.needed(cell.arch) or missing(cell) or ""
        plans.append(
            CellPlan(
                environment=plan_environment(cell, matrix, options),
                suites=applying,
                not_applicable={name: why for name, why in unfit.items() if why} if request.suites else {},
                not_run=not_run if applying else "",
            )
        )
    if not any(plan.suites for plan in plans):
        names = ", ".join(request.suites) or "no suite"
        raise SelectionError(
            f"there is nothing to run: {names} applies to none of the cells",
            why="; ".join(dict.fromkeys(why for plan in plans for why in plan.not_applicable.values())),
            next_step=f"the suites are {', '.join(SUITES)}",
        )
    record = RunPlan(
        run=options.run,
        started=store.utc_now(),
        matrix=matrix_hash(matrix),
        cells=tuple(
            PlannedCell(
                id=plan.cell.id,
                stands_for=plan.cell.stands_for,
                suites=tuple(suite.name for suite in plan.suites),
                not_applicable=plan.not_applicable,
                not_run=plan.not_run,
            )
            for plan in plans
        ),
        suites=tuple(request.suites),
        left_out=left_out,
        options=tuple(options.words(*OPTIONS)),
        words=tuple(request.words),
    )
    return GroupPlan(options=options, cells=tuple(plans), record=record)


def resumed(
    earlier: RunPlan, request: GroupRequest, matrix: Matrix, options: Options, missing: Callable[[Cell], str | None]
) -> GroupPlan:
    """Plan how an earlier run goes on: the same cells and suites.

    :param options: as given again.
    :raises SelectionError: where the matrix, or what is asked for, is not that of the run.
    """
    if request.cells or request.group or request.suites:
        raise SelectionError(
            "--resume goes on with the cells and suites of the run",
            why="others are named as well",
            next_step="leave cells, --group and --suite out, or leave --resume out to begin another run",
        )
    if matrix_hash(matrix) != earlier.matrix:
        known = {cell.id for cell in matrix.all_cells(Arch.host())}
        gone = [cell.id for cell in earlier.cells if (cell.stands_for or cell.id) not in known]
        raise SelectionError(
            f"the run {earlier.run} was begun with another matrix",
            where=str(matrix.path),
            why=f"it has no cell {', '.join(gone)} any more"
            if gone
            else "its rows, known failures, subject or defaults have changed",
            next_step="begin another run; with --reuse it takes what has not changed from this one",
        )
    if (tuple(options.words(*OPTIONS)), tuple(request.words)) != (earlier.options, earlier.words):
        behind = ["--", *earlier.words] if earlier.words else []
        raise SelectionError(
            f"the run {earlier.run} was begun with other options",
            why="all results of a run have to be of the same kind",
            next_step=session("matrix", shlex.join(["--resume", earlier.run, *earlier.options, *behind])),
        )
    same = GroupRequest(
        cells=[cell.stands_for or cell.id for cell in earlier.cells],
        suites=earlier.suites,
        words=earlier.words,
        candidates=request.candidates,
    )
    plan = plan_group(same, matrix, options, missing)
    return replace(plan, record=msgspec.structs.replace(plan.record, left_out=earlier.left_out), resumed=True)


def matrix_hash(matrix: Matrix) -> str:
    """Return the hash of what matrix.toml says; comments, and where the file is, don't count."""
    return hash_of(replace(matrix, path=Path()))


def hash_of(value: object) -> str:
    """Return the hash of a value made of dataclasses, mappings, sequences, sets and what ``str`` tells apart."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.compare}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def check_options(options: Options, cells: int) -> None:
    """Refuse what can't hold for a group.

    :param cells: how many there are.
    :raises SelectionError: for an option of one cell, and for one that leaves something up.
    """
    if options.keep:
        raise SelectionError(
            "--keep cannot be used with a group",
            why="it would leave one environment up for each cell",
            next_step=typed("up CELL"),
        )
    single = {
        "--registry-port": options.registry_port,
        "--ssh-port": options.ssh_port,
        "--container-name": options.container_name,
        "--base-image": options.base_image,
    }
    if cells > 1 and (given := [name for name, value in single.items() if value]):
        raise SelectionError(
            f"{' and '.join(given)} can be given for one cell only",
            why=f"it is one port or name of this machine, and {cells} cells run side by side",
            next_step="leave it out, or name one cell",
        )


def _cells(
    request: GroupRequest, matrix: Matrix, host: Arch, unreleased: Sequence[str]
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """Return the cells to run, and those of the group that another machine has to run."""
    members = requested_cells(request.cells, request.group, matrix, host, {}, unreleased)
    if request.cells:
        return members, {}
    group = matrix.group(request.group)
    if request.suites and not any(Runtime.LEGACY in suite(name).runtimes for name in request.suites):
        members = tuple(cell for cell in members if cell.runtime is not Runtime.LEGACY)
    here = tuple(cell for cell in members if cell.arch is host)
    others = {
        cell.id: f"it needs {cell.arch} hardware, and this is {host}" for cell in members if cell.arch is not host
    }
    if not here:
        raise SelectionError(
            f"no cell of the group {group.name!r} can run on this machine",
            why=f"it has {count(len(others), 'cell')} of another architecture, and this is {host}",
            next_step=typed("cells --group full"),
        )
    return here, others
