"""The plan of a group: which suites run on which cells, and why others do not. Pure, but it looks at files."""

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
"""The options of a group. They are recorded, so that ``--resume`` can continue the run with the same ones."""


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """A cell of a group."""

    environment: EnvironmentPlan
    suites: tuple[Suite, ...]
    not_applicable: dict[str, str] = field(default_factory=dict)
    """Reasons, by the name of the suite."""
    not_run: str = ""
    """Why the cell can't run here; empty if it can."""

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.environment.cell

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.cell.id


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """The cells and suites of a run."""

    options: Options
    cells: tuple[CellPlan, ...]
    record: RunPlan
    """The plan in the form that is written to the run's folder."""
    resumed: bool = False
    """Whether this continues a run that has results already."""


@dataclass(frozen=True, kw_only=True)
class GroupRequest:
    """The cells and suites that the command line selects."""

    cells: Sequence[str] = ()
    """Ids; none for those of the group."""
    group: str | None = None
    suites: Sequence[str] = ()
    """Names; none for all that apply."""
    words: Sequence[str] = ()
    """More arguments for pytest."""
    candidates: Candidates | None = None
    """The candidates to put into the cells."""


def plan_group(
    request: GroupRequest, matrix: Matrix, options: Options, missing: Callable[[Cell], str | None]
) -> GroupPlan:
    """Plan which suites run on which cells.

    :param missing: returns which files of a cell are missing, if any.
    :raises SelectionError: for unknown names, for options that a group can't have, and if nothing is left to run.
    """
    host = Arch.host()
    chosen, left_out = _cells(request, matrix, host, options.unreleased)
    if request.candidates:
        group = () if request.cells else chosen  # if the user named a cell, `for_cells` refuses it with a message
        left_out |= {cell.id: why for cell in group if (why := request.candidates.unfit(cell))}
        chosen = for_cells([cell for cell in chosen if cell.id not in left_out], request.candidates)
    check_options(options, len(chosen))
    considered = requested_suites(request.suites)
    for each in considered:
        # For its refusals only, which have to come before anything is built.
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
                # Where all suites are meant, none was asked for where it does not apply.
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
    """Plan how an earlier run continues: with the same cells and suites.

    :param options: as given with ``--resume``.
    :raises SelectionError: if the matrix, the options or the arguments are not those of the run.
    """
    if request.cells or request.group or request.suites:
        raise SelectionError(
            "--resume continues with the cells and suites of the run",
            why="others are named as well",
            next_step="leave cells, --group and --suite out, or leave --resume out to begin another run",
        )
    if matrix_hash(matrix) != earlier.matrix:
        known = {cell.id for cell in matrix.all_cells(Arch.host())}
        # With a candidate or a profile in it a cell stands for one of the matrix, which has an id without them.
        gone = [cell.id for cell in earlier.cells if (cell.stands_for or cell.id) not in known]
        raise SelectionError(
            f"the run {earlier.run} was begun with another matrix",
            where=str(matrix.path),
            why=f"this matrix no longer has {', '.join(gone)}"
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
    """Return the hash of the content of matrix.toml, without comments and the file's path."""
    return hash_of(replace(matrix, path=Path()))


def hash_of(value: object) -> str:
    """Return the hash of a value made of dataclasses, mappings, sequences, sets, and values with different strings."""
    # 64 bits: it tells one state from another, and has nobody to guard against.
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if is_dataclass(value):
        # Equal values have one hash: what equality leaves out is not in it.
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.compare}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def check_options(options: Options, cells: int) -> None:
    """Refuse options that a group can't have.

    :param cells: the number of cells.
    :raises SelectionError: for an option of one cell, and for one that leaves an environment up.
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
            why=f"a port or a name can be used only once on this machine, and {cells} cells run side by side",
            next_step="leave it out, or name one cell",
        )


def _cells(
    request: GroupRequest, matrix: Matrix, host: Arch, unreleased: Sequence[str]
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """Return the cells to run, and why other machines have to run the group's others."""
    members = requested_cells(request.cells, request.group, matrix, host, {}, unreleased)
    # A named cell of another architecture is emulated where that is possible; a group leaves it to other machines.
    if request.cells:
        return members, {}
    group = matrix.group(request.group)
    # Else each legacy cell of the group would be in the plan, only to have nothing that applies.
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
