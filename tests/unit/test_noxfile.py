"""What the sessions of the noxfile ask of nox, loaded by nox itself; what its list says is a component test."""

import argparse
from collections.abc import Callable
from dataclasses import replace
import inspect
from pathlib import Path
import socket
import sys
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

import nox
from nox import registry, tasks
import pytest

from ci import inputs
from ci.group import children
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.pytest_words import given
from ci.matrix.suites import SUITES
from ci.python import venvs
from tests.mutations.suites import suites_of

ROOT = Path(__file__).resolve().parents[2]
# Ctrl-C reaches a child only so long before nox kills it (wntrblm/nox#369); taking an environment down takes seconds.
LEAST_SECONDS = 30
CELLS = {"legacy_integration": f"slurm22.05-legacy-debian12-{Arch.host()}"}
CONTAINER_CELL = f"slurm22.05-embedded-debian12-{Arch.host()}"
# A session that needs an argument to start anything.
ARGUMENTS = {"suite": (str(ROOT / "tests/unit"),)}
# These start nothing that would have to be taken down.
HARMLESS = {"ruff", "mypy", "lint-imports", "zizmor", "check-jsonschema"}

Ran = list[tuple[tuple[Any, ...], dict[str, Any]]]


class RefusedError(Exception):
    """Stands for what nox raises at `session.error` and `session.skip`."""


def refuse(message: str) -> NoReturn:
    """End the session, as nox does."""
    raise RefusedError(message)


@pytest.fixture
def run_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ran]:
    """Return a function that runs one session with a double of nox' own, and returns what it would have started."""
    monkeypatch.setattr(sys, "argv", ["nox"])
    for name in ("PYXIS_MATRIX_RUN", "PYXIS_MATRIX_PARENT"):
        monkeypatch.setenv(name, "1")  # the noxfile sets them for its children
    monkeypatch.setattr(registry, "_REGISTRY", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ROOT)
    loaded = tasks.load_nox_module(argparse.Namespace(noxfile=str(ROOT / "noxfile.py")))  # type: ignore[arg-type]
    assert isinstance(loaded, ModuleType)
    monkeypatch.setattr(venvs, "shared", lambda _folder, name, _packages: tmp_path / name)

    def run(name: str, *posargs: str) -> Ran:
        function = registry.get()[name]
        session = mock.create_autospec(nox.Session, instance=True, posargs=list(posargs))
        session.error.side_effect = session.skip.side_effect = refuse
        session.name = name
        session.cache_dir = tmp_path / ".cache"
        cell = (
            {"cell": CELLS.get(name, CONTAINER_CELL)} if "cell" in inspect.signature(function.func).parameters else {}
        )
        function(session, **cell)
        return [(call.args, call.kwargs) for call in session.run.call_args_list]

    return run


def test_what_may_have_an_environment_up_is_given_the_time_to_take_it_down(run_session: Callable[..., Ran]) -> None:
    for name in registry.get():
        started = run_session(name, *ARGUMENTS.get(name, ()))
        assert started, f"{name} starts nothing; this test looks in the wrong place"
        for words, options in started:
            if Path(words[0]).name not in HARMLESS:
                least = min(options.get("interrupt_timeout") or 0, options.get("terminate_timeout") or 0)
                assert least >= LEAST_SECONDS, words


