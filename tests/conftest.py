"""What all tests share: how a container suite gets its environment when nobody has started one."""

import pytest

pytest_plugins = ["pytester"]

_PLUGIN = "tests.integration.conftest_container_packaging"
# What the paths of container tests contain.
_CONTAINER_TESTS = (
    "container_packaging",
    *(f"integration/{folder}" for folder in ("advanced", "conformance", "registry", "upstream")),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cell", help="cell to start when a container suite is run without `nox` (default: a smoke cell)")


def pytest_configure(config: pytest.Config) -> None:
    """Load the container fixtures when container tests are named; sessions of the project load them with ``-p``."""
    if any(part in argument for argument in config.args for part in _CONTAINER_TESTS):
        config.pluginmanager.import_plugin(_PLUGIN)
