"""A run of a group, with doubles for the engine and the cells' processes: what runs, what need not, what is written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from docker.errors import APIError
import pytest
from requests.exceptions import RequestException

from ci import paths
from ci.environment.plan import EnvironmentPlan
from ci.errors import BuildError, DiskFullError, EngineError, NotRunError, PyxisMatrixError
from ci.group import capacity, children, fingerprint, images, planning, running
from ci.group.capacity import Capacity
from ci.group.children import Command, Watch
from ci.group.planning import Asked, GroupPlan, plan_group
from ci.group.running import How, run_group
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Options
from ci.results import store
from ci.results.outcomes import Outcome, TestOutcome, TestState
from ci.results.store import Result

ENGINE = cast("Any", None)


class Machine:
    """Stands for the engine and for the processes of cells; each suite comes to what the test says."""

    def __init__(self, results: Path, rows: Matrix) -> None:
        """Have everything pass."""
        self.results = results
        self.rows = rows
        self.cells = [
            it for it in rows.all_cells(Arch.host()) if it.runtime is Runtime.EMBEDDED and it.arch is Arch.host()
        ][:2]
        self.problems: dict[str, PyxisMatrixError] = {}
        """What keeps a cell's images from being built."""
        self.outcomes: dict[tuple[str, str], Outcome | None] = {}
        """By cell and suite; with None its process ends without a result."""
        self.taste = "same"
        """Stands for all that decides the outcome."""
        self.while_running: Callable[[], None] = lambda: None
        """What somebody does while suites run."""
        self.program = "untouched"
        self.touched: set[str] = set()
        """Suites whose files somebody touched."""
        self.ran: list[tuple[str, str]] = []
        self.jobs = 0
        self.connect: Callable[[], Any] = lambda: ENGINE
        """Finds the engine."""
        self.begun: list[str] = []

    def stamp(self, plan: EnvironmentPlan, suite: Suite) -> Mapping[str, str]:
        """Return the stamp of what is a suite's own."""
        return {"suite files": f"{plan.cell.id} {suite.name} {suite.name in self.touched}"}

    def plan(
        self, run: str = "run", missing: Callable[[Cell], str | None] = lambda _cell: None, *, strict: bool = False
    ) -> GroupPlan:
        """Plan two suites on the cells."""
        asked = Asked(cells=[cell.id for cell in self.cells], suites=["registry", "pyxis_conformance"])
        return plan_group(asked, self.rows, Options(run=run, results=self.results, strict=strict), missing)

    def resumed(self, run: str = "run") -> GroupPlan:
        """Plan how that goes on."""
        options = Options(run=run, results=self.results)
        return planning.resumed(self.plan(run).recorded(), Asked(), self.rows, options, lambda _cell: None)

    def run(self, plan: GroupPlan, **how: Any) -> list[PyxisMatrixError]:  # noqa: ANN401 - fields of How
        """Run a plan."""
        self.ran, self.begun = [], []
        return run_group(self.connect, self.rows, plan, How(**how))

    def found(self, run: str = "run") -> dict[tuple[str, str], Result]:
        """Return the results of a run, by cell and suite."""
        return {(it.cell_id, it.suite): it for it in store.load_run(self.results / run)[0]}

    def run_all(self, commands: Sequence[Command], *, jobs: int, watch: Watch) -> tuple[str, ...]:
        """Run cells one after another, as their processes would."""
        self.jobs = jobs
        for number, command in enumerate(commands):
            watch.began(command.cell)
            self.begun.append(command.cell)
            watch.tick()
            codes = [self._suite(command, name) for name in self._orders(command)]
            if not watch.ended(command.cell, max(codes, default=0)):
                return tuple(it.cell for it in commands[number + 1 :])
        return ()

    def _orders(self, command: Command) -> list[str]:
        words = list(command.words)
        return [words[place + 1] for place, word in enumerate(words) if word == "--suite"]

    def _suite(self, command: Command, order: str) -> int:
        name = order
        self.ran.append((command.cell, name))
        self.while_running()
        outcome = self.outcomes.get((command.cell, name), Outcome.PASSED)
        if outcome is None:
            return -9
        run = command.words[command.words.index("--run") + 1]
        result = Result(
            run=run,
            cell=store.CellRecord(id=command.cell, runtime="embedded"),
            suite=name,
            outcome=outcome,
            exit_code=int(outcome is not Outcome.PASSED),
            started=store.utc_now(),
            seconds=1.0,
            tests=(TestOutcome(name="a", outcome=TestState.PASSED),),
        )
        store.write(result, self.results / run / command.cell / name / store.RESULT_FILE)
        return result.exit_code


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture
def machine(tmp_path: Path, rows: Matrix, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, rows)

    def ingredients(plan: EnvironmentPlan, suite: Suite, *_words: object, **_more: object) -> Mapping[str, str]:
        return {"cell": plan.cell.id, "suite files": suite.name, "images": made.taste}

    monkeypatch.setattr(running, "Builder", lambda *_words, **_more: None)
    monkeypatch.setattr(images, "build_all", lambda _builder, _plans: made.problems)
    monkeypatch.setattr(fingerprint.Shared, "of", lambda _engine: None)
    monkeypatch.setattr(fingerprint, "shared_stamp", lambda: {"program": made.program})
    monkeypatch.setattr(fingerprint, "stamp", lambda plan, suite, shared: {**shared, **made.stamp(plan, suite)})
    monkeypatch.setattr(fingerprint, "images_of", lambda _plan, _builder: "")
    monkeypatch.setattr(fingerprint, "ingredients", ingredients)
    monkeypatch.setattr(capacity, "of_machine", lambda _engine: Capacity(cores=2, memory=64 * 1024**3))
    monkeypatch.setattr(children, "run_all", made.run_all)
    return made


