"""A small set of cells in which every two values of any two axes meet.

Greedy and deterministic: the next cell is the first one with the most pairs that none before had. The candidates are
cells that exist, so what rows and exclusions rule out needs no rule here; libraries for covering arrays start from free
axes. It is written here, too, because the noxfile needs it, and nox' own environment has no such library.
"""

from collections.abc import Sequence
from itertools import combinations

from ci.matrix.cells import Cell

Pair = tuple[str, str]
"""Two values, each with its axis: ``slurm22.05``, ``os debian12``."""


def pairs_of(cell: Cell) -> frozenset[Pair]:
    """Return every pair of values of two axes that meets in the cell; an axis that does not apply is in none."""
    values = [f"{axis} {value}" for axis, value in cell.axes.items() if value]
    return frozenset(combinations(values, 2))


def cover(candidates: Sequence[Cell]) -> dict[Cell, tuple[Pair, ...]]:
    """Return cells that have every pair that occurs among the candidates, each with the pairs that it adds.

    The cells are in the order of the candidates.
    """
    pairs = [pairs_of(cell) for cell in candidates]
    open_pairs = frozenset[Pair]().union(*pairs)
    chosen: dict[int, tuple[Pair, ...]] = {}
    while open_pairs:
        # This ends: an open pair is in some candidate, so each turn closes at least one.
        best = max(range(len(pairs)), key=lambda at: len(pairs[at] & open_pairs))  # the first of several
        chosen[best] = tuple(sorted(pairs[best] & open_pairs))
        open_pairs -= pairs[best]
    return {candidates[at]: chosen[at] for at in sorted(chosen)}