@pytest.mark.parametrize(("name", "folder"), [("tests", "unit"), ("component", "component"), ("page", "browser")])
@pytest.mark.parametrize(
    ("words", "collected"),
    [
        ((), {"test_one.py", "test_two.py"}),
        (("-k", "test"), {"test_one.py", "test_two.py"}),
        (("tests/{}/test_two.py",), {"test_two.py"}),
        (("tests/{}/test_two.py::test_it",), {"test_two.py"}),
        (("--ignore", "tests/{}/test_two.py"), {"test_one.py"}),
    ],
)
def test_the_sessions_of_the_projects_tests_run_what_is_named_or_all_of_their_own(
    run_session: Callable[..., Ran],
    pytester: pytest.Pytester,
    name: str,
    folder: str,
    words: tuple[str, ...],
    collected: set[str],
) -> None:
    ((started, _),) = run_session(name, *(word.format(folder) for word in words))
    assert Path(started[0]).name == "pytest"
    for file in (f"tests/{folder}/test_one.py", f"tests/{folder}/test_two.py", "tests/another/test_three.py"):
        path = pytester.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def test_it(): pass")
    pytester.chdir()
    done = pytester.inline_run(*started[1:], "-p", "no:cacheprovider", "--import-mode=importlib")
    passed, _, _ = done.listoutcomes()
    assert {report.nodeid.partition("::")[0].rpartition("/")[2] for report in passed} == collected


def test_a_container_suite_is_run_by_the_tool_with_its_plugin(run_session: Callable[..., Ran]) -> None:
    ((words, _),) = run_session("pyxis_conformance")
    assert Path(words[0]).parts[-3:] == ("run-test", "bin", "python")
    assert words[1:6] == ("-m", "ci", "suite", "pyxis_conformance", CONTAINER_CELL)
    assert words[-1] == "--"
    ((words, _),) = run_session("pyxis_conformance", "-k", "x", "--nodes", "2")
    assert words[words.index("--") + 1 :] == ("-k", "x")


@pytest.mark.parametrize("name", ["pyxis_basic", "pyxis_conformance", "registry", "legacy_integration"])
def test_the_mutations_run_a_suite_as_its_session_does(run_session: Callable[..., Ran], name: str) -> None:
    ((words, _),) = run_session(name)
    cell = loading.load().cell(CELLS.get(name, CONTAINER_CELL))
    assert words[4] == name
    assert suites_of(cell)[name] == given(SUITES[name], []).command(SUITES[name])


@pytest.mark.parametrize(
    "name", ["pyxis_basic", "pyxis_conformance", "registry", "pyxis_advanced", "legacy_integration"]
)
@pytest.mark.parametrize("word", ["--setup-plan", "--co", "-pevil", "tests/unit"])
def test_what_would_not_run_the_suite_as_it_is_written_is_refused_before_anything_is_installed(
    run_session: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, name: str, word: str
) -> None:
    monkeypatch.setattr(venvs, "shared", lambda *_given: pytest.fail("it installs"))
    with pytest.raises(RefusedError, match=f"{word} (cannot be used with|is not a part of) {name}"):
        run_session(name, word)
    monkeypatch.setenv("PYTEST_ADDOPTS", word)
    with pytest.raises(RefusedError, match="PYTEST_ADDOPTS cannot be used"):
        run_session(name)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[venvs.Packages]:
    """Collect what virtual environments are asked to hold; none is made."""
    found: list[venvs.Packages] = []

    def shared(_folder: Path, _name: str, packages: venvs.Packages) -> Path:
        found.append(packages)
        return tmp_path

    monkeypatch.setattr(venvs, "shared", shared)
    return found


def test_a_suite_of_somebodys_own_is_run_in_its_folder_with_its_packages(
    run_session: Callable[..., Ran], asked: list[venvs.Packages], tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "test_x.py").touch()
    ((words, _),) = run_session("suite", str(theirs), "--on", "login", "--with", "numpy", "-k", "x", "--user", "alice")
    own = words[words.index(CONTAINER_CELL) + 1 : words.index("--")]
    assert own[:2] == ("--user", "alice")
    assert own[-6:] == ("--suite", str(theirs), "--on", "login", "--with", "numpy")
    assert {"--plain", "--pytest", inputs.own_suite(theirs).name} <= set(own)
    assert words[words.index("--") + 1 :] == ("pytest", ".", "-k", "x")
    assert "numpy" in asked[0].requirements

    ((words, _),) = run_session("suite", str(theirs), "--command", "make it && true")
    assert "--pytest" not in words
    assert words[words.index("--") + 1 :] == ("/bin/sh", "-c", "make it && true")


