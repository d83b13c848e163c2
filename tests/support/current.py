"""The cell of the environment that is up, as tests ask for it."""

from dataclasses import replace

from packaging.version import Version

from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Candidate, Cell
from ci.matrix.model import Matrix


def cell_of(environment: EnvironmentFile, matrix: Matrix) -> Cell:
    """Return the cell of an environment: that of the matrix, with its candidates in their places, and its profile.

    Of a site it is what was seen there.
    """
    if environment.site:
        axes = {name: getattr(environment, name) for name in ("slurm", "enroot", "pyxis", "os", "arch")}
        return Cell.of_site(environment.site, axes, environment.settings)
    cell = matrix.cell(environment.matrix_cell or environment.cell)
    for axis, data in environment.candidates.items():
        cell = cell.with_candidate(Candidate.of_json(axis, data))
    if environment.profile:
        cell = cell.with_profile(environment.profile, environment.settings)
    return replace(cell, answers=tuple((axis, Version(text)) for axis, text in environment.answers.items()))