def test_all_suites_run_on_all_cells(machine: Machine) -> None:
    machine.run(machine.plan(), jobs=1)
    assert machine.begun == [cell.id for cell in machine.cells]
    assert machine.jobs == 1
    assert {it.outcome for it in machine.found().values()} == {Outcome.PASSED}
    assert len(machine.found()) == 4
    assert all(it.fingerprint for it in machine.found().values())


def test_what_a_full_disk_takes_of_a_run_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = machine.cells
    machine.outcomes[first.id, "registry"] = machine.outcomes[first.id, "pyxis_conformance"] = None
    real = store.write

    def write(result: Result, path: Path) -> None:
        if result.cell_id == first.id:
            raise DiskFullError("no room")
        real(result, path)

    monkeypatch.setattr(store, "write", write)
    unwritten = machine.run(machine.plan())
    assert [it.exit_code for it in unwritten] == [DiskFullError.exit_code] * 2
    assert {it.cell_id for it in machine.found().values()} == {second.id}


def test_a_cell_without_images_does_not_keep_the_other_from_running(machine: Machine) -> None:
    first, second = machine.cells
    machine.problems[first.id] = BuildError("no compiler")
    machine.run(machine.plan())
    assert machine.begun == [second.id]
    found = machine.found()[first.id, "registry"]
    assert (found.outcome, found.exit_code, found.reason) == (Outcome.ERROR, BuildError.exit_code, "no compiler")


def test_a_cell_that_can_not_run_has_a_result_that_says_why(machine: Machine) -> None:
    first, second = machine.cells
    machine.run(machine.plan(missing=lambda cell: "no mirror" if cell == first else None))
    assert machine.begun == [second.id]
    found = machine.found()[first.id, "registry"]
    assert (found.outcome, found.exit_code, found.reason) == (Outcome.SKIPPED, NotRunError.exit_code, "no mirror")


@pytest.mark.parametrize(("strict", "outcome"), [(False, Outcome.SKIPPED), (True, Outcome.ERROR)])
def test_a_cell_whose_images_are_not_built_here_is_not_run(machine: Machine, *, strict: bool, outcome: Outcome) -> None:
    first, second = machine.cells
    machine.problems[first.id] = NotRunError("it is not compiled under emulation")
    machine.run(machine.plan(strict=strict))
    assert machine.begun == [second.id]
    found = machine.found()[first.id, "registry"]
    assert (found.outcome, found.exit_code) == (outcome, NotRunError.exit_code)


