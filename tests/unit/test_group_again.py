"""What a group takes of an earlier run, and what costs a result its fingerprint."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from ci.environment.plan import EnvironmentPlan
from ci.group import children, fingerprint
from ci.group.children import ChildCommand, Watch
from ci.group.planning import GroupRequest, plan_group
from ci.matrix import loading
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Options
from ci.record.outcomes import Outcome
from tests.support.group import Machine, machine_with_doubles


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture
def machine(tmp_path: Path, rows: Matrix, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine_with_doubles(tmp_path, rows, monkeypatch)


# -- what is touched while suites run -------------------------------------------------------------------------------


def test_what_is_touched_while_a_suite_runs_costs_its_result_the_fingerprint(machine: Machine) -> None:
    machine.while_running = lambda: machine.touched.add("registry")
    machine.run(machine.plan("one"))
    for (_, suite), result in machine.found("one").items():
        assert result.outcome is Outcome.PASSED
        if suite == "registry":
            assert (result.fingerprint, result.reason) == (
                "",
                "changed while it ran: suite files; so no later run reuses this result",
            )
        else:
            assert result.fingerprint
            assert result.reason == ""
    machine.run(machine.plan("two"), reuse=True)
    assert [suite for _, suite in machine.ran] == ["registry", "registry"]


def test_a_program_that_is_edited_while_suites_run_costs_all_their_fingerprints(machine: Machine) -> None:
    machine.while_running = lambda: setattr(machine, "program", "edited")
    machine.run(machine.plan("one"))
    assert {it.fingerprint for it in machine.found("one").values()} == {""}


def test_what_was_touched_between_the_fingerprint_and_the_beginning_of_a_cell_counts_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ingredients(plan: EnvironmentPlan, suite: Suite, *_words: object, **_more: object) -> Mapping[str, str]:
        machine.touched.add("registry")  # edited in the midst of reading it, for the first cell
        return {"cell": plan.cell.id, "suite files": suite.name}

    monkeypatch.setattr(fingerprint, "ingredients", ingredients)
    machine.run(machine.plan("one"))
    untouched = {name for name, it in machine.found("one").items() if it.fingerprint}
    assert machine.found("one").keys() - untouched == {(machine.cells[0].id, "registry")}


def test_a_part_of_a_suite_is_never_taken_for_the_whole(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.PARTLY
    machine.run(machine.plan("one"))
    machine.outcomes.clear()
    machine.run(machine.plan("two"), reuse=True)
    assert machine.ran == [(first.id, "registry")]


# -- what need not run again ----------------------------------------------------------------------------------------


def test_what_has_not_changed_is_taken_from_the_earlier_run_only_if_asked_for(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.run(machine.plan("one"))
    machine.run(machine.plan("two"))
    assert len(machine.ran) == 4
    machine.run(machine.plan("three"), reuse=True)
    assert machine.ran == []
    assert {it.reused_from for it in machine.found("three").values()} <= {"one", "two"}
    assert "unchanged since" in capsys.readouterr().err


def test_what_has_changed_runs_and_is_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.run(machine.plan("one"))
    machine.taste = "another"
    machine.run(machine.plan("two"), reuse=True)
    assert len(machine.ran) == 4
    assert "registry runs: images changed since one" in capsys.readouterr().err


def test_only_what_passed_is_taken(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.FAILED
    machine.run(machine.plan("one"))
    machine.outcomes.clear()
    machine.run(machine.plan("two"), reuse=True)
    assert machine.ran == [(first.id, "registry")]


def test_a_run_that_goes_on_keeps_what_it_took(machine: Machine) -> None:
    machine.run(machine.plan("one"))
    machine.run(machine.plan("two"), reuse=True)
    machine.run(machine.resumed("two"))
    assert machine.ran == []


def test_options_of_the_cluster_reach_the_cells(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ChildCommand] = []

    def run_all(commands: Iterable[ChildCommand | None], *, jobs: Callable[[], int], watch: Watch) -> None:
        assert jobs() == 1, watch
        seen.extend(filter(None, commands))

    monkeypatch.setattr(children, "run_all", run_all)
    asked = GroupRequest(cells=[machine.cells[0].id], suites=["registry"], words=["-k", "tls"])
    options = Options(run="run", results=machine.results, nodes=3, user="alice")
    plan = plan_group(asked, machine.rows, options, lambda _cell: None)
    machine.run(plan)
    words = seen[0].words
    assert words[:2] == ("cell", machine.cells[0].id)
    assert words[2:6] == ("--nodes", "3", "--user", "alice")
    assert words[-3:] == ("--", "-k", "tls")
    assert {"--run", "run", "--results", str(machine.results)} <= set(words)
