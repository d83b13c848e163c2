"""Fixtures of Pyxis' own suite, and its tests as pytest's."""

from collections.abc import Callable, Iterator
import os
import shlex
import uuid

import pytest

from ci import environment_file
from ci.environment_file import EnvironmentFile
from tests.integration.upstream import hub
from tests.support.bats_suite import Case, cases, packed_tests, source_archive
from tests.support.cluster import Node, Shell

# Slurm and bats wait for each other at worst for a few minutes; a test that hangs is a failure.
_TEST_SECONDS = 600.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each bats test of the cell's release."""
    if "case" not in metafunc.fixturenames:
        return
    if not os.environ.get(environment_file.VARIABLE):
        metafunc.parametrize("case", [])  # `pytest --collect-only` without an environment
        return
    environment = environment_file.current()
    if environment.pyxis is None:
        raise pytest.UsageError(
            f"pyxis_upstream needs a real cell: {environment.cell} has no release of Pyxis whose tests could be run"
        )
    found = cases(source_archive(environment))
    if not found:
        # pytest would skip a test without parameters, and the suite would look as if it had been run.
        raise pytest.UsageError(
            f"the source archive of Pyxis {environment.pyxis} has no bats tests where they should be"
        )
    metafunc.parametrize("case", found, ids=[case.id for case in found])


@pytest.fixture(scope="session")
def prepared_nodes(environment: EnvironmentFile) -> Iterator[None]:
    """Have what Pyxis' tests expect of a cluster on the nodes."""
    with hub.opened(environment):
        yield


@pytest.fixture
def run_bats(
    prepared_nodes: None,  # noqa: ARG001 - what it does is needed, not what it gives
    environment: EnvironmentFile,
    login_node: Node,
    cluster_shell: Shell,
) -> Iterator[Callable[[Case], str]]:
    """Return a function that runs one bats test as the job user and returns what bats wrote."""
    user = environment.login.user
    folder = f"/home/{user}/upstream-{uuid.uuid4().hex[:12]}"
    hub.unpack(login_node, folder, packed_tests(source_archive(environment)), user)

    def run(case: Case) -> str:
        # Nobody knows a bats test by its exit status: it stands in what bats writes.
        done = cluster_shell.run_unchecked(f"cd {shlex.quote(folder)} && {case.command()}", limit=_TEST_SECONDS)
        assert "1..1" in done.stdout, str(done)
        return done.stdout

    yield run
    cluster_shell.run_unchecked(f"rm -rf {shlex.quote(folder)}")
