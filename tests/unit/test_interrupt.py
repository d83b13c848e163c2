"""Signals: the first one ends the run with its own code, later ones change nothing, and none breaks a tear-down."""

from collections.abc import Callable
from contextlib import AbstractContextManager
import ctypes
import signal
import threading

import pytest

from ci.terminal import signals
from ci.terminal.signals import Interrupted, handled, shielded

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers() -> object:
    """See to it that each test leaves the handlers as they were, however it ends."""
    before = {number: signal.getsignal(number) for number in ALL}
    yield before
    after = {number: signal.getsignal(number) for number in ALL}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_block_with_the_shells_code(number: int, exit_code: int) -> None:
    with pytest.raises(Interrupted) as caught, handled():
        signal.raise_signal(number)
    assert caught.value.exit_code == exit_code
    assert signal.Signals(number).name in str(caught.value)


def test_it_is_a_keyboard_interrupt_so_that_no_handler_of_errors_swallows_it() -> None:
    def work() -> None:
        with handled():
            try:
                signal.raise_signal(signal.SIGTERM)
            except Exception:  # noqa: BLE001 - just what is to be tried
                pytest.fail("it was taken for an error")

    with pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.parametrize("number", ALL)
def test_one_that_comes_while_python_runs_a_finalizer_is_not_lost(number: int) -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(number)  # what its handler raises is dropped here, as all of a finalizer is

    went_on = []

    def work() -> None:
        with handled():
            Finalized()
            went_on.append("behind the finalizer")
            threading.Event().wait(30)

    with pytest.raises(Interrupted) as caught:
        work()
    assert went_on
    assert caught.value.number == number


def test_only_the_first_one_counts() -> None:
    cleared = []

    def work() -> None:
        with handled():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                for number in ALL:
                    signal.raise_signal(number)
                cleared.append("all")

    with pytest.raises(Interrupted) as caught:
        work()
    assert caught.value.number == signal.SIGTERM
    assert cleared == ["all"]


def test_no_signal_no_interruption() -> None:
    with handled(), shielded():
        pass


def test_a_shielded_block_is_finished_first() -> None:
    done = []

    def work() -> None:
        with handled():
            with shielded():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
                done.append("inside")
            done.append("behind")

    with pytest.raises(Interrupted) as caught:
        work()
    assert done == ["inside"]
    assert caught.value.number == signal.SIGTERM


def test_an_error_in_a_shielded_block_is_not_hidden_by_a_signal() -> None:
    def work() -> None:
        with handled(), shielded():
            signal.raise_signal(signal.SIGTERM)
            raise LookupError

    with pytest.raises(LookupError):
        work()


def test_shields_may_be_nested() -> None:
    done = []

    def work() -> None:
        with handled(), shielded():
            with shielded():
                signal.raise_signal(signal.SIGINT)
            done.append("outer")

    with pytest.raises(Interrupted):
        work()
    assert done == ["outer"]


def test_handlers_may_be_nested_and_the_outer_one_counts_again_behind_the_inner() -> None:
    def inner() -> None:
        with handled():
            signal.raise_signal(signal.SIGINT)

    def outer() -> None:
        with handled():
            with pytest.raises(Interrupted):
                inner()
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        outer()
    assert caught.value.number == signal.SIGTERM


@pytest.mark.parametrize("block", [handled, shielded])
@pytest.mark.parametrize("number", ALL)
def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(
    number: signal.Signals, block: Callable[[], AbstractContextManager[None]]
) -> None:
    """As below nohup, which ignores SIGHUP, and in the background of a script, which ignores SIGINT."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with block():
            signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_in_another_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with signals.handled(), signals.shielded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("environ", [{}, {"PYXIS_MATRIX_PARENT": ""}, {"PYXIS_MATRIX_PARENT": "0"}])
def test_nobodys_end_counts_but_that_of_a_parent_which_asked_for_it(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: pytest.fail("it asked the kernel"))
    signals.follow_parent(environ)
