"""What all tests share: how a container suite gets its environment when nobody has started one."""

from pathlib import Path

import pytest

from ci.matrix.suites import SUITES

pytest_plugins = ["pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cell", help="cell to start when a container suite is run without `nox` (default: a smoke cell)")


def pytest_configure(config: pytest.Config) -> None:
    """Load the container fixtures when container tests are named; sessions of the project load them with ``-p``."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    for suite in SUITES.values():
        if any(it.is_relative_to(path) for it in named for path in suite.paths()):
            for plugin in suite.plugins[1::2]:  # behind -p
                config.pluginmanager.import_plugin(plugin)