def test_bad_input_of_ones_own_suite_is_refused_before_anything_is_installed(
    run_session: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venvs, "shared", lambda *_given: pytest.fail("it installs"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_given: [(2, 1, 6, "", ("10.0.0.7", 0))])
    good, closed = str(ROOT / "tests/unit"), tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "pyproject.toml").touch()
    for words, problem in {
        (): "the suite is missing; its PATH stands first",
        ("-k", "x"): "the suite is missing; its PATH stands first",
        (str(tmp_path / "absent"),): "there is no such file",
        (str(ROOT / "docs"),): "it holds no test_",
        (good, "--suite", good): "PATH stands first behind --",
        (good, "--command", "make", "-x"): "nobody would read -x",
        (good, "--subject", str(tmp_path)): "no Python project",
        (good, "--subject", str(closed)): "others than its owner may not read it",
        (good, "--registry-name", "registry"): "leads to 10.0.0.7",
    }.items():
        with pytest.raises(RefusedError, match=problem):
            run_session("suite", *words)
    with pytest.raises(RefusedError, match="--on says where a suite of your own runs"):
        run_session("pyxis_basic", "--on", "login")


def test_what_a_suite_starts_finds_the_packages_of_its_environment(run_session: Callable[..., Ran]) -> None:
    ((words, options),) = run_session("pyxis_basic")
    folder = Path(words[0]).parent
    assert options["env"]["PATH"].startswith(f"{folder}:")
    assert options["env"]["VIRTUAL_ENV"] == str(folder.parent)


def test_an_option_that_the_cell_does_not_have_is_refused_before_anything_is_installed(
    run_session: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venvs, "shared", lambda *_given: pytest.fail("it installs"))
    with pytest.raises(RefusedError, match="--gpus does not fit"):
        run_session("legacy_integration", "--gpus", "1")
    with pytest.raises(RefusedError, match=r"did you mean --nodes\?"):
        run_session("pyxis_basic", "--node", "3")
    with pytest.raises(RefusedError, match="there is no cell"):
        run_session("legacy_integration", "--suite", ".", "--cell", "slurm99.01-embedded-amd64")


def test_help_is_that_of_the_session_and_of_pytest_and_runs_nothing(
    run_session: Callable[..., Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RefusedError, match="help was asked for"):
        run_session("pyxis_basic", "--help")
    shown = capsys.readouterr().out
    assert "--nodes N" in shown
    assert "--strict" in shown


def test_a_group_is_run_by_the_tool_with_the_checkout_that_it_tests(
    run_session: Callable[..., Ran], asked: list[venvs.Packages]
) -> None:
    words = ("--group", "embedded", "--subject", str(ROOT), "--jobs", "2", "--", "--subject", "/of/pytest")
    ((started, given),) = run_session("matrix", *words)
    assert given["interrupt_timeout"] > children.PATIENCE, "nox must not kill what still waits for its cells"
    assert started[1:] == ("-m", "ci", "matrix", *words)
    assert asked[0].checkout == ROOT
    run_session("matrix", "--group", "embedded", "--", "--subject", "/of/pytest")
    assert asked[1].checkout is None


@pytest.mark.parametrize("suite", ["pyxis_basic", "pyxis_advanced", "legacy_integration"])
def test_suites_of_the_sdk_refuse_another_subject_before_anything_is_installed(
    run_session: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, suite: str
) -> None:
    monkeypatch.setattr(venvs, "shared", lambda *_given: pytest.fail("it installs"))
    function = registry.get()[suite].func
    rows = function.__globals__["MATRIX"]
    other = replace(rows, subject=replace(rows.subject, requirement="submitit", name="submitit"))
    monkeypatch.setitem(function.__globals__, "MATRIX", other)
    with pytest.raises(RefusedError, match="the subject is submitit"):
        run_session(suite)
