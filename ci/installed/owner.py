"""The owner of a pytest session's clusters, in pytest's main process: a child of the program and a report log per cell.

A child (`ci/cli/holding.py`) says on stdout where its cell is, and reads on stdin how pytest ended. Its stderr is ours.
A cluster that exists is held as a cell is; its id is known when it was asked for its versions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
import json
import os
from pathlib import Path
import platform
import runpy
import shlex
import signal
import subprocess
import sys
from typing import Any

import pytest

from . import tree
from .cells import KEY, HeldCell, Tests, cell_of

_HERE = Path(__file__).resolve()
_INSTALLED = _HERE.parent.name == "pyxis_matrix"
"""Whether this is an installed wheel; else it is a checkout."""
_SELECTION = "tests/support/plugins/pyxis_matrix_selection.py"
"""What knows what pytest was asked; in sessions of suites it is a plugin of its own."""
_FAILED, _NO_TESTS, _JUDGED = 1, 5, (0, 1, 5)  # pytest.ExitCode: all is in its reports


def program(*words: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a child of the program, in whatever folder it is started."""
    # It ends when this process does, even by kill -9: see ci/terminal/signals.py.
    environ = {**os.environ, "PYXIS_MATRIX_PARENT": str(os.getpid())}
    if not _INSTALLED:
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_HERE.parents[2]), os.environ.get("PYTHONPATH"))))
    # -P: not with the packages of that folder.
    return [sys.executable, "-P", "-m", "pyxis_matrix" if _INSTALLED else "ci", *words], environ


