"""Signals that tests send, to themselves and to what they start, have to arrive."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def signals_are_heeded() -> None:
    """Heed what a script's background (Ctrl-C) and nohup (SIGHUP) ignore, and so would all that tests start."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
