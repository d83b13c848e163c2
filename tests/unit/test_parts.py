"""What was asked of pytest, by whatever words, as pytest itself read it: a part of a suite is never the whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from ci.record import reportlog
from ci.record.outcomes import Selection
from ci.session.record import Record
from tests.support.held_cells import CLUSTER, EMBEDDED, Programs, Repository

BOTH = "def test_a(cluster): ...\ndef test_b(cluster): ..."
# An option of theirs that takes tests away: as pytest wants it, or without telling it.
OPTIONS = """
    def pytest_addoption(parser):
        parser.addoption("--only")
        parser.addoption("--quietly-only")
        parser.addoption("--db-password")

    def pytest_collection_modifyitems(config, items):
        quietly = config.getoption("--quietly-only")
        only = config.getoption("--only") or quietly
        left_out = [it for it in items if only and not it.name.endswith(only)]
        items[:] = [it for it in items if it not in left_out]
        if left_out and not quietly:
            config.hook.pytest_deselected(items=left_out)
"""
ALONE = """
    import pytest

    @pytest.fixture
    def cluster(): ...
"""


class Asked:
    """Runs the pytest of a repository, and says what asked for a part of its suite."""

    def __init__(self, kind: str, repository: Repository, programs: Programs) -> None:
        """Take what one of the two ways needs: the plugin for repositories of others, or a suite on a cell."""
        self._kind, self._repository, self._programs = kind, repository, programs
        self.log = programs.log(EMBEDDED)

    def __call__(self, *words: str, settings: str = "", options: str = OPTIONS) -> Selection:
        """Return it, as the result of the session has it."""
        ours = ["--cell", EMBEDDED] if self._kind == "plugin" else reportlog.options(self.log)
        fixture = CLUSTER if self._kind == "plugin" else ALONE
        self._repository.pytester.makepyfile(test_it=BOTH)
        self._repository.run("", *words, *ours, conftest=fixture + options, settings=settings)
        return self.selection("pytest", *words)

    def selection(self, *command: str) -> Selection:
        """Return what the result of a command says of what pytest selected."""
        # Nothing but the command is asked of the record.
        found = Record(plan=cast("Any", None), command=command).selection(reportlog.read(self.log))
        assert found
        return found


@pytest.fixture
def asked(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Asked:
    programs = Programs.of(tmp_path / "program")
    monkeypatch.setattr("subprocess.Popen", programs.start)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.syspathinsert(str(reportlog.PLUGIN_FOLDER))
    pytester.path.joinpath("args").write_text("-k\ntest_a\n", encoding="utf-8")
    pytester.path.joinpath("other.ini").write_text("[pytest]\npython_functions = test_a\n", encoding="utf-8")
    return Asked(getattr(request, "param", "suite"), Repository(pytester), programs)


PARTS = [
    (["-k", "test_a"], ["-k test_a"]),
    (["-sktest_a"], ["-k test_a"]),
    (["-sp", "no:doctest", "-k", "test_a"], ["-k test_a"]),
    (["-vpno:doctest", "--deselect", "test_it.py::test_b"], ["--deselect test_it.py::test_b"]),
    (["-xW", "ignore", "-k", "test_a"], ["-k test_a"]),
    (["-vm", "not slow"], ["-m not slow"]),
    (["--ignore-glob=*x*", "--last-failed", "-pcacheprovider"], ["--ignore-glob *x*", "--lf"]),
    (["@args"], ["@args"]),
    (["-o", "python_functions=test_a"], ["-o python_functions=test_a"]),
    (["-vo", "addopts=-k test_a"], ["-o addopts=-k test_a"]),
    (["-c", "other.ini"], ["-c other.ini"]),
    (["-vpno:unittest"], ["-p no:unittest"]),
    (["--confcutdir=."], ["--confcutdir ."]),
    (["test_it.py::test_a"], ["test_it.py::test_a"]),
    (["--only", "a"], ["--only"]),
    (["--quietly-only", "a"], ["--quietly-only"]),
]


# Both ask one function; so a few will do for the plugin.
@pytest.mark.parametrize(
    ("asked", "words", "named"),
    [*(("suite", *it) for it in PARTS), *(("plugin", *it) for it in PARTS[2::4])],
    indirect=["asked"],
    ids=lambda it: " ".join(it) if isinstance(it, list) else it,
)
def test_what_asks_for_a_part_is_named_however_it_is_written(
    asked: Asked, words: Sequence[str], named: Sequence[str]
) -> None:
    assert set(named) <= set(asked(*words).by)


@pytest.mark.parametrize("words", ["-sp no:doctest -k test_a", "@args", "-o python_functions=test_a"])
def test_what_the_environment_asks_for_is_named_too(asked: Asked, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", words)
    assert asked().by


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], "python_functions = test_a"),
        (["-v", "-n0", "-p", "no:logging", "-o", "junit_logging=all", "-k", ""], ""),
        (["--db-password=secret", "-W", "ignore"], ""),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else it,
)
@pytest.mark.parametrize("asked", ["suite", "plugin"], indirect=True)
def test_what_asks_for_no_part_leaves_the_suite_whole(asked: Asked, words: Sequence[str], settings: str) -> None:
    assert asked(*words, settings=settings).by == ()


@pytest.mark.parametrize(
    ("variable", "value"), [("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"), ("PYTEST_PLUGINS", "leaves_out")]
)
def test_the_environments_plugins_are_named(
    asked: Asked, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    leaves_out = "def pytest_collection_modifyitems(items): items.pop()\n"
    pytester.path.joinpath("leaves_out.py").write_text(leaves_out, encoding="utf-8")
    pytester.syspathinsert()
    monkeypatch.setenv(variable, value)
    assert variable in asked().by


def test_a_part_is_seen_behind_a_command_that_is_not_pytest(asked: Asked) -> None:
    asked("-k", "test_a")
    assert asked.selection("sh", "-c", 'pytest -k test_a "$@"', "sh").by == ("-k test_a",)


def test_the_value_of_an_option_of_others_is_not_written(asked: Asked) -> None:
    assert "--db-password" in asked("--db-password=a-secret", "--only=another").by
    log = asked.log.read_text(encoding="utf-8")
    assert "a-secret" not in log
    assert "another" not in log