class Owner:
    """Starts the cells, writes the reports of their tests into their logs, and has everything taken down."""

    def __init__(self, config: pytest.Config, tests: Tests, asked: Mapping[str, Any]) -> None:
        """Start nothing yet.

        :param tests: they are told of each cell that is up.
        :param asked: the values of the plugin's options.
        """
        self._config = config
        self._tests = tests
        self._asked = asked
        self._given: list[tuple[str, str]] = []
        """The options that pytest was given."""
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._logs: dict[str, Path] = {}
        self._failed: set[str] = set()
        self._heeds_sigterm = False
        self._of: dict[str, str] = {}
        """By test: its cell."""
        self._early: dict[str, list[pytest.TestReport]] = {}
        """By test: the reports of one that has used no cluster so far."""

    @pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts its workers
    def pytest_sessionstart(self) -> None:
        """Start the cells, one after another; the first that does not start ends the session."""
        names, groups = self._asked["--cell"] or [], self._asked["--cell-group"] or []
        names = [*names, *(cell for group in groups for cell in self._cells_of(group))]
        names = names or self._asked["--cluster"] or self._config.getini("cell")
        if self._config.option.collectonly:
            self._tests.cells += [HeldCell(name, {}) for name in dict.fromkeys(names)]
            return
        # Run by its path: an import of `tests` could find that of the repository that is tested.
        self._given = runpy.run_path(str(tree() / _SELECTION))["asked"](self._config)
        self._config.add_cleanup(self._stop)
        # By default pytest ends at once, without a result; a handler that somebody else has set stays.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            with suppress(ValueError):  # signals come to the main thread, and this is another one
                signal.signal(signal.SIGTERM, lambda number, _: pytest.exit("ended by SIGTERM", 128 + number))
                self._heeds_sigterm = True
        for name in dict.fromkeys(names):
            self._start(name)

    def _cells_of(self, group: str) -> list[str]:
        """Return the cells of a group that can run here and run containers."""
        command, environ = program("cells", "--group", group, "--json")
        done = subprocess.run(
            command, env=environ, cwd=self._config.rootpath, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            pytest.exit(f"the cells of {group} are not known; the error is above", done.returncode)
        # As `ci.matrix.arch` has it, which can't be imported here.
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
        return [cell["id"] for cell in json.loads(done.stdout) if cell["arch"] == arch and cell["runtime"] != "legacy"]

    def _start(self, asked: str) -> None:
        cell = asked
        command, environ = program("hold", *self._words(cell))
        # Ctrl-C on the terminal is for pytest, which then tells it; so it is in a session of its own.
        child = self._children[cell] = subprocess.Popen(
            command,
            env=environ,
            cwd=self._config.rootpath,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        # It comes when the cell is usable; end of file means that the child has ended without one.
        line = child.stdout.readline() if child.stdout else ""
        if not line:
            code = child.wait()
            # pytest's own codes go up to 5, and ours begin above: one of those says more.
            exit_code = code if code > max(_JUDGED) else pytest.ExitCode.USAGE_ERROR
            what = f"{cell} cannot be used" if self._asked["--cluster"] else f"{cell} was not started"
            pytest.exit(f"{what}, so no test was run; the error is above (exit code {code})", exit_code)
        told = json.loads(line)
        if self._asked["--cluster"]:
            # Asked for by its address, known by its id from here on.
            cell = told["facts"]["cell"]
            self._children[cell] = self._children.pop(asked)
        self._tests.cells.append(HeldCell(cell, told))
        self._logs[cell] = Path(self._tests.cells[-1].told["log"])
        self._write(cell, {"$report_type": "SessionStart", "pytest_version": pytest.__version__})

    def _words(self, cell: str) -> list[str]:
        """Return the arguments of a child: what its result is named after, the options, and how it is done again."""
        root, asked, config = self._config.rootpath, self._asked, self._config
        again = ["pytest", *_without_cells(config.invocation_params.args)]
        if asked["--cluster"]:  # it says itself which one, for an address is written nowhere
            path = config.invocation_params.dir / Path(cell).expanduser()  # a child is in the project's folder
            cell, options = str(path) if path.is_file() else cell, ["--cluster"]
        else:
            options = [*config.getini("cell_options"), *shlex.split(asked["--cell-options"] or "")]
            options += [f"--profile={asked['--cell-profile']}"] if asked["--cell-profile"] else []
            options += ["--keep"] if asked["--cell-keep"] else []
            again += ["--cell", cell]
        if self._tests.cells:  # the run of the first is that of all
            options.append(f"--run={self._tests.cells[0].told['run']}")
        if not os.environ.get("PYXIS_MATRIX_RESULTS"):
            options.insert(0, f"--results={root / 'results'}")
        return [str(self._whole or root.resolve()), cell, *options, "--", *again]

    @property
    def _paths(self) -> list[str]:
        """What was named on pytest's command line, or the folder below that of the project that it was started in."""
        config, source = self._config, self._config.args_source.name
        elsewhere = source == "INVOCATION_DIR" and config.invocation_params.dir != config.rootpath
        return list(config.args) if source == "ARGS" or elsewhere else []

    @property
    def _whole(self) -> Path | None:
        """What the result is named after, if that is not the project: the one path that was named, if it lies there."""
        paths = self._paths
        path = (self._config.invocation_params.dir / paths[0].partition("::")[0]).resolve() if len(paths) == 1 else None
        return path if path and path.is_relative_to(self._config.rootpath.resolve()) else None

    @property
    def _part(self) -> list[str]:
        """What makes it a part of what the result is named after."""
        return [] if self._whole and "::" not in self._paths[0] else self._paths

    def pytest_report_header(self) -> list[str]:
        """Name the cells, the versions seen in them, and where their results go."""
        return [
            f"cell: {cell.id}: {', '.join(f'{axis} {seen}' for axis, seen in cell.environment['observed'].items())}\n"
            f"  results: {cell.told['results']}"
            for cell in self._tests.cells
            if cell.environment
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - a class of pytest-xdist
        """Tell a worker where the clusters are."""
        node.workerinput[KEY] = {cell.id: cell.told for cell in self._tests.cells}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401
        """Learn from a worker which tests were selected; it is the same for all of them.

        :raises pytest.UsageError: for a marker that means nothing.
        """
        selected, deselected, wrong = getattr(node, "workeroutput", {}).get(KEY, ({}, {}, ""))
        if wrong:
            raise pytest.UsageError(wrong)
        self._tests.selected.update(selected)
        self._tests.deselected.update(deselected)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Have it in each log that tests could not be read: they might have been of that cell."""
        for cell in self._logs if report.failed else ():
            self._report(cell, report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the reports of tests that use a cluster, and of no other, into the log of their cell."""
        cell, name = cell_of(report) or self._of.get(report.nodeid, ""), report.nodeid
        if cell:
            self._of[name] = cell
            for each in (*self._early.pop(name, ()), report):
                self._report(cell, each)
        elif report.when not in {"setup", "call", "teardown"}:  # a worker died, nobody knows in what
            for each_cell in self._logs:
                self._report(each_cell, report)
        elif report.when == "teardown":
            self._early.pop(name, None)
        else:
            self._early.setdefault(name, []).append(report)

    def _report(self, cell: str, report: pytest.TestReport | pytest.CollectReport) -> None:
        line = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        line["$report_type"] = line.pop("_report_type", line.get("$report_type"))  # subtests have their own spelling
        self._write(cell, line)
        if report.failed:
            self._failed.add(cell)

    def _write(self, cell: str, line: dict[str, Any]) -> None:
        with self._logs[cell].open("a", encoding="utf-8") as log:
            log.write(json.dumps(line, default=str) + "\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """End the logs, have the results written and everything taken down; what goes wrong there is an error."""
        if self._children:
            self._say("")
        for name, child in self._children.items():
            status = self._status(name, int(exitstatus))
            selected, deselected = self._selected(name), self._tests.deselected.get(name, 0)
            if self._tests.selected:
                about = {"selected": selected, "deselected": deselected, "asked": self._given, "part": self._part}
                self._write(name, {"$report_type": "Selection", **about})
            self._write(name, {"$report_type": "SessionFinish", "exitstatus": status})
            with suppress(OSError):  # it has ended: its exit code says why
                child.stdin.write(f"{status}\n")  # type: ignore[union-attr] # it is a pipe
                child.stdin.close()  # type: ignore[union-attr]
        self._stop(told=True)
        # A child ends with 0 only where its result is a success: also tests that were all skipped prove nothing.
        by_name = self._asked["--cell"] or self._asked["--cell-group"] or self._asked["--cluster"]
        ignored = {0} if by_name else {0, _NO_TESTS}  # whoever has cells in the settings also runs other tests alone
        for name, child in self._children.items():
            if child.returncode not in ignored and exitstatus in {0, _NO_TESTS}:
                self._say(f"the result of {name} is no success (see above), so the exit code is {child.returncode}")
                session.exitstatus = child.returncode

    def _say(self, line: str) -> None:
        if reporter := self._config.pluginmanager.get_plugin("terminalreporter"):
            reporter.write_line(line)

    def _status(self, cell: str, status: int) -> int:
        """Return the exit code that pytest would have with the tests of this cell only."""
        if status not in _JUDGED:
            return status
        return _FAILED if cell in self._failed else 0 if self._selected(cell) else _NO_TESTS

    def _selected(self, cell: str) -> list[str]:
        """Return the tests of a cell: those that were selected, and those that turned out to use it as they ran."""
        found = (name for name, of in self._of.items() if of == cell)
        return [*dict.fromkeys([*self._tests.selected.get(cell, ()), *found])]

    def _stop(self, *, told: bool = False) -> None:
        """Wait until the children have taken everything down and ended; end those that were not told how pytest did."""
        if self._heeds_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for child in self._children.values():
            with child:
                if not told and child.poll() is None:
                    child.terminate()


def _without_cells(arguments: Sequence[Any]) -> Iterator[str]:
    """Yield pytest's arguments without those that name cells."""
    words, naming = iter(map(str, arguments)), ("--cell", "--cell-group", "--cluster")
    for word in words:
        if word in naming:
            next(words, None)
        elif not word.startswith(tuple(f"{name}=" for name in naming)):
            yield word
