"""Which cells a change can affect, and why: what of the parts of their suites is not as it was.

What is not known to be harmless counts: a cell too many costs minutes, one too few hides a fault.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ci.environment.plan import plan_environment
from ci.errors import MatrixError
from ci.fleet.parts import CONFIGURATION, IMAGES, PROGRAM, belongs, files_of, pinned_by, rows_of, suite_files
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES, Suite
from ci.options import Options

MATRIX = "matrix.toml"
PINS = "containers/pins.toml"
_OF_IMAGES = "containers/"
"""Where each file is for the images and configurations that are made of it, and for nothing else."""
# Of tests/ what no suite is made of; tests/support and tests/integration are left to `suite_files`.
_HARMLESS = (
    *("docs/*", "*.md", "LICENSE", ".gitignore"),
    *(
        f"tests/{name}/*"
        for name in ("attacks", "bench", "browser", "component", "machine", "mutations", "scale", "soak", "unit")
    ),
)
"""What nobody reads who is not made of it; a ``*`` stands for slashes, too."""


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """What is different from an earlier revision."""

    since: str
    """The revision as it was named."""
    files: tuple[str, ...]
    """Names relative to the repository: changed, new and removed ones."""
    before: Matrix | MatrixError | None = None
    """The matrix as it was, or why it can't be read; None where the file is the same."""
    pins: frozenset[str] = frozenset()
    """Paths and image names whose entries in pins.toml are different."""


def affected(
    cells: Sequence[Cell], suites: Sequence[Suite], matrix: Matrix, options: Options, change: ChangeSet
) -> dict[str, tuple[str, ...]]:
    """Return why a change can affect each cell, by the cell's id; a cell that it can't affect is left out.

    :param suites: those that are to be run; what only others are made of does not count.
    """
    old = change.before
    was = {cell.id: cell for cell in old.all_cells(None)} if isinstance(old, Matrix) else {}
    of_suites = {suite.name: suite_files(suite) for suite in SUITES.values()}
    readers = {name: [suite for suite, files in of_suites.items() if belongs(name, files)] for name in change.files}
    found: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        fitting = {suite.name for suite in suites if not suite.unfit(cell, matrix.subject)}
        if not fitting:
            continue
        plan = plan_environment(cell, matrix, options)
        parts = files_of(plan)
        reasons: list[str] = []
        for name in change.files:
            # The first that fits is the reason. A file that nobody is known to read concerns all cells.
            if name == MATRIX:
                reasons += _of_matrix(cell, was.get(cell.id), matrix, options, change)
            elif name == PINS:
                reasons += [f"{PINS}: {pin} is pinned anew" for pin in sorted(pinned_by(plan) & change.pins)]
            elif belongs(name, parts[IMAGES] | parts[CONFIGURATION]):
                reasons.append(f"{name} goes into its image or its configuration")
            elif reading := [suite for suite in readers[name] if suite in fitting]:
                reasons.append(f"{name} is part of the suite{'s' if len(reading) > 1 else ''} {', '.join(reading)}")
            elif belongs(name, parts[PROGRAM]) or not (readers[name] or _is_harmless(name)):
                reasons.append(f"{name} can affect every cell")
        if reasons:
            found[cell.id] = tuple(reasons)
    return found


def _is_harmless(name: str) -> bool:
    """Tell whether a file counts for nobody who is not made of it; of another one nobody knows who reads it."""
    return name.startswith(_OF_IMAGES) or any(fnmatchcase(name, pattern) for pattern in _HARMLESS)


def _of_matrix(cell: Cell, was: Cell | None, matrix: Matrix, options: Options, change: ChangeSet) -> Iterator[str]:
    if not isinstance(change.before, Matrix):
        yield f"{MATRIX} can't be compared with that of {change.since}"
    elif was is None:
        yield f"{MATRIX}: the cell is new"
    else:
        # By what rows come to for this cell: another row, a comment or an order does not concern it.
        before, now = rows_of(was, change.before, options), rows_of(cell, matrix, options)
        yield from (f"{MATRIX}: {name} changed" for name, value in now.items() if before[name] != value)
