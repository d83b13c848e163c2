"""The processes of cells, side by side: never more than asked for, and none is left behind, whatever ends the run."""

from collections.abc import Callable
from pathlib import Path
import signal
from typing import Any

import pytest

from ci.group import children
from ci.group.children import ChildCommand, Watch, run_all
from ci.terminal import signals


class Program:
    """Stands for a process that ends after so many looks at it, or at a signal."""

    def __init__(self, looks: int, exit_code: int = 0, *, stubborn: bool = False) -> None:
        """End with ``exit_code``; a stubborn one heeds only SIGKILL."""
        self.looks = looks
        self.returncode: int | None = None
        self.got: list[int] = []
        self._exit_code = exit_code
        self._stubborn = stubborn

    def poll(self) -> int | None:
        """Return how it ended, as ``subprocess`` does."""
        self.looks -= 1
        if self.looks <= 0 and self.returncode is None:
            self.returncode = self._exit_code
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Note the signal, and heed it."""
        self.got.append(number)
        if not self._stubborn or number == signal.SIGKILL:
            self.returncode = 128 + number


class Machine:
    """Starts programs, and remembers how many of them ran at a time."""

    def __init__(self, **programs: Program) -> None:
        """Have programs by the name of their cell."""
        self.programs = programs
        self.at_once: list[int] = []
        self.ended: list[tuple[str, int]] = []

    def start(self, command: ChildCommand) -> Any:  # noqa: ANN401 - it stands for a process
        """Start a cell's program."""
        return self.programs[command.cell]

    def run(
        self, jobs: int, *, go_on: Callable[[str, int], bool] = lambda *_: True, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Run all of them."""
        began: list[str] = []

        def ended(cell: str, exit_code: int) -> bool:
            self.ended.append((cell, exit_code))
            return go_on(cell, exit_code)

        def ticked() -> None:
            self.at_once.append(len(began) - len(self.ended))
            tick()

        commands = [ChildCommand(cell=name, words=(), output=Path()) for name in self.programs]
        watch = Watch(began=began.append, ended=ended, tick=ticked)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(children, "start", self.start)
            run_all(commands, jobs=lambda: jobs, watch=watch)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**6))
    monkeypatch.setattr("ci.group.children.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("ci.group.children.time.monotonic", lambda: float(next(now)))


@pytest.mark.parametrize(("jobs", "most"), [(1, 1), (2, 2), (9, 4)])
def test_no_more_than_asked_for_run_at_a_time_and_all_run(jobs: int, most: int) -> None:
    machine = Machine(a=Program(3), b=Program(5, 1), c=Program(2), d=Program(4))
    machine.run(jobs)
    assert max(machine.at_once) == most
    assert sorted(machine.ended) == [("a", 0), ("b", 1), ("c", 0), ("d", 0)], "one that fails stops no other"


def test_fail_fast_ends_what_runs_and_begins_nothing_more() -> None:
    machine = Machine(a=Program(2, 1), b=Program(99), c=Program(1))
    machine.run(2, go_on=lambda _cell, exit_code: exit_code == 0)
    assert machine.programs["b"].got == [signal.SIGINT]
    assert machine.ended == [("a", 1), ("b", 130)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_waited_for(number: signal.Signals) -> None:
    machine = Machine(a=Program(99), b=Program(99), c=Program(1))

    def tick() -> None:
        if not any(program.got for program in machine.programs.values()):
            raise signals.Interrupted(number)

    with pytest.raises(signals.Interrupted):
        machine.run(2, tick=tick)
    assert [machine.programs[name].got for name in "abc"] == [[number], [number], []]
    assert sorted(machine.ended) == [("a", 128 + number), ("b", 128 + number)]


def test_what_does_not_end_is_killed_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(a=Program(10**5, stubborn=True))

    def tick() -> None:
        if not machine.programs["a"].got:
            raise signals.Interrupted(signal.SIGINT)

    with pytest.raises(signals.Interrupted):
        machine.run(1, tick=tick)
    assert machine.programs["a"].got == [signal.SIGINT, signal.SIGKILL]
    assert "a did not end within" in capsys.readouterr().err
