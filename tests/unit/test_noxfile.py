"""What the sessions of the noxfile ask of nox, loaded by nox itself; what its list says is a component test."""

import argparse
from collections import Counter
from collections.abc import Callable
import inspect
from pathlib import Path
import sys
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

import nox
from nox import registry, tasks
from nox.command import CommandFailed
from packaging.version import Version
import pytest

from ci import paths
from ci.artefacts import candidates, checkout, sources
from ci.cli.main import main
from ci.group import children
from ci.matrix import loading, pytest_words
from ci.matrix.arch import Arch
from ci.matrix.cells import Candidate
from ci.matrix.pytest_words import given
from ci.matrix.suites import OWN, SUITES, Suite
from ci.options import Options, inputs
from ci.python import venvs
from ci.session import running
from ci.session.record import Record
from tests.mutations.suites import suites_of

ROOT = Path(__file__).resolve().parents[2]
# Ctrl-C reaches a child only so long before nox kills it (wntrblm/nox#369); taking an environment down takes seconds.
LEAST_SECONDS = 30
CELLS = {"legacy_integration": f"slurm22.05-legacy-debian12-{Arch.host()}"}
CONTAINER_CELL = f"slurm22.05-embedded-debian12-{Arch.host()}"
# These start nothing that would have to be taken down.
HARMLESS = {"ruff", "mypy", "lint-imports", "zizmor", "check-jsonschema"}

Ran = list[tuple[tuple[Any, ...], dict[str, Any]]]


class RefusedError(Exception):
    """Stands for what nox raises at `session.error` and `session.skip`."""


def ending(how: str) -> Callable[[str], NoReturn]:
    """Return what ends a session as nox does, and says how."""

    def end(message: str) -> NoReturn:
        raise RefusedError(f"{how}: {message}")

    return end


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

    def run(name: str, *posargs: str, does: Callable[..., object] | None = None) -> Ran:
        function = registry.get()[name]
        session = mock.create_autospec(nox.Session, instance=True, posargs=list(posargs))
        session.error.side_effect, session.skip.side_effect = ending("error"), ending("skip")
        session.run.side_effect = does
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
        started = run_session(name)
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
    assert started[started.index("--dist") + 1] == "loadfile", "a file's fixtures are made once"
    done = pytester.inline_run(*started[1:], "-n0", "-p", "no:cacheprovider", "--import-mode=importlib")
    passed, _, _ = done.listoutcomes()
    assert {report.nodeid.partition("::")[0].rpartition("/")[2] for report in passed} == collected


@pytest.mark.parametrize("name", [*SUITES, OWN])
def test_a_suite_is_run_by_the_tool_which_reads_what_stands_behind_the_dashes(
    run_session: Callable[..., Ran], name: str
) -> None:
    behind = ("-k", "x", "--nodes", "2", "--", "tests/unit")
    ((words, options),) = run_session(name, *behind)
    assert Path(words[0]).parts[-3:] == ("run-test", "bin", "python")
    assert words[1:] == ("-m", "ci", "suite", name, CELLS.get(name, CONTAINER_CELL), "--", *behind)
    assert options["env"].keys() == {"VIRTUAL_ENV", "PATH", paths.NOT_RUN_VARIABLE}


def test_a_session_is_skipped_with_the_reason_that_the_tool_gives(run_session: Callable[..., Ran]) -> None:
    def left_out(*_words: str, env: dict[str, str], **_more: object) -> None:
        Path(env[paths.NOT_RUN_VARIABLE]).write_text("pyxis.tar.gz not found", encoding="utf-8")

    with pytest.raises(RefusedError, match=r"skip: pyxis\.tar\.gz not found"):
        run_session("pyxis_basic", does=left_out)


def test_a_tool_that_fails_is_no_skip_whatever_it_ends_with(run_session: Callable[..., Ran]) -> None:
    def failed(*_words: str, **_more: object) -> None:
        raise CommandFailed("Returned code 12")

    with pytest.raises(CommandFailed):
        run_session("pyxis_basic", does=failed)


