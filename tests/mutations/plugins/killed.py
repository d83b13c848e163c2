"""A pytest plugin: pytest is killed once its first test has ended."""

import os
import signal


def pytest_runtest_logfinish() -> None:
    """Kill this very process."""
    os.kill(os.getpid(), signal.SIGKILL)
