"""Rounds of up, job and down with doubles: what is said of them, and how they end."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ci import environment_file
from ci.environment import ssh
from ci.environment.ssh import RemoteAnswer
from ci.terminal import console
from ci.terminal.processes import Completed
from ci.terminal.signals import Interrupted
from tests.soak import __main__ as program
from tests.soak import rounds as module
from tests.soak.leaks import Lookout
from tests.soak.rounds import Round, Rounds, ports_of, summary
from tests.support import first_job
from tests.support.markers import IMAGE_MARKER_TEXT
from tests.support.program import CheckFailedError

if TYPE_CHECKING:
    from ci.engine.connection import Engine

HEAD, MACHINE = "of 3 rounds on cell (run run, 2026-11-27)", "2 cores; load 0.5 when it began"
GOOD = {"up": 4.0, "job": 1.0, "down": 2.0}
ENVIRONMENT = SimpleNamespace(
    nodes=("n1",), login=SimpleNamespace(port=22001), registry="localhost:5001", job_reference="localhost:5001/job:1"
)


def said(rounds: Sequence[Round]) -> str:
    return summary(HEAD, MACHINE, rounds)


def rounds_of(*rounds: Round) -> Callable[[int], Round]:
    """Return what makes these rounds."""
    return lambda number: rounds[number - 1]


# -- what is said ---------------------------------------------------------------------------------------------------


def test_the_summary_has_rate_spread_and_what_is_left() -> None:
    slow = {**GOOD, "up": 6.0}
    rounds = (
        Round(number=1, seconds=GOOD),
        Round(number=2, seconds=slow, left={"volumes": ["a", "b"]}),
        Round(number=3, seconds={"up": 5.0}, problem="the job did not\n  answer"),
    )
    assert [each.good for each in rounds] == [True, False, False]
    assert said(rounds).splitlines() == [
        "3 of 3 rounds on cell (run run, 2026-11-27)",
        "",
        "- 2 of 3 succeeded (66.7 %)",
        "- after 2 of 3 nothing was left",
        "- machine: 2 cores; load 0.5 when it began",
        "",
        "| seconds | times | min | median | 95 % | max |",
        "| --- | --- | --- | --- | --- | --- |",
        "| up | 3 | 4.00 | 5.00 | 6.00 | 6.00 |",
        "| job | 2 | 1.00 | 1.00 | 1.00 | 1.00 |",
        "| down | 2 | 2.00 | 2.00 | 2.00 | 2.00 |",
        "",
        "- round 2 left volumes: a, b",
        "- round 3: the job did not answer",
    ]


def test_a_summary_of_nothing_claims_nothing() -> None:
    assert said(()) == "0 of 3 rounds on cell (run run, 2026-11-27)\n\n- machine: 2 cores; load 0.5 when it began\n"


# -- how it ends ----------------------------------------------------------------------------------------------------


def test_it_ends_well_and_keeps_each_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "soak.json"
    good = [Round(number=number, seconds=GOOD) for number in (1, 2, 3)]
    assert program.go(rounds_of(*good), 3, path, said, keep_going=False) == 0
    assert "3 of 3 succeeded (100.0 %)" in capsys.readouterr().out
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert (len(kept["rounds"]), kept["rounds"][0]["seconds"]) == (3, GOOD)


@pytest.mark.parametrize("bad", [Round(number=1, problem="no"), Round(number=1, left={"volumes": ["a"]})])
@pytest.mark.parametrize(("keep_going", "made"), [(False, 1), (True, 2)])
def test_a_bad_round_ends_it_with_its_own_error(tmp_path: Path, bad: Round, *, keep_going: bool, made: int) -> None:
    path = tmp_path / "soak.json"
    rounds = rounds_of(bad, Round(number=2, seconds=GOOD))
    with pytest.raises(CheckFailedError, match="a round failed, or something is left"):
        program.go(rounds, 2, path, said, keep_going=keep_going)
    assert len(json.loads(path.read_text(encoding="utf-8"))["rounds"]) == made


def test_an_interruption_shows_what_came_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def once(number: int) -> Round:
        if number == 2:
            raise Interrupted(2)
        return Round(number=number, seconds=GOOD)

    with pytest.raises(Interrupted):
        program.go(once, 3, tmp_path / "soak.json", said, keep_going=False)
    assert "1 of 3 rounds" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))["rounds"]) == 1


# -- one round ------------------------------------------------------------------------------------------------------


class _Machine:
    """Stands for the commands, the job and the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.called: list[tuple[str, ...]] = []
        self.fails = ""
        self.interrupts = ""
        self.answer = IMAGE_MARKER_TEXT
        self.volumes: set[str] = set()

    def call(self, command: Sequence[str], *, log: Path, env: dict[str, str], **_how: object) -> Completed:
        verb, *rest = command[3:]
        self.called.append((verb, *rest))
        run = rest[2] if verb == "up" else rest[0]
        assert env["TMPDIR"] == str(self.folder / run.rpartition("-")[2])
        log.touch()
        if verb == "up":
            self.file(rest[2]).parent.mkdir(parents=True)
            self.file(rest[2]).touch()
        if verb == self.interrupts:
            raise Interrupted(2)
        if verb == "down":
            self.file(rest[0]).unlink()
        return Completed(command=tuple(command), exit_code=int(verb == self.fails), output="it broke")

    def file(self, run: str) -> Path:
        return self.folder / "cache/environments" / run / "cell/environment.json"

    def left(self, volumes: frozenset[str], _ports: list[int]) -> dict[str, list[str]]:
        return {"volumes": sorted(self.volumes & volumes)} if self.volumes & volumes else {}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Machine:
    stand_in = _Machine(tmp_path)
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(console, "call", stand_in.call)
    monkeypatch.setattr(environment_file, "load", lambda _path: ENVIRONMENT)
    monkeypatch.setattr(module, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(Lookout, "volumes", lambda self: frozenset({f"{self.run}-data"}))
    monkeypatch.setattr(Lookout, "left", stand_in.left)

    def run(command: str) -> RemoteAnswer:
        stand_in.called.append(("job", command))
        return RemoteAnswer(command=command, status=0, stdout=f"{stand_in.answer}\n", stderr="")

    monkeypatch.setattr(ssh, "connect", lambda _login: nullcontext(SimpleNamespace(run=run)))
    return stand_in


@pytest.fixture
def make(machine: _Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Round]]:
    assert not machine.called
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    rounds = Rounds(
        cell="cell",
        run="run",
        folder=tmp_path,
        engine=cast("Engine", None),
        temporary=tmp_path,
        words=("--nodes", "2"),
    )
    return lambda count: [rounds.once(number) for number in range(1, count + 1)]


