"""`ci.environment.wait`: limits, early ends and what the error says, on a clock that costs no time."""

from collections.abc import Callable

import pytest

from ci.environment.wait import NotYet, Watched, wait_for
from ci.errors import EngineError, LaunchError, RefusedError


class Stopped:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        """Start at an arbitrary point, as monotonic clocks do."""
        self.time = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the time."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.time += seconds


def answers(*values: object) -> Callable[[], object]:
    """Return a probe that gives the values one after the other, then the last one for ever; it raises exceptions."""
    left = list(values)

    def probe() -> object:
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return value

    return probe


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> Stopped:
    clock = Stopped()
    monkeypatch.setattr("ci.environment.wait.time", clock)
    return clock


def test_a_value_at_once_costs_no_sleep(stopped: Stopped) -> None:
    assert wait_for("munge", lambda: "up", limit=5) == "up"
    assert stopped.slept == []


@pytest.mark.parametrize("value", [0, "", None, False])
def test_a_falsy_value_is_a_value(stopped: Stopped, value: object) -> None:
    assert wait_for("munge", lambda: value, limit=5) == value
    assert stopped.slept == []


def test_it_polls_until_the_probe_agrees(stopped: Stopped) -> None:
    probe = answers(NotYet("down"), NotYet("unknown"), "idle")
    assert wait_for("node n1", probe, limit=5, poll=0.5) == "idle"
    assert stopped.slept == [0.5, 0.5]


def test_the_limit_is_kept_and_ends_with_a_last_probe(stopped: Stopped) -> None:
    asked: list[float] = []

    def probe() -> NotYet:
        asked.append(stopped.time - 1000.0)
        return NotYet("slurmctld does not answer")

    with pytest.raises(LaunchError) as caught:
        wait_for(
            "controller",
            probe,
            limit=1.0,
            poll=0.4,
            watched=Watched(diagnose=lambda: "\n".join(f"line {n}" for n in range(50)), hint="see `python -m ci logs`"),
        )
    assert asked == pytest.approx([0.0, 0.4, 0.8, 1.0])
    text = str(caught.value)
    assert "controller: not ready within 1 s" in text
    assert "slurmctld does not answer" in text
    assert "line 49" in text
    assert "line 29\n" not in text
    assert "see `python -m ci logs`" in text


def test_death_ends_the_wait_at_once_and_says_how(stopped: Stopped) -> None:
    life: list[bool | str] = [True, "container n1 exited with code 137"]
    with pytest.raises(LaunchError, match=r"died after 0\.1 s") as caught:
        wait_for(
            "sshd",
            lambda: NotYet("connection refused"),
            limit=60,
            watched=Watched(alive=lambda: life.pop(0), diagnose=lambda: "Killed"),
        )
    assert "exited with code 137" in str(caught.value)
    assert "Killed" in str(caught.value)
    assert "connection refused" in str(caught.value)
    assert len(stopped.slept) == 1


def test_death_without_words_is_still_named() -> None:
    with pytest.raises(LaunchError, match="not running any more"):
        wait_for("sshd", lambda: NotYet("x"), limit=60, watched=Watched(alive=lambda: False))


def test_what_is_ready_is_not_asked_whether_it_lives() -> None:
    assert wait_for("x", lambda: 1, limit=1, watched=Watched(alive=lambda: "dead")) == 1


def test_an_error_of_a_launch_means_not_yet() -> None:
    probe = answers(RefusedError("the engine refused"), "up")
    assert wait_for("sshd", probe, limit=5) == "up"


def test_the_last_error_of_a_launch_is_the_state() -> None:
    with pytest.raises(LaunchError, match="last state: the engine refused"):
        wait_for("sshd", answers(RefusedError("the engine refused")), limit=1)


@pytest.mark.parametrize("problem", [ZeroDivisionError(), EngineError("it is gone"), OSError("refused")], ids=repr)
def test_other_exceptions_go_through(problem: Exception) -> None:
    with pytest.raises(type(problem)):
        wait_for("sshd", answers(problem), limit=5)


def test_broken_diagnostics_do_not_hide_the_failure() -> None:
    def diagnose() -> str:
        raise OSError("container is gone")

    with pytest.raises(LaunchError, match="not ready within") as caught:
        wait_for("munge", lambda: NotYet("x"), limit=0, watched=Watched(diagnose=diagnose))
    assert "container is gone" in str(caught.value)
