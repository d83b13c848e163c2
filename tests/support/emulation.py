"""A pytest plugin: where the nodes' code is emulated no container starts, and tests that may start one are not run."""

import os

import pytest

from ci import environment_file
from ci.engine.emulation import NO_CONTAINERS

MARKER = "starts_no_container"
"""A test with this marker runs all the same."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all tests but those that say of themselves that they start no container."""
    file = environment_file.current() if os.environ.get(environment_file.VARIABLE) else None
    if file is None or not file.emulated:
        return
    reason = f"{file.arch} is emulated here: {NO_CONTAINERS}. Run it on {file.arch} hardware"
    for item in items:
        if item.get_closest_marker(MARKER) is None:
            item.add_marker(pytest.mark.skip(reason=reason))
