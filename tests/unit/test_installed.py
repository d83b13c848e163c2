"""The program where it is installed: how its commands are called, whose folders it uses, what needs a checkout."""

from collections.abc import Iterator
import os
from pathlib import Path
import sys
from typing import NoReturn

import pytest

from ci import errors, paths
from ci.artefacts import checkout, pinning
from ci.cli import bumping, elsewhere, main
from ci.environment.plan import plan_environment
from ci.errors import CheckoutNeededError, PyxisMatrixError, ResultsError
from ci.fleet import model as of_fleet
from ci.fleet import revision
from ci.fleet.formats import sbatch as for_slurm
from ci.group import children
from ci.matrix import loading, suites
from ci.matrix.arch import Arch
from ci.matrix.pytest_words import Given
from ci.options import Options, packages
from ci.options.inputs import OwnSuite
from ci.python import venvs
from ci.record import store
from ci.session.record import Record
from ci.terminal.processes import Completed

CELL = f"slurm22.05-embedded-debian12-{Arch.host()}"
ASKING = (errors, paths, checkout, elsewhere, main, suites, of_fleet, for_slurm)
"""The modules that ask whether it is installed."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have the program installed, and return the person's current folder."""
    for module in ASKING:
        monkeypatch.setattr(module, "INSTALLED", True)
    for name in (*paths._PLACES, "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"):  # noqa: SLF001 - all of them
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))
    (here := tmp_path / "with a space").mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def prefix() -> Iterator[None]:
    """Give Python its place for bytecode back."""
    before = sys.pycache_prefix
    yield
    sys.pycache_prefix = before


# -- how commands are called ---------------------------------------------------------------------------------------


def test_a_session_has_a_command_of_its_name(installed: Path) -> None:
    assert installed
    assert errors.typed("up CELL") == "pyxis-matrix up CELL"
    assert errors.session("matrix", "--group stable -- -k x") == "pyxis-matrix matrix --group stable -- -k x"
    assert errors.suite_session("registry") == "pyxis-matrix matrix --suite registry"
    assert errors.suite_session("registry", "CELL", "--nodes 2") == "pyxis-matrix suite registry CELL -- --nodes 2"
    assert errors.suite_session(suites.OWN, "CELL", "PATH -n 4") == "pyxis-matrix suite CELL -- PATH -n 4"
    assert errors.set_up() == "pyxis-matrix setup"


def test_in_a_checkout_a_session_is_called_with_nox() -> None:
    assert errors.session("matrix", "--group stable") == "nox -s matrix -- --group stable"
    assert errors.suite_session("registry") == "nox -s registry"
    assert errors.suite_session("registry", "CELL", "--nodes 2") == 'nox -s "registry(CELL)" -- --nodes 2'
    assert errors.set_up() == "ci/bootstrap"


def test_what_is_called_can_be_parsed(installed: Path) -> None:
    """What a result names as `again`, and what a plan gives to machines, is typed as it stands."""
    assert installed
    parsed = main.parser().parse_args(["suite", "registry", CELL, "--nodes", "2"])
    assert (parsed.suite_name, parsed.cell, parsed.nodes) == ("registry", CELL, 2)
    own = main.parser().parse_args(["suite", CELL])
    assert (own.suite_name, own.cell) == (suites.OWN, CELL)
    assert of_fleet.report("fleet-r") == "pyxis-matrix report --output results/report fleet-r"


