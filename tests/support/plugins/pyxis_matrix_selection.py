"""A pytest plugin: writes into pytest's report log which tests were selected, and how many were deselected.

Without it nobody could tell a suite of two tests of which one ran from a suite of one. It is loaded by its name, also
into suites of somebody's own. So its folder holds nothing else, and it needs only pytest.
"""

from collections.abc import Sequence
from typing import Any

import pytest

_DESELECTED = "pyxis_matrix_deselected"


class Selection:
    """What one pytest process knows of the selection; with pytest-xdist the main one hears of it from its workers."""

    def __init__(self, config: pytest.Config) -> None:
        """Know nothing yet."""
        self._config = config
        self._selected: list[str] | None = None
        self._deselected = 0

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count what -k, -m, --deselect, a plugin or a conftest.py took away."""
        self._deselected += len(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn what is left to run."""
        self._selected = [item.nodeid for item in session.items]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Learn what a worker is left to run; it is the same for all of them."""
        self._selected = list(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 - a class of pytest-xdist
        """Learn what a worker took away."""
        told = getattr(node, "workeroutput", {}).get(_DESELECTED, 0)
        self._deselected = max(self._deselected, told)

    @pytest.hookimpl(tryfirst=True)  # before the log ends
    def pytest_sessionfinish(self) -> None:
        """Tell it: a worker the main process, and that one the log."""
        to_main: dict[str, object] | None = getattr(self._config, "workeroutput", None)
        log = getattr(self._config, "_report_log_plugin", None)  # pytest-reportlog has no hook for lines of others
        if to_main is not None:
            to_main[_DESELECTED] = self._deselected
        elif log and self._selected is not None:
            line = {"$report_type": "Selection", "selected": self._selected, "deselected": self._deselected}
            log._write_json_data(line)  # noqa: SLF001


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    config.pluginmanager.register(Selection(config))
