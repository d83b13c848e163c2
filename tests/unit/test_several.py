"""Several suites in one environment: each has its own result, and one that breaks hurts no other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
import signal
from typing import Any, cast

import pytest

from ci import paths
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment_file import load
from ci.errors import BuildError, DiskFullError, LaunchError, RegistryChangedError, TeardownError
from ci.group import ending
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.pytest_words import given
from ci.matrix.suites import SUITES
from ci.options import Options
from ci.record import progress, store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.session import running
from ci.session.record import Record
from ci.session.several import Order, run_suites
from ci.terminal import signals
from ci.terminal.processes import Completed
from tests.support.environments import environment

BEGIN, END = (
    '{"$report_type": "SessionStart"}\n',
    '{"$report_type": "Selection", "selected": ["a"]}\n{"$report_type": "SessionFinish"}\n',
)
NAMES = ("pyxis_basic", "pyxis_conformance", "registry")


def test_line(outcome: str) -> str:
    """Return what pytest reports of one test."""
    phases = [("setup", "passed"), ("call", outcome), ("teardown", "passed")]
    return "".join(
        f'{{"$report_type": "TestReport", "nodeid": "a", "when": "{when}", "outcome": "{what}"}}\n'
        for when, what in phases
    )


test_line.__test__ = False  # type: ignore[attr-defined]


@dataclass
class House:
    """Stands for the engine: an environment that only counts, and a command that does what a test wants."""

    plan: EnvironmentPlan
    path: Path
    launched: int = 0
    down: int = 0
    acts: dict[str, Callable[[], str]] = field(default_factory=dict)
    """What a suite's command does; it returns its test's outcome."""
    launch: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None
    verify: Callable[[], None] = lambda: None
    take_down: Callable[[], None] = lambda: None
    """What taking it down comes to after a block that ended well."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """The suite and the folder of results that each command found in the environment's file."""
    logs: list[Path] = field(default_factory=list)

    @contextmanager
    def environment_of(self, record: Record) -> Iterator[Environment]:
        """Have an environment up for the block."""
        file = environment(self.plan.cell.id, results="")
        self.launch()
        record.timings.add("launch", 2.0)
        launched = Environment(
            plan=self.plan,
            file=file,
            path=self.path / "environment.json",
            cluster=cast("Any", None),
            check=self.check,
            verify=self.verify,
            save_logs=self.logs.append,
        )
        self.launched += 1
        record.environment = launched
        try:
            yield launched
        finally:
            self.down += 1
            record.timings.add("teardown", 4.0)
        self.take_down()

    def attach(self, command: Sequence[str], **_more: object) -> Completed:
        """Run a suite's command."""
        file = load(self.path / "environment.json")
        self.seen.append((file.suite, file.results))
        log = Path(next(word for word in command if word.startswith("--report-log=")).partition("=")[2])
        log.write_text(BEGIN, encoding="utf-8")
        outcome = self.acts.get(file.suite, lambda: "passed")()
        log.write_text(BEGIN + test_line(outcome) + END, encoding="utf-8")
        return Completed(command=tuple(command), exit_code=int(outcome == "failed"), output="")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    rows = loading.load()
    cell = next(it for it in rows.cells("embedded", Arch.host()) if it.runtime is Runtime.EMBEDDED)
    plan = plan_environment(cell, rows, Options(run="run", results=tmp_path))
    stand_in = House(plan=plan, path=tmp_path)
    monkeypatch.setattr(running, "environment_of", stand_in.environment_of)
    monkeypatch.setattr("ci.terminal.console.attach", stand_in.attach)
    return stand_in


def run(house: House, *names: str) -> list[Result]:
    return run_suites(house.plan, [Order(suite=SUITES[name]) for name in names or NAMES])


def written(house: House) -> dict[str, Result]:
    folder = house.path / "run" / house.plan.cell.id
    return {path.parent.name: store.load(path) for path in folder.glob(f"*/{store.RESULT_FILE}")}