def test_on_ci_a_cell_that_was_named_has_to_run(
    run_session: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    ((_, options),) = run_session("pyxis_basic")
    assert paths.NOT_RUN_VARIABLE in options["env"], "it is one of the default group only"
    monkeypatch.setenv("NOXSESSION", f"pyxis_basic({CONTAINER_CELL})")
    ((_, options),) = run_session("pyxis_basic")
    assert paths.NOT_RUN_VARIABLE not in options["env"]


def test_help_is_shown_for_the_first_cell_only(run_session: Callable[..., Ran]) -> None:
    assert len(run_session("pyxis_basic", "--help")) == 1
    with pytest.raises(RefusedError, match="skip: help was shown already"):
        run_session("registry", "-h")


@pytest.mark.parametrize("name", ["pyxis_basic", "pyxis_conformance", "registry", "legacy_integration"])
def test_the_mutations_run_a_suite_as_its_session_does(name: str) -> None:
    cell = loading.load().cell(CELLS.get(name, CONTAINER_CELL))
    assert suites_of(cell)[name] == given(SUITES[name], []).command(SUITES[name])


def test_a_session_reads_candidates_options_suite_and_subject_once(
    run_session: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each reading of a dirty checkout makes a commit in it, and what is read twice can be read in two ways."""
    seen: Counter[str] = Counter()

    def counted(kind: type[object] | ModuleType, name: str, does: Callable[..., object] | None = None) -> None:
        real = getattr(kind, name)

        def count(*given: Any, **more: Any) -> Any:  # noqa: ANN401 - as what it stands for
            seen[name] += 1
            return (does or real)(*given, **more)

        monkeypatch.setattr(kind, name, count)

    (archive := tmp_path / "slurm-22.05.tar.gz").touch()
    candidate = Candidate(
        axis="slurm", version=Version("22.5+g1"), release="22.05", row=Version("22.5"), files=(archive,)
    )
    counted(candidates, "_source", lambda _project, origin, _rows: (origin, candidate))
    counted(checkout, "state_of", lambda _folder: "")
    counted(Options, "check")
    counted(Options, "of")
    counted(pytest_words._Parser, "parse_known_args")  # noqa: SLF001 - where a suite's arguments are read
    counted(pytest_words, "check_environment")
    counted(Suite, "refuses")
    monkeypatch.setattr(sources, "missing", lambda *_given: None)
    ran: list[str] = []

    def run(record: Record, _up: object = None) -> NoReturn:
        ran.append(record.plan.cell.id)
        sys.exit(3)

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path))
    ((words, _),) = run_session("pyxis_conformance", "-k", "x", "--slurm", str(tmp_path))
    with pytest.raises(SystemExit):
        main(words[3:])
    assert ran == [CONTAINER_CELL.replace("22.05", "22.05+g1")]
    assert max(seen.values()) == 1, seen

    seen.clear()
    counted(inputs, "own_suite")
    ((words, _),) = run_session("suite", str(ROOT / "tests/unit"), "-k", "x")
    with pytest.raises(SystemExit):
        main(words[3:])
    assert seen["own_suite"] == seen["of"] == seen["check"] == 1, seen


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[venvs.Packages]:
    """Collect what virtual environments are asked to hold; none is made."""
    found: list[venvs.Packages] = []

    def shared(_folder: Path, _name: str, packages: venvs.Packages) -> Path:
        found.append(packages)
        return tmp_path

    monkeypatch.setattr(venvs, "shared", shared)
    return found


def test_what_is_installed_is_the_subject_or_its_checkout_and_what_is_named(
    run_session: Callable[..., Ran], asked: list[venvs.Packages], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").touch()
    run_session("suite", "theirs", "--with", "numpy", "--with=six<2", "--subject", str(tmp_path), "-k", "x")
    assert asked[0].checkout == tmp_path
    assert asked[0].requirements[-2:] == ("numpy", "six<2")
    run_session("suite", "theirs")
    assert asked[1].checkout is None
    assert asked[1].requirements[-1] == loading.load().subject.requirement
    run_session("images", "--subject", str(tmp_path))
    assert (asked[2].checkout, asked[2].constraints) == (None, ()), "nothing of it runs beside the tests"
    run_session("pyxis_basic", "-k", "x", "--", "--subject", str(tmp_path))
    assert asked[3].checkout == tmp_path, "what the tool reads of a suite's options is installed"


def test_a_checkout_that_is_no_project_is_refused_before_anything_is_installed(
    run_session: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(venvs, "shared", lambda *_given: pytest.fail("it installs"))
    for session in ("pyxis_basic", "matrix", "bisect", "suite"):
        with pytest.raises(RefusedError, match="not a Python project"):
            run_session(session, "--subject", str(tmp_path))


def test_what_a_suite_starts_finds_the_packages_of_its_environment(run_session: Callable[..., Ran]) -> None:
    ((words, options),) = run_session("pyxis_basic")
    folder = Path(words[0]).parent
    assert options["env"]["PATH"].startswith(f"{folder}:")
    assert options["env"]["VIRTUAL_ENV"] == str(folder.parent)


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
