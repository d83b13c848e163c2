"""The places between results at which there is none, and why: what was planned, left out, or not asked for.

matrix.toml and the plans of runs say what could be there.
"""

from collections.abc import Iterable, Mapping, Sequence

from ci.matrix.model import Matrix
from ci.record.planned import RunPlan
from ci.record.store import CellRecord
from ci.report import grid
from ci.report.grid import Box, GridPlace
from ci.report.model import CellReport, Gap, Location, kind, parts_of

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
    known = {**_known(rows), **_with_profiles(plans, rows)}
    meant = {at: Box() for at, (name, *_) in known.items() if name in planned}

    def gap(at: GridPlace) -> Gap:
        of, place = at
        name, remark, left_out, issue = known.get(at, ("", "", "", ""))
        unknown = "no such cell in matrix.toml" if rows else _NO_RESULT
        runtime, apart = parts_of(of)
        profile = apart.removeprefix("profile ")
        not_put = _CANDIDATE if place.has_candidate else _PROFILE if profile else unknown
        reason = left_out or planned.get(name) or (_NO_RESULT if name else not_put)
        reason = "; ".join(filter(None, [remark if remark not in reason else "", reason]))
        return Gap(runtime=runtime, profile=profile, id=name, reason=reason, issue=issue, **place._asdict())

    return tuple(
        gap(at)
        for table in grid.layout(taken | meant)
        for at in table.places()
        if at not in taken and not at[0].partition(", site ")[1]
    )


def _oldest_first(plans: Iterable[RunPlan]) -> list[RunPlan]:
    return sorted(plans, key=lambda plan: (plan.started, plan.run))


def _not_yet(plan: RunPlan) -> str:
    return f"planned by the run {plan.run}, and there is no result yet"


def _known(rows: Matrix | None) -> Mapping[GridPlace, tuple[str, str, str, str]]:
    """Return each cell of matrix.toml with its id and remark, and why it is left out, and the issue, if it is."""
    if rows is None:
        return {}
    found = {_at(CellRecord.of(cell)): (cell.id, cell.remark, "", "") for cell in rows.all_cells(None)}
    for out in rows.excluded():
        why = f"matrix.toml leaves it out: {out.reason}"
        found[_at(CellRecord.of(out.cell))] = (out.cell.id, out.cell.remark, why, out.issue or "")
    return found


def _with_profiles(plans: Iterable[RunPlan], rows: Matrix | None) -> Mapping[GridPlace, tuple[str, str, str, str]]:
    """Return the cells with a profile that runs meant to run, with their ids."""
    records = {cell.id: CellRecord.of(cell) for cell in (rows.all_cells(None) if rows else ())}
    found = {}
    for cell in (cell for plan in plans for cell in plan.cells):
        place, profile = records.get(cell.stands_for), cell.id.removeprefix(f"{cell.stands_for}+")
        if place and profile != cell.id:
            at = Location.of(place)
            found[kind(place.runtime, at, f"profile {profile}"), at] = (cell.id, "", "", "")
    return found


def _planned(plans: Iterable[RunPlan]) -> Mapping[str, str]:
    """Return the cells that runs meant to run, or knew that they can't, and why there is no result."""
    found: dict[str, str] = {}
    for plan in _oldest_first(plans):
        found |= plan.left_out
        found |= {cell.id: cell.not_run or _not_yet(plan) for cell in plan.cells}
    return found


def _at(record: CellRecord) -> GridPlace:
    return kind(record.runtime, Location.of(record), record.apart), Location.of(record)
