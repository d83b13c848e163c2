"""Pyxis' own bats suite, of the cell's release: one test here for each of its tests."""

from collections.abc import Callable
from pathlib import Path
import sys

import pytest

from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Cell
from ci.record.reportlog import RERUNS_PROPERTY
from tests.integration.upstream import hub
from tests.support import not_applicable
from tests.support.bats_suite import Case, State, cases, failing_command, source_archive, verdict
from tests.support.cluster import Shell

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

# Without cgroups, what Pyxis runs to remove a container is a part of the step: it may be killed with the step, and the
# container stays. Some tests would find it and fail, however often they are tried.
_REMOVE_CONTAINERS = (
    "set -o pipefail; enroot list | awk '/^pyxis_/' | xargs --no-run-if-empty --max-args=1 enroot remove --force"
)

TRIES = 5
"""How often a test is tried whose failures have the words of a second try."""

LIST = Path(__file__).with_name("not_applicable.toml")


def rules_of(cell: Cell) -> not_applicable.Rules:
    """Return what the list says of the cell's releases."""
    assert cell.pyxis
    assert cell.enroot
    return not_applicable.load(LIST, pyxis=cell.pyxis, enroot=cell.enroot, slurm=cell.slurm.parsed)


def test_bats(
    *,
    case: Case,
    cell: Cell,
    environment: EnvironmentFile,
    run_bats: Callable[[Case], str],
    request: pytest.FixtureRequest,
    cluster_shell: Shell,
) -> None:
    rules = rules_of(cell)
    turns = Path(environment.results)
    with (
        # The tests of a file use the same names for containers and files.
        hub.turn(turns / f"upstream.{case.file.replace('/', '-')}"),
        hub.turn(turns / "upstream.alone", shared=not rules.is_alone(case.id)),
    ):
        earlier: list[str] = []
        while True:
            if rules.is_alone(case.id):
                cluster_shell.run(_REMOVE_CONTAINERS)
            answer = run_bats(case)
            # Kept in the report: what bats says.
            sys.stdout.write(f"try {len(earlier) + 1}:\n{answer}\n")
            found = verdict(case, answer)
            why = rules.why_again(case.id, answer) if found.state is State.NOT_OK else ""
            if not why or len(earlier) + 1 == TRIES:
                break
            earlier.append(why)
    # Not by the fixture `record_property`: it warns that junit.xml has no place for it, and warnings are errors here.
    request.node.user_properties.append((RERUNS_PROPERTY, earlier))
    if found.state is State.SKIPPED:
        assert found.reason in rules.skips, f"bats skipped it for a reason that is not known here: {found.reason}"
        pytest.skip(f"not applicable: {rules.skips[found.reason]} ({found.reason})")
    told = f"{failing_command(answer)}\n{answer}"
    if entry := rules.entry(case.id):
        assert found.state is State.NOT_OK, f"it passes, but {LIST.name} says: {entry.reason}"
        assert entry.says in answer, f"it fails, but not as {LIST.name} says ({entry.says!r}): {told}"
        pytest.skip(f"not applicable: {entry.reason}")
    assert found.state is State.OK, told


def test_list_of_tests_that_are_not_applicable_is_current(cell: Cell, environment: EnvironmentFile) -> None:
    tests = [case.id for case in cases(source_archive(environment))]
    rules = rules_of(cell)
    idle = [
        pattern
        for entry in rules.entries
        for pattern in entry.tests
        if not any(not_applicable.matches(test, pattern) for test in tests)
    ]
    assert not idle, f"{LIST.name} names tests that Pyxis {cell.pyxis} does not have: {idle}"
