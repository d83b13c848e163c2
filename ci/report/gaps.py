"""The places between results at which there is none, and why: what was planned, left out, or not asked for.

matrix.toml and the plans of runs say what could be there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ci.matrix.model import Matrix
from ci.record.planned import RunPlan
from ci.record.store import CellRecord
from ci.report import grid
from ci.report.grid import Box, GridPlace
from ci.report.model import CellReport, Gap, Location, kind, parts_of


class _KnownCell(NamedTuple):
    """What is known of a place without a result."""

    id: str = ""
    """Of its cell; empty where there is none."""
    remark: str = ""
    left_out: str = ""
    """Why matrix.toml leaves it out; empty if it does not."""
    issue: str = ""


_NO_RESULT = "no result of it in these folders"
_CANDIDATE = "a candidate that was not put into this cell"
_PROFILE = "not run with this profile"


def missing_suites(plans: Iterable[RunPlan]) -> dict[str, dict[str, str]]:
    """Return, per cell, the suites that the newest run with this cell meant to run, and why there may be no result."""
    return {
        cell.id: dict.fromkeys(cell.suites, cell.not_run or _not_yet(plan))
        for plan in _oldest_first(plans)
        for cell in plan.cells
    }


def find(cells: Sequence[CellReport], plans: Sequence[RunPlan], rows: Matrix | None) -> tuple[Gap, ...]:
    """Return the places within the tables at which there is no result."""
    taken: dict[GridPlace, Box] = {(cell.kind, Location.of(cell)): Box() for cell in cells}
    planned = _planned(plans)
    # A profile's cell stands for one of the matrix, but at a place of its own.
    known = {**_known(rows), **_with_profiles(plans, rows)}
    meant = {at: Box() for at, cell in known.items() if cell.id in planned}

    def gap(at: GridPlace) -> Gap:
        kind_of_cells, place = at
        cell = known.get(at, _KnownCell())
        runtime, apart = parts_of(kind_of_cells)
        profile = apart.removeprefix("profile ")
        no_cell = "no such cell in matrix.toml" if rows else _NO_RESULT
        why_no_cell = _CANDIDATE if place.has_candidate else _PROFILE if profile else no_cell
        reason = cell.left_out or planned.get(cell.id) or (_NO_RESULT if cell.id else why_no_cell)
        # Why a cell was not run may be that a release is untried, which is its remark.
        if cell.remark and cell.remark not in reason:
            reason = f"{cell.remark}; {reason}"
        return Gap(runtime=runtime, profile=profile, id=cell.id, reason=reason, issue=cell.issue, **place._asdict())

    return tuple(
        gap(at)
        for table in grid.layout(taken | meant)
        # A site has the versions that it has: nothing beside them is missing.
        for at in table.places()
        if at not in taken and not at[0].partition(", site ")[1]
    )


def _oldest_first(plans: Iterable[RunPlan]) -> list[RunPlan]:
    return sorted(plans, key=lambda plan: (plan.started, plan.run))


def _not_yet(plan: RunPlan) -> str:
    return f"planned by the run {plan.run}, and there is no result yet"


def _known(rows: Matrix | None) -> Mapping[GridPlace, _KnownCell]:
    """Return each cell of matrix.toml, those that it leaves out as well."""
    if rows is None:
        return {}
    found = {_at(CellRecord.of(cell)): _KnownCell(cell.id, cell.remark) for cell in rows.all_cells(None)}
    for out in rows.excluded():
        why = f"matrix.toml leaves it out: {out.reason}"
        found[_at(CellRecord.of(out.cell))] = _KnownCell(out.cell.id, out.cell.remark, why, out.issue or "")
    return found


def _with_profiles(plans: Iterable[RunPlan], rows: Matrix | None) -> Mapping[GridPlace, _KnownCell]:
    """Return the cells with a profile that runs meant to run: no group of matrix.toml need have them."""
    records = {cell.id: CellRecord.of(cell) for cell in (rows.all_cells(None) if rows else ())}
    found = {}
    for cell in (cell for plan in plans for cell in plan.cells):
        # CELL+PROFILE; the id of a cell with a candidate begins otherwise than that of the cell that it stands for.
        place, profile = records.get(cell.stands_for), cell.id.removeprefix(f"{cell.stands_for}+")
        if place and profile != cell.id:
            at = Location.of(place)
            found[kind(place.runtime, at, f"profile {profile}"), at] = _KnownCell(cell.id)
    return found


def _planned(plans: Iterable[RunPlan]) -> Mapping[str, str]:
    """Return the cells that runs meant to run, or knew that they can't, and why there is no result."""
    found: dict[str, str] = {}
    for plan in _oldest_first(plans):
        found |= plan.left_out  # the newest plan comes last, and its words stay
        found |= {cell.id: cell.not_run or _not_yet(plan) for cell in plan.cells}
    return found


def _at(record: CellRecord) -> GridPlace:
    return kind(record.runtime, Location.of(record), record.apart), Location.of(record)