def raising(problem: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise problem

    return act


def test_each_suite_has_its_own_result_and_the_environment_is_started_once(house: House) -> None:
    results = run(house)
    assert (house.launched, house.down) == (1, 1)
    assert [(it.suite, it.outcome) for it in results] == [(name, Outcome.PASSED) for name in NAMES]
    assert {it.fingerprint for it in results} == {""}, "the run of the group gives it, when nothing was touched"
    assert written(house) == {it.suite: it for it in results}
    folder = house.path / "run" / house.plan.cell.id
    assert house.seen == [(name, str(folder / name)) for name in NAMES], "each suite finds its own name and folder"
    assert house.logs == [folder / name / "logs" for name in NAMES]


def test_what_all_suites_share_is_counted_once(house: House) -> None:
    timings = [it.timings for it in run(house)]
    assert [it.get("launch") for it in timings] == [2.0, None, None]
    assert [it.get("teardown") for it in timings] == [None, None, 4.0]
    assert written(house)["registry"].timings["teardown"] == 4.0


def test_a_suite_that_fails_does_not_keep_the_next_from_running(house: House) -> None:
    house.acts["pyxis_basic"] = lambda: "failed"
    house.acts["pyxis_conformance"] = raising(LaunchError("the node is gone"))
    assert [it.outcome for it in run(house)] == [Outcome.FAILED, Outcome.ERROR, Outcome.PASSED]
    assert "the node is gone" in written(house)["pyxis_conformance"].reason


def test_what_does_not_start_is_said_of_each_suite(house: House) -> None:
    house.launch = raising(BuildError("no compiler", next_step="read the log"))
    results = run(house)
    assert {(it.outcome, it.exit_code) for it in results} == {(Outcome.ERROR, BuildError.exit_code)}
    assert all("read the log" in it.reason for it in written(house).values())
    assert written(house).keys() == set(NAMES)


def test_an_environment_that_a_suite_made_unusable_turns_no_other_suite_red(house: House) -> None:
    house.check = raising(LaunchError("nodes idle on n1: not within 60 s"))
    first, second, third = run(house)
    assert first.outcome is Outcome.PASSED
    assert (second.outcome, third.outcome) == (Outcome.ERROR, Outcome.ERROR)
    assert "after pyxis_basic the environment was no longer usable: nodes idle" in second.reason
    assert [name for name, _ in house.seen] == ["pyxis_basic"]


def test_what_ended_well_with_another_job_image_than_was_pushed_is_an_error_and_what_failed_a_failure(
    house: House,
) -> None:
    house.acts["pyxis_conformance"] = lambda: "failed"
    house.verify = raising(RegistryChangedError("the job image in the registry is not the one that was pushed"))
    first, second, third = run(house)
    for changed in (first, third):
        assert (changed.outcome, changed.exit_code) == (Outcome.ERROR, RegistryChangedError.exit_code)
        assert "not the one that was pushed" in changed.reason
        assert len(changed.tests) == 1, "what was seen is kept"
    assert (second.outcome, second.exit_code) == (Outcome.FAILED, 1)


@pytest.mark.parametrize(
    ("last", "outcome", "exit_code"),
    [("passed", Outcome.ERROR, TeardownError.exit_code), ("failed", Outcome.FAILED, 1)],
)
def test_what_could_not_be_taken_down_is_told_of_the_last_suite_and_hides_no_failure(
    house: House, last: str, outcome: Outcome, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    house.acts["registry"] = lambda: last
    house.take_down = raising(TeardownError("a volume is left", next_step="python -m ci down run"))
    results = run(house)
    assert [it.outcome for it in results] == [Outcome.PASSED, Outcome.PASSED, outcome]
    assert results[-1].exit_code == exit_code
    assert written(house) == {it.suite: it for it in results}
    assert ("a volume is left" in results[-1].reason) == (last == "passed")
    assert "python -m ci down run" in capsys.readouterr().err
    assert ending.exit_code(results) == exit_code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_told_of_what_ran_and_of_what_had_still_to_run(house: House, number: signal.Signals) -> None:
    def act() -> str:
        log = house.path / "run" / house.plan.cell.id / "pyxis_conformance" / store.REPORT_LOG_FILE
        log.write_text(BEGIN + test_line("passed"), encoding="utf-8")
        signal.raise_signal(number)
        return "passed"

    house.acts["pyxis_conformance"] = act
    with pytest.raises(signals.Interrupted):
        run(house)
    assert house.down == 1
    found = written(house)
    assert [found[name].outcome for name in NAMES] == [Outcome.PASSED, Outcome.INTERRUPTED, Outcome.INTERRUPTED]
    assert [len(found[name].tests) for name in NAMES] == [1, 1, 0], "what was seen until then is kept"
    assert {found[name].exit_code for name in NAMES[1:]} == {128 + number}


def test_a_disk_that_fills_up_loses_nothing_that_was_written(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.write

    def full(result: Result, path: Path) -> None:
        if result.suite != "pyxis_basic" and result.outcome is not Outcome.UNFINISHED:
            raise DiskFullError("failed to write the result")
        write(result, path)

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(DiskFullError):
        run(house)
    assert house.down == 1
    assert {name: it.outcome for name, it in written(house).items()} == {
        "pyxis_basic": Outcome.PASSED,
        "pyxis_conformance": Outcome.UNFINISHED,
        "registry": Outcome.UNFINISHED,
    }


def test_a_result_of_an_earlier_attempt_is_not_taken_for_this_ones(house: House) -> None:
    run(house, "registry")
    house.acts["registry"] = lambda: "failed"
    assert [it.outcome for it in run(house, "registry")] == [Outcome.FAILED]


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test handles it."""


@pytest.mark.parametrize("moment", ["environment", "first suite", "check", "second suite"])
def test_what_is_killed_at_any_moment_has_no_answer_of_an_earlier_attempt(house: House, moment: str) -> None:
    run(house)
    kill = raising(Killed())
    match moment:
        case "environment":
            house.launch = kill
        case "first suite":
            house.acts["pyxis_basic"] = kill
        case "check":
            house.check = kill
        case "second suite":
            house.acts["pyxis_conformance"] = kill
    with pytest.raises(Killed):
        run(house)
    ended = moment in {"check", "second suite"}
    assert [written(house)[name].outcome for name in NAMES] == [
        Outcome.PASSED if ended else Outcome.UNFINISHED,
        Outcome.UNFINISHED,
        Outcome.UNFINISHED,
    ]


def test_whoever_looks_sees_how_far_it_has_come(house: House) -> None:
    run(house, "registry")
    path = house.path / "run" / house.plan.cell.id / paths.PROGRESS_FILE
    assert [(it.phase, it.suite, it.outcome) for it in progress.read(path)] == [
        ("tests", "registry", ""),
        ("ended", "registry", "passed"),
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write('{"at": 1.0, "pha')  # written in part
    assert len(progress.read(path)) == 2
    assert progress.read(path.with_name("absent")) == ()


def test_each_result_says_how_that_suite_runs_again(house: House) -> None:
    house.plan = replace(house.plan, given=replace(house.plan.given, nodes=3))
    order = Order(suite=SUITES["registry"], given=given(SUITES["registry"], ["-k", "a b"]))
    (result,) = run_suites(house.plan, [order])
    assert result.again == f"nox -s \"registry({house.plan.cell.id})\" -- --nodes 3 -k 'a b'"


def test_the_command_line_of_a_suite() -> None:
    suite = replace(SUITES["registry"], workers=3)
    order = Order(suite=suite, given=given(suite, ["-k", "tls"]))
    assert order.command[1:3] == ("-m", "pytest")
    assert order.command[-5:] == ("tests/integration/registry", "-n", "3", "-k", "tls")
