"""What questions are answered from, and which cells are meant: by name, or by the values of their axes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ci.errors import ResultsError, SelectionError, session
from ci.matrix.cells import Cell, Runtime, read_version
from ci.matrix.model import AXES, VERSION_AXES, Matrix
from ci.matrix.observed import slurm_matches
from ci.matrix.profiles import Profile
from ci.matrix.suites import SUITES, is_own, suite
from ci.matrix.tables import did_you_mean
from ci.report import finding, model, retold, writing
from ci.report.behaviours import BehaviourReport
from ci.report.merging import ReportRequest
from ci.report.model import CellReport, Compat, State

Axes = Mapping[str, str | None]
Pair = tuple[CellReport, CellReport]
"""Before and after."""
_BOTH = 2


def read(names: Sequence[str], results: Path, *, may_be_empty: bool = False, profile: Profile | None = None) -> Compat:
    """Return what a report says by itself, or what the folders, runs and reports that are named come to.

    :param profile: without what was run when a profile of this name had other files.
    :raises ResultsError: if there is none, or it is invalid or of another schema.
    """
    roots = finding.places(names, results)
    # A report alone is taken as it was written: merged anew, it would have today's questions.
    if len(roots) == 1 and retold.is_report_alone(roots[0]):
        return _of_profile(model.load(roots[0]), profile)
    base = finding.common(roots) if roots else results
    return _of_profile(writing.merge(ReportRequest(roots=roots, base=base, may_be_empty=may_be_empty)).compat, profile)


def _of_profile(compat: Compat, profile: Profile | None) -> Compat:
    if profile is None:
        return compat
    suites = {
        cell.id: tuple(suite for suite in cell.suites if suite.versions.get("profile") == profile.label)
        for cell in compat.cells
        if cell.profile == profile.name
    }
    cells = tuple(msgspec.structs.replace(cell, suites=suites.get(cell.id, cell.suites)) for cell in compat.cells)
    return msgspec.structs.replace(compat, cells=cells)


def tested_cells(compat: Compat) -> list[CellReport]:
    """Return the cells that a suite of this project was run on; others say nothing of their versions."""
    return [cell for cell in compat.cells if any(not is_own(suite.suite) for suite in cell.suites)]


def concerns(question: BehaviourReport, cells: Iterable[CellReport]) -> bool:
    """Tell whether cells are expected to answer a question: no group runs some suites, and few cells have them."""
    suite = SUITES.get(question.suite)
    ran = any(result.suite == question.suite for cell in cells for result in cell.suites)
    return ran or suite is None or suite.default


def has_answer(state: State) -> bool:
    """Tell whether a suite, or a cell, in this state has an answer: it did what it should, or it failed."""
    return state is State.FAILED or (state.good and state is not State.SUCCEEDED)


def axes(words: Sequence[str], option: str) -> dict[str, str]:
    """Return the values of axes that an option names, from ``AXIS=VALUE``.

    :raises SelectionError: for an unknown axis, one without a value, and one that is named twice.
    """
    found: dict[str, str] = {}
    for axis, _, value in (word.partition("=") for word in words):
        if axis not in AXES:
            raise SelectionError(f"{option}: there is no axis {axis!r}{did_you_mean(axis, AXES)}")
        if not value or axis in found:
            why = f"{axis} is named twice" if value else "it has no value"
            raise SelectionError(f"{option} {axis}={value} cannot be used", why=why, next_step=f"{option} AXIS=VALUE")
        found[axis] = value
    return found


def check(cells: Sequence[str], before: Axes, after: Axes) -> None:
    """Refuse all but two different cells, or two sides that name other values of the same axes.

    :raises SelectionError: says what is wrong.
    """
    lone = ", ".join(sorted(before.keys() ^ after.keys()))
    alike = ", ".join(axis for axis in before if same(axis, before[axis], after.get(axis)))
    # The first that holds is the one that is told.
    wrong = {
        "cells cannot be named together with --from and --to": cells and (before or after),
        f"two cells are compared; named: {len(cells)}": not (before or after) and len(cells) != _BOTH,
        "both names are of the same cell": len(cells) > len(set(cells)),
        f"{lone} is in only one of --from and --to": lone,
        f"{alike} has the same value in --from and --to": alike,
    }
    usage = session("compare", "CELL_A CELL_B, or --from slurm=24.11.7 --to slurm=25.11.7")
    for what in (what for what, is_so in wrong.items() if is_so):
        raise SelectionError(what, next_step=usage)


def check_values(values: Axes, compat: Compat, rows: Matrix) -> None:
    """Refuse values of axes that neither the data nor the matrix has.

    :raises SelectionError: names the nearest one.
    """
    cells: Iterable[CellReport | Cell] = (*compat.cells, *(rows.without_groups() if values else ()))
    for axis, value in values.items():
        known = dict.fromkeys(text for cell in cells if (text := cell.axes.get(axis)))
        if not any(same(axis, value, other) for other in known):
            raise SelectionError(f"there is no {axis} {value!r}{did_you_mean(str(value), known)}")


def as_rows(values: Mapping[str, str], cells: Sequence[CellReport], rows: Matrix) -> dict[str, str]:
    """Return values with the row that a release of Slurm was observed in, if it has none: 22.05 for 22.05.8."""
    release = values.get("slurm", "")
    known = [*(row.name for row in rows.slurm), *(cell.axes.get("slurm") for cell in cells)]
    if not release or any(same("slurm", release, name) for name in known):
        return dict(values)
    # Only of cells in which this very release was seen: a row such as 22.05 is whatever Debian ships.
    observed = (cell.axes.get("slurm") or "" for cell in cells if cell.versions.get("slurm") == release)
    return {**values, "slurm": next((row for row in observed if slurm_matches(release, row)), release)}


def pairs(names: Sequence[str], before: Axes, after: Axes, compat: Compat, rows: Matrix) -> list[Pair]:
    """Return the cells of two names, or all that have results and differ in these axes only.

    :raises SelectionError: for an unknown name.
    :raises ResultsError: if there are no results of them.
    """
    there = tested_cells(compat)
    if names:
        by_id = {cell.id: cell for cell in there}
        missing = [rows.cell(name).id for name in names if name not in by_id]
        found = [] if missing else [(by_id[names[0]], by_id[names[1]])]
        what, wanted = " and ".join(missing), missing
    else:
        found = [(cell, other) for cell in there if has(cell, before) for other in there if _is(other, cell, after)]
        wanted = [] if found else partners(before, after, compat, rows)[:2]  # one pair, as an example
        what = "cells that differ only in " + ", ".join(f"{axis} {old} → {after[axis]}" for axis, old in before.items())
    if not found:
        raise ResultsError(
            f"there are no results of {what}",
            why="; ".join(f"{problem.where}: {problem.what}" for problem in compat.problems[:5]),
            next_step=how_to_run(wanted),
        )
    return found


def how_to_run(cells: Sequence[str]) -> str:
    """Return what is to be typed for results of cells to be there."""
    if any("+" in name for name in cells):  # a profile's name alone may not say where it is
        return "the same again with --run"
    return f"{session('matrix', ' '.join(cells) or 'CELL_A CELL_B')}, or the same again with --run"


def partners(before: Axes, after: Axes, compat: Compat, rows: Matrix) -> list[str]:
    """Return the ids of all pairs of the matrix of which one side has results."""
    sides = [
        (side, to) for own, to in ((before, after), (after, before)) for side in tested_cells(compat) if has(side, own)
    ]
    couples = [(side.id, cell.id) for side, to in sides for cell in rows.without_groups() if _is(cell, side, to)]
    return list(dict.fromkeys(name for couple in couples for name in couple))


def to_run(names: Sequence[str], suites: Sequence[str], compat: Compat, rows: Matrix) -> tuple[list[str], list[str]]:
    """Return the cells that lack an answer of these suites, or of one that every group runs; and what they lack."""
    chosen = [suite(name) for name in suites] or [each for each in SUITES.values() if each.default]
    there = {(cell.id, suite.suite) for cell, suite in compat.results() if has_answer(suite.state)}
    wanted = [(cell, each) for cell in map(rows.cell, names) for each in chosen]
    # A suite that can't be run on a cell is not missing there.
    missing = [(cell.id, each.name) for cell, each in wanted if not each.unfit(cell, rows.subject)]
    cells, lacking = ([*dict.fromkeys(couple[at] for couple in missing if couple not in there)] for at in (0, 1))
    return cells, lacking


def pair_name(pair: Pair) -> str:
    """Return what a pair is called: the axes that both cells have alike, written as in an id."""
    before, after = (cell.axes for cell in pair)
    alike = {axis: text for axis in AXES if (text := before.get(axis)) and text == after.get(axis)}
    runtime = [] if pair[0].runtime == Runtime.NVIDIA else [pair[0].runtime]
    words = [*(f"{axis if axis in VERSION_AXES else ''}{value}" for axis, value in alike.items()), *runtime]
    # The signs are those of an id: …-amd64+PROFILE, …@SITE.
    behind = (("+", pair[0].profile, pair[1].profile), ("@", pair[0].site, pair[1].site))
    return "-".join(words) + "".join(f"{sign}{name}" for sign, name, other in behind if name == other != "")


def same(axis: str, first: str | None, second: str | None) -> bool:
    """Tell whether two texts are the same value of an axis."""
    if first == second or axis not in VERSION_AXES:
        return first == second
    # As versions: 24.05 is 24.5.
    version = read_version(first or "")
    return version is not None and version == read_version(second or "")


def has(cell: CellReport | Cell, values: Axes) -> bool:
    """Tell whether a cell has these values on their axes."""
    return all(same(axis, value, cell.axes.get(axis)) for axis, value in values.items())


def _is(cell: CellReport | Cell, other: CellReport, but: Axes) -> bool:
    """Tell whether a cell is what another one would be with these values."""
    # Axes alone do not make a cell: one with a profile or of a site has those of a plain one.
    alike = [(one.runtime, one.profile, one.site) for one in (cell, other)]
    return alike[0] == alike[1] and has(cell, {**other.axes, **but})
