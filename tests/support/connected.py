"""A pytest plugin: the environment that is up, its cell, and a shell on its login node."""

from collections.abc import Iterator

import pytest

from ci import environment_file
from ci.environment_file import EnvironmentFile
from ci.matrix import loading
from ci.matrix.cells import Cell
from tests.support.cluster import Shell, shell
from tests.support.current import cell_of


@pytest.fixture(scope="session")
def environment() -> EnvironmentFile:
    """Return the environment that is up."""
    return environment_file.current()


@pytest.fixture(scope="session")
def cell(environment: EnvironmentFile) -> Cell:
    """Return the cell that is tested; the right answers are those of its versions."""
    return cell_of(environment, loading.load())


@pytest.fixture(scope="session")
def cluster_shell(environment: EnvironmentFile) -> Iterator[Shell]:
    """Return a shell on the login node, as the job user: srun, sbatch, enroot."""
    with shell(environment) as opened:
        yield opened