def test_a_round_is_what_a_person_types(make: Callable[[int], list[Round]], machine: _Machine, tmp_path: Path) -> None:
    (one, two) = make(2)
    assert [it[0] for it in machine.called] == ["up", "job", "down"] * 2
    assert machine.called[0] == ("up", "cell", "--run", "run-1", "--nodes", "2")
    assert "--container-image=localhost:5001#job:1" in machine.called[1][1]
    assert machine.called[2] == ("down", "run-1")
    assert one == Round(number=1, seconds={"up": 1.0, "job": 1.0, "down": 1.0})
    assert two.number == 2
    assert list(tmp_path.glob("*.log")) == []


def test_a_job_that_ran_elsewhere_fails_the_round_and_all_is_taken_down(
    make: Callable[[int], list[Round]], machine: _Machine, tmp_path: Path
) -> None:
    machine.answer = "Debian"
    (one,) = make(1)
    assert "did not answer 'pyxis-matrix job image'" in one.problem
    assert set(one.seconds) == {"up", "down"}
    assert machine.called[-1] == ("down", "run-1")
    assert (tmp_path / "round-1.log").exists()


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_command_that_fails_fails_the_round(make: Callable[[int], list[Round]], machine: _Machine, verb: str) -> None:
    machine.fails = verb
    (one,) = make(1)
    assert f"`python -m ci {verb}` failed" in one.problem
    assert "it broke" in one.problem
    assert verb not in one.seconds


def test_an_interruption_in_between_takes_down_what_is_up(
    make: Callable[[int], list[Round]], machine: _Machine
) -> None:
    machine.interrupts = "up"
    with pytest.raises(Interrupted):
        make(1)
    assert machine.called[-1] == ("down", "run-1")


def test_what_one_round_leaves_is_not_told_of_the_next(make: Callable[[int], list[Round]], machine: _Machine) -> None:
    machine.volumes.add("run-1-data")
    assert [it.left for it in make(2)] == [{"volumes": ["run-1-data"]}, {}]


def test_a_legacy_cell_runs_a_plain_step() -> None:
    plain = SimpleNamespace(nodes=("n1",), login=SimpleNamespace(port=1), registry=None, job_reference=None)
    words = first_job.words(plain)  # type: ignore[arg-type]
    assert not [word for word in words if word.startswith("--container")]
    answered = RemoteAnswer(command="", status=0, stdout="Slurm\n", stderr="")
    assert first_job.problem(plain, answered) == ""  # type: ignore[arg-type]
    assert first_job.problem(plain, replace(answered, stdout=f"a prolog\n{answered.stdout}")) == ""  # type: ignore[arg-type]
    assert "did not answer" in first_job.problem(plain, replace(answered, status=1))  # type: ignore[arg-type]
    assert ports_of(plain) == [1]  # type: ignore[arg-type]
    assert ports_of(ENVIRONMENT) == [22001, 5001]  # type: ignore[arg-type]