def test_a_process_that_dies_without_a_word_leaves_a_result(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = None
    machine.outcomes[first.id, "pyxis_conformance"] = None
    machine.run(machine.plan())
    found = machine.found()[first.id, "registry"]
    assert found.outcome is Outcome.ERROR
    assert paths.OUTPUT_FILE in found.reason
    assert machine.found()[machine.cells[1].id, "registry"].outcome is Outcome.PASSED


def test_an_old_result_is_not_taken_for_that_of_a_process_that_died(machine: Machine) -> None:
    first, _ = machine.cells
    machine.run(machine.plan())
    machine.outcomes[first.id, "registry"] = None
    machine.run(machine.plan())
    assert machine.found()[first.id, "registry"].outcome is Outcome.ERROR


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test handles it."""


def killed(*_: object, **__: object) -> Any:  # noqa: ANN401 - it stands for anything
    raise Killed


@pytest.mark.parametrize("at", ["connect", "build_all", "ingredients", "of_machine", "run_all"])
def test_what_is_killed_at_any_moment_has_no_answer_of_an_earlier_attempt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    machine.run(machine.plan())
    machine.connect = killed if at == "connect" else machine.connect
    for module, name in (
        (images, "build_all"),
        (fingerprint, "ingredients"),
        (capacity, "of_machine"),
        (children, "run_all"),
    ):
        if name == at:
            monkeypatch.setattr(module, name, killed)
    with pytest.raises(Killed):
        machine.run(machine.plan())
    assert {it.outcome for it in machine.found().values()} == {Outcome.UNFINISHED}
    assert len(machine.found()) == 4


@pytest.mark.parametrize("problem", [EngineError("no engine"), APIError("gone"), RequestException("gone")])
def test_a_dead_engine_is_an_error_of_every_suite_and_no_answer_of_before(machine: Machine, problem: Exception) -> None:
    first, _ = machine.cells

    def dead() -> Any:  # noqa: ANN401 - it stands for the engine
        raise problem

    machine.run(machine.plan(), fail_fast=True)
    machine.connect = dead
    with pytest.raises(PyxisMatrixError):
        machine.run(machine.plan(missing=lambda cell: "no mirror" if cell == first else None))
    found = machine.found()
    assert {it.outcome for (cell, _), it in found.items() if cell == first.id} == {Outcome.SKIPPED}
    assert {it.outcome for (cell, _), it in found.items() if cell != first.id} == {Outcome.ERROR}
    assert len(found) == 4


def test_a_dead_engine_takes_no_answer_of_the_run_that_goes_on(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.INTERRUPTED
    machine.run(machine.plan())

    def dead() -> Any:  # noqa: ANN401 - it stands for the engine
        raise EngineError("no engine")

    machine.connect = dead
    with pytest.raises(EngineError):
        machine.run(machine.resumed())
    assert sorted(it.outcome for it in machine.found().values()) == [Outcome.ERROR, *[Outcome.PASSED] * 3]


def test_what_runs_again_when_the_run_goes_on_has_no_answer_meanwhile(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.run(machine.plan())
    machine.taste = "another image"
    monkeypatch.setattr(children, "run_all", killed)
    with pytest.raises(Killed):
        machine.run(machine.resumed())
    assert {it.outcome for it in machine.found().values()} == {Outcome.UNFINISHED}


def test_fail_fast_begins_no_further_cell(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.FAILED
    machine.run(machine.plan(), fail_fast=True)
    assert machine.begun == [first.id]
    machine.run(machine.plan())
    assert len(machine.begun) == 2


# -- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Outcome.PASSED, False),
        (Outcome.PARTLY, False),
        (Outcome.FAILED, False),
        (Outcome.ERROR, True),
        (Outcome.INTERRUPTED, True),
        (Outcome.SKIPPED, True),
    ],
)
def test_a_run_goes_on_with_what_has_no_answer_yet(machine: Machine, outcome: Outcome, *, again: bool) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = outcome
    machine.run(machine.plan())
    machine.outcomes.clear()
    machine.run(machine.resumed())
    assert machine.ran == ([(first.id, "registry")] if again else [])


def test_what_was_never_begun_runs_when_the_run_goes_on(machine: Machine) -> None:
    first, second = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.FAILED
    machine.run(machine.plan(), fail_fast=True)
    machine.run(machine.resumed())
    assert machine.begun == [second.id]


def test_what_has_changed_since_runs_again_when_the_run_goes_on(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.run(machine.plan())
    machine.taste = "another image"
    machine.run(machine.resumed())
    assert len(machine.ran) == 4
    assert "registry runs again" in capsys.readouterr().err


def test_a_broken_result_runs_again_and_is_warned_about(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = machine.cells
    machine.run(machine.plan())
    (machine.results / "run" / first.id / "registry" / store.RESULT_FILE).write_text('{"schema": 2', encoding="utf-8")
    machine.run(machine.resumed())
    assert machine.ran == [(first.id, "registry")]
    assert "a result is invalid" in capsys.readouterr().err


def test_a_cell_that_breaks_when_the_run_goes_on_loses_nothing(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.INTERRUPTED
    machine.run(machine.plan())
    machine.problems[first.id] = DiskFullError("no room")
    machine.run(machine.resumed())
    found = machine.found()
    assert found[first.id, "pyxis_conformance"].outcome is Outcome.PASSED
    assert found[first.id, "registry"].exit_code == DiskFullError.exit_code


# -- what is touched while suites run -------------------------------------------------------------------------------


def test_what_is_touched_while_a_suite_runs_costs_its_result_the_fingerprint(machine: Machine) -> None:
    machine.while_running = lambda: machine.touched.add("registry")
    machine.run(machine.plan("one"))
    for (_, suite), result in machine.found("one").items():
        assert result.outcome is Outcome.PASSED
        if suite == "registry":
            assert (result.fingerprint, result.reason) == (
                "",
                "changed while it ran: suite files; so no later run takes this result",
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
        machine.touched.add("registry")  # edited in the midst of reading it
        return {"cell": plan.cell.id, "suite files": suite.name}

    monkeypatch.setattr(fingerprint, "ingredients", ingredients)
    machine.run(machine.plan("one"))
    assert {suite for (_, suite), it in machine.found("one").items() if it.fingerprint} == {"pyxis_conformance"}


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
    seen: list[Command] = []
    monkeypatch.setattr(children, "run_all", lambda commands, **_more: seen.extend(commands))
    asked = Asked(cells=[machine.cells[0].id], suites=["registry"], words=["-k", "tls"])
    options = Options(run="run", results=machine.results, nodes=3, user="alice")
    plan = plan_group(asked, machine.rows, options, lambda _cell: None)
    machine.run(plan)
    words = seen[0].words
    assert words[:2] == ("cell", machine.cells[0].id)
    assert words[2:6] == ("--nodes", "3", "--user", "alice")
    assert words[-3:] == ("--", "-k", "tls")
    assert {"--run", "run", "--results", str(machine.results)} <= set(words)
