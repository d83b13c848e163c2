"""A pytest plugin: writes into pytest's report log which tests were selected, how many were not, and what was asked.

Without it nobody could tell a suite of two tests of which one ran from a suite of one. It is loaded by its name, also
into suites of somebody's own. So its folder holds nothing else, and it needs only pytest.
"""

from collections.abc import Sequence
import os
import shlex
from typing import Any

import pytest

_DESELECTED = "pyxis_matrix_deselected"
# Options of pytest whose values are written. That of another one may be a password.
_TOLD = {"-k", "-m", "-c", "-o", "-p", "--deselect", "--ignore", "--ignore-glob", "--lfnf", "--confcutdir"}
_VARIABLES = ("PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")


def asked(config: pytest.Config) -> list[tuple[str, str]]:
    """Return each option that pytest was given beside its project's settings, and its value if that may be told.

    A test that was named has no option, and variables that say which plugins there are count as options. The words of
    PYTEST_ADDOPTS and of the command line are read once more, by pytest's own parser: it alone knows which word is a
    value, and what is in a file (``@FILE``, named, too).
    """
    words = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    parser = config._parser  # noqa: SLF001 - nothing public tells what was given from what the settings say
    given, default = vars(parser.parse_known_args(words)), vars(parser.parse_known_args([]))
    found = [(word, "") for word in words if word.startswith("@")]
    found += [(name, "") for name in _VARIABLES if os.environ.get(name)]
    for option in (option for group in (*parser._groups, parser._anonymous) for option in group.options):  # noqa: SLF001
        name, value = option.names()[0], given.get(option.dest)
        if value != default.get(option.dest):
            values = value if isinstance(value, list) else [value]
            found += [(name, str(it)) for it in values] if _TOLD & {*option.names()} else [(name, "")]
    return [*dict.fromkeys(found), *(("", str(it)) for it in given["file_or_dir"] if "::" in str(it))]


class Selection:
    """What one pytest process knows of the selection; with pytest-xdist the main one hears of it from its workers."""

    def __init__(self, config: pytest.Config) -> None:
        """Know nothing yet but what was asked."""
        self._config = config
        self._asked = asked(config)
        self._selected: list[str] | None = None
        self._collected = self._deselected = 0

    def pytest_itemcollected(self) -> None:
        """Count what is found: not all that takes tests away tells pytest of it."""
        self._collected += 1

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn what is left to run, and what -k, -m, --deselect, a plugin or a conftest.py took away."""
        self._selected = [item.nodeid for item in session.items]
        self._deselected = max(0, self._collected - len(self._selected))

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
            about = {"selected": self._selected, "deselected": self._deselected, "asked": self._asked}
            log._write_json_data({"$report_type": "Selection", **about})  # noqa: SLF001


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    config.pluginmanager.register(Selection(config))
