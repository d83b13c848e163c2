"""Which matrix.toml the unit tests read: a fixed sample, the repository's own, or that with more rows."""

from collections.abc import Iterable
from pathlib import Path

from ci import paths
from ci.errors import MatrixError
from ci.matrix import loading
from ci.matrix.model import Row
from ci.matrix.systems import families

SAMPLE = Path(__file__).parents[1] / "unit/data/matrix.toml"
"""For tests of logic: what they expect names its rows, and a new row of the repository's own changes none of them."""
PROJECT = paths.MATRIX_FILE


def faults_in(error: MatrixError) -> list[str]:
    """Return the faults that an error of a file lists; of a file that is not TOML there is one."""
    what, *faults = error.what.split("\n  - ")
    return faults or [what]


def grown(text: str) -> str:
    """Return a matrix.toml with one more row of each axis, an operating system, a group and an exclusion.

    The rows are the newest of their axes, which is what a new release is. Where the matrix has every operating system
    that there can be, none is added.
    """
    rows = loading.load(PROJECT)
    left = [it for it in families() if it not in {system.codename for system in rows.systems}]
    system = left[0] if left else rows.systems[0].name
    slurm, enroot, pyxis = map(_next, (rows.slurm, rows.enroot, rows.pyxis))
    added = f'[[os]]\nname = "{system}"\ncodename = "{system}"\n' if left else ""
    return f"""{text}
{added}
[[slurm]]
version = "{slurm}"
from = "archive"

[[enroot]]
version = "{enroot}"

[[pyxis]]
version = "{pyxis}"

[[exclude]]
slurm = "{slurm}"
pyxis = "oldest"
reason = "an exclusion that was added"

[groups.grown]
description = "a group that was added"
cells = [{{ slurm = "{slurm}", enroot = "newest", pyxis = "newest", os = "{system}" }}]
"""


def _next(rows: Iterable[Row]) -> str:
    """Return the release after the newest row, written as its axis writes releases."""
    newest = max(rows, key=lambda row: row.version)
    return ".".join((*newest.name.split(".")[:2], str(newest.version.micro + 1)))
