"""Which cells a change can affect, and why: from the files that changed, and from what cells and suites are made of.

What is not known to be harmless counts: a cell too many costs minutes, one too few hides a fault.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ci.environment.configuration import templates_of
from ci.environment.plan import plan_environment
from ci.errors import MatrixError
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.suites import FOLDER as SUITES_FOLDER
from ci.matrix.suites import SUITES, Suite
from ci.options import Options

MATRIX = "matrix.toml"
PINS = "containers/pins.toml"
_IMAGES = "containers/"
_SHARED_BY_IMAGES = frozenset({"families", "shared"})
_HARMLESS = (
    *("docs/*", "*.md", "LICENSE", ".gitignore"),
    *(f"tests/{name}/*" for name in ("bench", "browser", "component", "machine", "mutations", "scale", "soak", "unit")),
)
"""What no cell and no suite reads; a ``*`` stands for slashes, too. Below `_KEPT`, a page of text may be read."""
_KEPT = (_IMAGES, "tests/integration/", "ci/")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is different from an earlier revision."""

    since: str
    """The revision as it was named."""
    files: tuple[str, ...]
    """Names relative to the repository: changed, new and removed ones."""
    before: Matrix | MatrixError | None = None
    """The matrix as it was, or why it can't be read; None where the file is the same."""
    pins: frozenset[str] = frozenset()
    """Paths and image names whose entries in pins.toml are different."""


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a cell and its suites are made of."""

    cell: Cell
    folders: frozenset[str]
    """Below ``containers/``."""
    pinned: frozenset[str]
    """Release files, and names of images that are pulled."""
    suites: tuple[Suite, ...]


def affected(
    cells: Sequence[Cell], suites: Sequence[Suite], matrix: Matrix, options: Options, change: Change
) -> dict[str, tuple[str, ...]]:
    """Return why a change can affect each cell, by the cell's id; a cell that it can't affect is left out.

    :param suites: those that are to be run; what only others are made of does not count.
    """
    effects = [effect for name in change.files if (effect := _effect(name, matrix, change))]
    found: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        made = _made(cell, suites, matrix, options)
        if made.suites and (reasons := tuple(reason for effect in effects for reason in effect(made))):
            found[cell.id] = reasons
    return found


_Effect = Callable[[_Made], Iterator[str]]


def _effect(name: str, matrix: Matrix, change: Change) -> _Effect | None:
    """Return what tells why a changed file matters to a cell; None for a file that matters to none."""
    if name == MATRIX:
        return _of_matrix(matrix, change)
    if name == PINS:
        return lambda made: (f"{PINS}: {it} is pinned anew" for it in sorted(made.pinned & change.pins))
    if any(fnmatchcase(name, pattern) for pattern in _HARMLESS) and not name.startswith(_KEPT):
        return None
    folder = name.removeprefix(_IMAGES).partition("/")[0]
    if name.startswith(_IMAGES) and folder not in _SHARED_BY_IMAGES:
        return _where(lambda made: folder in made.folders, f"{name} goes into its image or its configuration")
    if name.startswith(f"{SUITES_FOLDER}/"):
        its = _suites_of(name.removeprefix(f"{SUITES_FOLDER}/"))
        if len(its) < len(SUITES):
            return lambda made: (f"{name} is part of the suite {it.name}" for it in made.suites if it.name in its)
    return _where(lambda _made: True, f"{name} can affect every cell")


def _where(holds: Callable[[_Made], bool], reason: str) -> _Effect:
    return lambda made: iter([reason] if holds(made) else [])


def _suites_of(name: str) -> frozenset[str]:
    """Return the suites that a file below the suites' folder belongs to; all of them for one that they share."""
    module = f"{SUITES_FOLDER}/{name}".removesuffix(".py").replace("/", ".")
    by_plugin = frozenset(it.name for it in SUITES.values() if module in it.plugins)
    by_name = frozenset(
        it.name for it in SUITES.values() if any(fnmatchcase(name.partition("/")[0], pattern) for pattern in it.tests)
    )
    return by_plugin or by_name or frozenset(SUITES)


def _of_matrix(matrix: Matrix, change: Change) -> _Effect:
    before = change.before
    if not isinstance(before, Matrix):
        return _where(lambda _made: True, f"{MATRIX} can't be compared with that of {change.since}")
    if general := _general(before, matrix):
        return _where(lambda _made: True, f"{MATRIX}: {general}")
    was = {cell.id: cell for cell in before.all_cells(None)}

    def reasons(made: _Made) -> Iterator[str]:
        old = was.get(made.cell.id)
        if old is None:
            yield f"{MATRIX}: the cell is new"
        elif _built(old) != _built(made.cell):
            yield f"{MATRIX}: its rows are different"
        elif _known_failures(before, made.cell) != _known_failures(matrix, made.cell):
            yield f"{MATRIX}: its known failures are different"

    return reasons


def _general(before: Matrix, after: Matrix) -> str:
    """Return what is different for every cell; empty if nothing is."""
    if before.subject != after.subject:
        return "the subject is different"
    if before.defaults.nodes != after.defaults.nodes:
        return "the number of nodes is different"
    return "" if before.suite_environment == after.suite_environment else "the suites' environment is different"


def _built(cell: Cell) -> Cell:
    """Return the cell without what only reports say of it."""
    return replace(cell, slurm=replace(cell.slurm, supported_until=None))


def _known_failures(matrix: Matrix, cell: Cell) -> frozenset[tuple[tuple[str, ...], str]]:
    """Return what decides outcomes; the reason beside it is for people."""
    return frozenset((failure.tests, failure.says) for failure in matrix.known_failures(cell))


def _made(cell: Cell, suites: Sequence[Suite], matrix: Matrix, options: Options) -> _Made:
    images = plan_environment(cell, matrix, options).images
    members = {member.name: member for image in images.all() for member in image.family()}
    pulled = {member.pulled_as for member in members.values()} - {""}
    return _Made(
        cell=cell,
        folders=frozenset(name for it in members.values() for name in (it.folder, *it.beside)) | templates_of(cell),
        pinned=frozenset(pulled | {artefact.path for artefact in images.artefacts}),
        suites=tuple(it for it in suites if not it.unfit(cell, matrix.subject)),
    )
