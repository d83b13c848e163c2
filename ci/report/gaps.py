"""The places between results at which there is none, and why: what was planned, left out, or not asked for.

matrix.toml and the plans of runs say what could be there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ci.matrix.model import Matrix
from ci.record.planned import RunPlan
from ci.record.store import CellRecord
from ci.report import grid
from ci.report.compat import CellReport, Gap
from ci.report.grid import Position

_NO_RESULT = "no result of it in these folders"
_CANDIDATE = "a candidate that was not put into this cell"
_Place = tuple[str, Position]
"""A runtime, and the place in its table."""


def os_of(record: CellRecord) -> str:
    """Return the operating system of a cell's nodes."""
    return record.axes.get("os") or record.os


def missing_suites(plans: Iterable[RunPlan]) -> dict[str, dict[str, str]]:
    """Return, per cell, the suites that the newest run with this cell meant to run, and why there may be no result."""
    found: dict[str, dict[str, str]] = {}
    for plan in sorted(plans, key=lambda plan: (plan.started, plan.run)):
        for cell in plan.cells:
            reason = cell.not_run or f"planned by the run {plan.run}, and there is no result yet"
            found[cell.id] = dict.fromkeys(cell.suites, reason)
    return found


def find(cells: Sequence[CellReport], plans: Iterable[RunPlan], rows: Matrix | None) -> tuple[Gap, ...]:
    """Return the places within the tables at which there is no result."""
    taken = {(cell.runtime, Position.of(cell)) for cell in cells}
    known = _known(rows)
    planned = _planned(plans)
    meant = [place for place, (name, _, _) in known.items() if name in planned and place not in taken]
    why = _reasons(known, planned, unknown="no such cell in matrix.toml" if rows else _NO_RESULT)
    found = []
    for runtime in dict.fromkeys(runtime for runtime, _ in (*taken, *meant)):
        places = [place for of, place in (*taken, *meant) if of == runtime]
        found += [
            why((runtime, place))
            for layout in grid.layouts(runtime, places)
            for place in layout.places()
            if (runtime, place) not in taken
        ]
    return tuple(found)


def _known(rows: Matrix | None) -> Mapping[_Place, tuple[str, str, str]]:
    """Return each cell of matrix.toml with its id, and why it is left out, and the issue, if it is."""
    if rows is None:
        return {}
    found = {_place(CellRecord.of(cell)): (cell.id, "", "") for cell in rows.all_cells(None)}
    for out in rows.excluded():
        why = f"matrix.toml leaves it out: {out.reason}"
        found[_place(CellRecord.of(out.cell))] = (out.cell.id, why, out.issue or "")
    return found


def _planned(plans: Iterable[RunPlan]) -> Mapping[str, str]:
    """Return the cells that runs meant to run, or knew that they can't, and why there is no result."""
    found: dict[str, str] = {}
    for plan in sorted(plans, key=lambda plan: (plan.started, plan.run)):
        found |= plan.left_out
        for cell in plan.cells:
            found[cell.id] = cell.not_run or f"planned by the run {plan.run}, and there is no result yet"
    return found


def _reasons(
    known: Mapping[_Place, tuple[str, str, str]], planned: Mapping[str, str], *, unknown: str
) -> Callable[[_Place], Gap]:
    """Return the function that says why there is no result at a place."""

    def gap(at: _Place) -> Gap:
        runtime, place = at
        name, left_out, issue = known.get(at, ("", "", ""))
        candidate = place.has_candidate
        return Gap(
            runtime=runtime,
            arch=place.arch,
            slurm=place.slurm,
            os=place.os,
            enroot=place.enroot,
            pyxis=place.pyxis,
            id=name,
            reason=left_out or planned.get(name) or (_NO_RESULT if name else _CANDIDATE if candidate else unknown),
            issue=issue,
        )

    return gap


def _place(record: CellRecord) -> _Place:
    axes = {name: value or "" for name, value in record.axes.items()}
    place = Position(
        arch=record.arch,
        slurm=axes.get("slurm", ""),
        os=os_of(record),
        enroot=axes.get("enroot", ""),
        pyxis=axes.get("pyxis", ""),
    )
    return record.runtime, place
