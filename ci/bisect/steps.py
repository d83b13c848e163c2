"""What a bisection goes through: the releases of an axis, or the commits of a checkout, oldest first."""

from contextlib import suppress
from dataclasses import dataclass, replace

from packaging.version import Version

from ci.artefacts.candidates import PROJECTS, Project, release_at
from ci.artefacts.checkout import Checkout
from ci.artefacts.releases import slurm_tag
from ci.errors import CandidateError, SelectionError, typed
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, read_version
from ci.matrix.model import Matrix, Row
from ci.options import Options
from ci.options.values import Origin


@dataclass(frozen=True, kw_only=True)
class Step:
    """A release or a commit."""

    name: str
    """The release, or the beginning of the commit's id."""
    title: str = ""
    """The first line of the commit's message."""
    cell: Cell
    """The matrix's cell that it is tried in."""
    options: Options
    obstacle: str = ""
    """Why it can't be tried; empty if it can."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The two ends, as they were named."""

    axis: str
    good: str
    bad: str


def releases(span: Span, cell: Cell, matrix: Matrix, options: Options) -> list[Step]:
    """Return the releases of the axis between two, both included.

    :raises SelectionError: if one of the two has no row, or they stand the wrong way round.
    """
    # By version and not by name: --good 24.5 is the row 24.05.
    known: dict[Version, Row] = {row.version: row for row in getattr(matrix, span.axis)}
    first, last = (_row_version(name, span.axis, matrix, known) for name in (span.good, span.bad))
    if last <= first:
        raise SelectionError(
            "--bad is older than --good" if last < first else "--good and --bad are the same release",
            why=f"{span.axis} {span.bad} does not come after {span.good}",
            next_step="name the older one as --good: bisect looks for where the answer changes, whatever it is",
        )
    between = sorted(version for version in known if first <= version <= last)
    expecting = _expecting(options, span.axis, first)
    return [_of_release(known[version], span.axis, cell, matrix, expecting) for version in between]


def commits(span: Span, checkout: Checkout, cell: Cell, options: Options) -> list[Step]:
    """Return the commits of a checkout between two, both included; of merges the line that they were made on.

    :raises CandidateError: if the checkout is that of another project, has no such revision, or the one end does not
        come before the other.
    :raises SelectionError: for an axis whose commits are not built here.
    """
    project = PROJECTS.get(span.axis)
    if project is None:
        raise SelectionError(
            f"--checkout cannot be used with --axis {span.axis}",
            why="enroot's packages are not built here",
            next_step="bisect its releases, or build the packages of each commit yourself: --enroot DIR",
        )
    good, bad = (_commit(checkout, project, name) for name in (span.good, span.bad))
    if good == bad:
        raise SelectionError(
            "--good and --bad are the same commit", where=str(checkout.path), next_step="name two commits"
        )
    expecting = _expecting(options, span.axis, Version(release_at(project, checkout, good)))
    return [
        Step(
            name=checkout.label(commit).removeprefix("g"),
            title=checkout.subject(commit),
            cell=cell,
            options=_at(expecting, span.axis, Origin(path=checkout.path, revision=commit)),
        )
        for commit in (good, *checkout.between(good, bad))  # between() has its end, not its begin
    ]


def _of_release(row: Row, axis: str, cell: Cell, matrix: Matrix, options: Options) -> Step:
    wanted = {**cell.axes, axis: row.name}
    plain = (other for other in matrix.all_cells(cell.arch) if not other.profile)
    # A group may have a cell of the same axes with a profile.
    if found := next((other for other in plain if other.axes == wanted and other.runtime is cell.runtime), None):
        options = replace(options, profile=options.profile or cell.profile)
        return Step(name=row.name, cell=found, options=options)
    out = next(
        (other for other in matrix.excluded() if other.cell.axes == wanted and other.cell.runtime is cell.runtime), None
    )
    why = f"matrix.toml leaves it out: {out.reason}" if out else "matrix.toml has no such cell"
    return Step(name=row.name, cell=cell, options=options, obstacle=why)


def _row_version(name: str, axis: str, matrix: Matrix, known: dict[Version, Row]) -> Version:
    version = read_version(name)
    if version is None or version not in known:
        raise SelectionError(
            f"there is no {axis} {name}",
            where=f"{matrix.path}, [[{axis}]]",
            why=f"its rows are {', '.join(row.name for row in known.values())}",
            next_step="name one of them, or add --checkout PATH to name commits",
        )
    return version


def _commit(checkout: Checkout, project: Project, name: str) -> str:
    """Return the commit of a revision; a plain version stands for its release's tag."""
    tag = slurm_tag(name) if project.axis == "slurm" else f"v{name}"
    try:
        # As it was typed, first: a checkout may have a branch that is called like a release.
        return checkout.commit(name)
    except CandidateError:
        # Where there is no such tag either, the error is that of the name as it was typed.
        with suppress(CandidateError):
            return checkout.commit(tag)
        raise


def _at(options: Options, axis: str, origin: Origin) -> Options:
    return replace(options, slurm=origin) if axis == "slurm" else replace(options, pyxis=origin)


def _expecting(options: Options, axis: str, version: Version) -> Options:
    """Return the options with which every step is asked for the answers of the first one, unless they say otherwise."""
    if axis in dict(options.answers_of):
        return options
    return replace(options, answers_of=(*options.answers_of, (axis, version)))


def check(span: Span, cell: Cell, options: Options, host: Arch) -> None:
    """Refuse a cell or options that no step could be tried with.

    :raises SelectionError: for these.
    """
    if cell.version(span.axis) is None:
        raise SelectionError(
            f"{cell.id} has no {span.axis}",
            why=f"its runtime is {cell.runtime}",
            next_step=f"name a real cell: {typed('cells')}",
        )
    if cell.arch is not host:
        raise SelectionError(
            f"{cell.id} needs {cell.arch} hardware", why=f"this is {host}", next_step=f"run it on {cell.arch}"
        )
    if getattr(options, span.axis):
        raise SelectionError(
            f"--{span.axis} is what is bisected",
            why="each step has one of its own",
            next_step="name the checkout with --checkout, or leave it out",
        )
    if options.keep:
        raise SelectionError(
            "--keep cannot be used with a bisection",
            why="it would leave one environment up for each step",
            next_step=f"leave it out, and start the step that you want to see: {typed('up CELL')}",
        )