def test_a_message_names_the_installed_program(installed: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        store.latest_run(installed / "results")
    assert caught.value.next_step == "run a suite: `pyxis-matrix matrix --suite pyxis_basic`"


def test_it_starts_itself_in_whatever_folder(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("subprocess.Popen", lambda words, **_more: started.append(words))
    children.start(children.ChildCommand(cell=CELL, words=("cell", CELL), output=installed / "output"))
    assert started == [[sys.executable, str(paths.REPOSITORY.parent / "__main__.py"), "cell", CELL]]


# -- whose folders -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("prefix")
def test_results_and_matrix_are_those_of_the_current_folder_also_for_what_is_started_elsewhere(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "matrix.toml").touch()
    environ = {paths.CACHE_VARIABLE: str(tmp_path / "cache"), paths.MIRROR_VARIABLE: "mirror"}
    paths.settle(environ)
    monkeypatch.chdir(tmp_path)
    assert paths.results_dir(environ) == installed / "results"
    assert paths.own_matrix_file(environ) == installed / "matrix.toml"
    assert environ[paths.MIRROR_VARIABLE] == str(installed / "mirror"), "what is relative is so to where it was said"
    assert environ["PYTHONPYCACHEPREFIX"] == sys.pycache_prefix == str(tmp_path / "cache/bytecode")


@pytest.mark.usefixtures("installed", "prefix")
def test_what_is_named_is_kept(tmp_path: Path) -> None:
    chosen = {
        paths.CACHE_VARIABLE: str(tmp_path),
        paths.RESULTS_VARIABLE: "/elsewhere",
        paths.MATRIX_VARIABLE: "/its/matrix.toml",
        "PYTHONPYCACHEPREFIX": "/bytecode",
    }
    paths.settle(environ := {**chosen})
    assert environ == chosen
    paths.settle(silent := {paths.CACHE_VARIABLE: str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})
    assert "PYTHONPYCACHEPREFIX" not in silent


def test_a_suite_keeps_nothing_in_the_installation(installed: Path) -> None:
    """Pytest would write its cache, of what failed last, beside the file with its settings."""
    words = suites.SUITES["registry"].words()
    assert f"cache_dir={installed.parent / 'cache/pytest'}" in words


def test_a_result_names_the_version_and_never_the_commit_of_a_repository_around(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment often lies in a project's checkout, which git would then tell of."""
    assert installed
    monkeypatch.setattr(checkout, "state_of", lambda _folder: "the commit of somebody else's project")
    assert checkout.of_this_program() == f"version {paths.version()}"


def test_a_result_of_a_checkout_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "state_of", str)
    assert checkout.of_this_program() == str(paths.REPOSITORY)


def test_a_suite_of_the_project_runs_in_the_repository_and_a_command_where_the_person_is(installed: Path) -> None:
    """A suite's tests are named by paths of the repository; nox was there already."""
    rows = loading.load()
    plan = plan_environment(rows.cell(CELL), rows, Options(results=installed))
    assert Record(plan=plan, command=("pytest",), given=Given()).folder == paths.REPOSITORY
    assert Record(plan=plan, command=("make",)).folder is None
    own = OwnSuite(path=installed / "tests", project=installed)
    assert Record(plan=plan, command=("pytest",), suite=own).folder == installed


# -- what needs a checkout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["pins"], ["bump"], ["plan", CELL, "--changed-since", "main"]], ids=" ".join)
def test_what_would_write_into_the_installation_or_ask_its_history_is_refused(
    words: list[str], installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_late(*_given: object, **_more: object) -> NoReturn:
        pytest.fail("it was begun")

    monkeypatch.setattr(pinning, "write_pins", too_late)
    monkeypatch.setattr(bumping, "look", too_late)
    monkeypatch.setattr(revision, "changes_since", too_late)
    assert main.main(words) == CheckoutNeededError.exit_code
    assert "needs a checkout of pyxis-matrix" in capsys.readouterr().err
    assert list(installed.iterdir()) == []


def test_looking_for_news_changes_nothing_and_needs_no_checkout(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed
    monkeypatch.setattr(bumping, "look", lambda *_given: [])
    assert main.main(["bump", "--check"]) == 0


# -- the environment of tests --------------------------------------------------------------------------------------

Replaced = list[tuple[list[str], dict[str, str]]]


class ReplacedError(Exception):
    """Stands for the end of this process."""


@pytest.fixture
def replaced(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Replaced:
    """Collect the programs that take this one's place, and have each environment there already."""
    assert installed
    found: Replaced = []

    def take_the_place(_program: str, words: list[str], environ: dict[str, str]) -> NoReturn:
        found.append((words, environ))
        raise ReplacedError

    monkeypatch.setattr(os, "execve", take_the_place)
    monkeypatch.setattr(venvs, "shared", lambda folder, name, _packages: folder / name)
    return found


@pytest.mark.parametrize("command", packages.RUN_SUITES)
def test_what_runs_tests_goes_on_in_the_environment_that_nox_would_make(
    command: str, replaced: Replaced, installed: Path
) -> None:
    venv = installed.parent / "cache/venvs/run-test"
    words = [command, "--", "-k", "a b"]
    with pytest.raises(ReplacedError):
        elsewhere.enter(words)
    ((started, environ),) = replaced
    assert started == [str(venv / "bin/python"), str(paths.REPOSITORY.parent / "__main__.py"), *words]
    assert environ["VIRTUAL_ENV"] == str(venv)
    assert environ["PATH"].partition(os.pathsep)[0] == str(venv / "bin"), "a suite of one's own starts `pytest`"


def test_it_stays_where_it_is_once_it_is_there(
    replaced: Replaced, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(installed.parent / "cache/venvs/run-test"))
    elsewhere.enter(["matrix"])
    assert replaced == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["suite", "C", "--", "PATH", "--with", "six"], ["suite", "C", "PATH", "--with", "six"]),
        (["matrix", "--subject", "/x", "--", "--with", "of pytest"], ["matrix", "--subject", "/x"]),
    ],
)
@pytest.mark.usefixtures("replaced")
def test_packages_are_named_where_a_session_would_read_them(
    words: list[str], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def environment(*_given: object, named: list[str]) -> Path:
        asked.append(named)
        return Path(sys.prefix)

    monkeypatch.setattr(packages, "environment", environment)
    elsewhere.enter(words)
    assert asked == [named]


@pytest.mark.parametrize(
    ("words", "enters"),
    [
        (["matrix", "no-such-cell"], True),
        (["suite", "registry", "no-such-cell"], True),
        (["compare", CELL, CELL], False),
        (["compare", CELL, CELL, "--run"], True),
        (["run", CELL, "--"], False),
        (["cells"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("installed")
def test_only_what_runs_tests_needs_their_environment(
    words: list[str], monkeypatch: pytest.MonkeyPatch, *, enters: bool
) -> None:
    entered: list[str] = []
    monkeypatch.setattr(elsewhere, "enter", lambda words: entered.append(words[0]))
    main.main(words)
    assert bool(entered) is enters


def test_a_checkout_leaves_the_environment_to_nox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "enter", lambda _words: pytest.fail("it makes one"))
    assert main.main(["matrix", "no-such-cell"]) == 11


def test_setup_takes_the_steps_of_bootstrap_but_for_its_environment(
    monkeypatch: pytest.MonkeyPatch, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed
    called: list[list[str]] = []
    codes = [20, 0, 0]

    def attach(words: list[str]) -> Completed:
        called.append(words)
        return Completed(command=tuple(words), exit_code=codes.pop(0), output="")

    monkeypatch.setattr("ci.terminal.console.attach", attach)
    assert main.main(["setup"]) == 20
    assert main.main(["setup", "--dry-run"]) == 0
    assert capsys.readouterr().err == "", "nothing was set up, so nothing more can be switched on"
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main.main(["setup"]) == 0
    assert "with TAB by: pyxis-matrix complete fish | source" in capsys.readouterr().err
    begin = [sys.executable, str(paths.REPOSITORY / "ci/machine"), "--without-venv"]
    assert called == [begin, [*begin, "--dry-run"], begin]


def test_what_a_session_needs_is_listed_once() -> None:
    """The dependencies of the wheel are what `python -m ci` runs on in a session, too."""
    run, both = packages.requirements("run"), packages.requirements("run", "test")
    assert both[: len(run)] == run
    assert [it for it in run if it.startswith("docker>")]
    assert [it for it in both if it.startswith("pytest>")]
    assert not [it for it in run if it.startswith("pytest>")]


def test_a_place_that_is_not_known_is_one_message(installed: Path) -> None:
    assert installed
    with pytest.raises(PyxisMatrixError, match="home folder was not found"):
        paths.settle({paths.RESULTS_VARIABLE: "~nobody-is-called-so/results"})
