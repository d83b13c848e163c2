"""`ci.environment.wait`: limits, early ends and what the error says, on a clock that costs no time."""

from collections.abc import Callable

import pytest

from ci.environment.wait import NotYet, wait_for
from ci.errors import LaunchError, PortTakenError


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        """Start at an arbitrary point, as monotonic clocks do."""
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


def answers(*values: object) -> Callable[[], object]:
    """Return a probe that gives the values one after the other, then the last one for ever; it raises exceptions."""
    left = list(values)

    def probe() -> object:
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception) and not isinstance(value, NotYet):
            raise value
        return value

    return probe


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_value_at_once_costs_no_sleep(clock: Clock) -> None:
    assert wait_for("munge", lambda: "up", limit=5, clock=clock, sleep=clock.sleep) == "up"
    assert clock.slept == []


@pytest.mark.parametrize("value", [0, "", None, False])
def test_a_falsy_value_is_a_value(clock: Clock, value: object) -> None:
    assert wait_for("munge", lambda: value, limit=5, clock=clock, sleep=clock.sleep) == value
    assert clock.slept == []


def test_it_polls_until_the_probe_agrees(clock: Clock) -> None:
    probe = answers(NotYet("down"), NotYet("unknown"), "idle")
    assert wait_for("node n1", probe, limit=5, poll=0.5, clock=clock, sleep=clock.sleep) == "idle"
    assert clock.slept == [0.5, 0.5]


def test_not_yet_may_be_raised(clock: Clock) -> None:
    tries = iter([True, False])

    def probe() -> str:
        if next(tries):
            raise NotYet("no answer")
        return "up"

    assert wait_for("registry", probe, limit=5, clock=clock, sleep=clock.sleep) == "up"


def test_the_limit_is_kept_and_ends_with_a_last_probe(clock: Clock) -> None:
    asked: list[float] = []

    def probe() -> NotYet:
        asked.append(clock.now - 1000.0)
        return NotYet("slurmctld does not answer")

    with pytest.raises(LaunchError) as caught:
        wait_for(
            "controller",
            probe,
            limit=1.0,
            poll=0.4,
            diagnose=lambda: "\n".join(f"line {n}" for n in range(50)),
            hint="see `python -m ci logs`",
            clock=clock,
            sleep=clock.sleep,
        )
    assert asked == pytest.approx([0.0, 0.4, 0.8, 1.0])
    text = str(caught.value)
    assert "controller: not ready within 1 s" in text
    assert "slurmctld does not answer" in text
    assert "line 49" in text
    assert "line 29\n" not in text
    assert "see `python -m ci logs`" in text


def test_death_ends_the_wait_at_once_and_says_how(clock: Clock) -> None:
    life: list[bool | str] = [True, "container n1 exited with code 137"]
    with pytest.raises(LaunchError, match=r"died after 0\.1 s") as caught:
        wait_for(
            "sshd",
            lambda: NotYet("connection refused"),
            limit=60,
            alive=lambda: life.pop(0),
            diagnose=lambda: "Killed",
            clock=clock,
            sleep=clock.sleep,
        )
    assert "exited with code 137" in str(caught.value)
    assert "Killed" in str(caught.value)
    assert "connection refused" in str(caught.value)
    assert len(clock.slept) == 1


def test_death_without_words_is_still_named(clock: Clock) -> None:
    with pytest.raises(LaunchError, match="not running any more"):
        wait_for("sshd", lambda: NotYet("x"), limit=60, alive=lambda: False, clock=clock, sleep=clock.sleep)


def test_what_is_ready_is_not_asked_whether_it_lives(clock: Clock) -> None:
    assert wait_for("x", lambda: 1, limit=1, alive=lambda: "dead", clock=clock, sleep=clock.sleep) == 1


def test_listed_exceptions_mean_not_yet(clock: Clock) -> None:
    probe = answers(ConnectionRefusedError("refused"), "up")
    assert wait_for("sshd", probe, limit=5, retry_on=(OSError,), clock=clock, sleep=clock.sleep) == "up"


def test_the_last_listed_exception_is_the_state(clock: Clock) -> None:
    with pytest.raises(LaunchError, match="ConnectionRefusedError: refused"):
        wait_for(
            "sshd",
            answers(ConnectionRefusedError("refused")),
            limit=1,
            retry_on=(OSError,),
            clock=clock,
            sleep=clock.sleep,
        )


def test_other_exceptions_go_through(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for("sshd", answers(ZeroDivisionError()), limit=5, clock=clock, sleep=clock.sleep)


def test_broken_diagnostics_do_not_hide_the_failure(clock: Clock) -> None:
    def diagnose() -> str:
        raise OSError("container is gone")

    with pytest.raises(LaunchError, match="not ready within") as caught:
        wait_for("munge", lambda: NotYet("x"), limit=0, diagnose=diagnose, clock=clock, sleep=clock.sleep)
    assert "container is gone" in str(caught.value)


def test_the_kind_of_error_can_be_chosen(clock: Clock) -> None:
    with pytest.raises(PortTakenError):
        wait_for("registry", lambda: NotYet("x"), limit=0, error_class=PortTakenError, clock=clock, sleep=clock.sleep)
