"""What a person names of this machine: suites and host names; checkouts are in test_subject.py."""

from pathlib import Path
import socket

import pytest

from ci import paths
from ci.cli.main import parser
from ci.errors import EngineError, SelectionError
from ci.matrix.suites import SUITES
from ci.options import inputs, values


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with a suite two folders down."""
    tests = tmp_path / "project/tests/integration"
    tests.mkdir(parents=True)
    (tests / "test_jobs.py").touch()
    (tmp_path / "project/pyproject.toml").touch()
    return tmp_path / "project"


def test_a_suite_is_run_in_the_folder_of_its_project(project: Path) -> None:
    found = inputs.own_suite(project / "tests/integration")
    assert (found.project, found.tests) == (project, "tests/integration")
    assert inputs.own_suite(project / "tests/integration/test_jobs.py").tests == "tests/integration/test_jobs.py"
    assert inputs.own_suite(project).tests == "."


def test_a_suite_without_a_project_is_run_in_its_own_folder(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    tests = project / "tests/integration"
    assert inputs.own_suite(tests).project == tests
    assert inputs.own_suite(tests / "test_jobs.py").project == tests


def test_what_is_no_suite_is_refused_with_the_reason(project: Path) -> None:
    empty, other = project / "empty", project / "other"
    for folder in (empty, other):
        folder.mkdir()
    (other / "notes.txt").touch()
    for path, why in {
        project / "absent": "no such file or directory",
        empty: "the folder is empty",
        other: r"it holds no test_\*\.py",
        other / "notes.txt": r"it holds no test_\*\.py",
    }.items():
        with pytest.raises(SelectionError, match=why):
            inputs.own_suite(path)
    assert inputs.own_suite(other, pytest=False).path == other  # a command of its own may be anything


def names_lead(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]]) -> None:
    """Have names lead where they do on another machine."""

    def getaddrinfo(name: str, *_more: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if name not in answers:
            raise socket.gaierror(-2, "Name or service not known")
        return [(10 if ":" in address else 2, 1, 6, "", (address, 0)) for address in answers[name]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("addresses", "why"),
    [
        (["127.0.0.1"], ""),
        (["127.0.0.1", "::1"], ""),
        (["::1"], "it resolves to ::1;"),
        (["10.0.0.7"], "it resolves to 10.0.0.7;"),
        (None, "Name or service not known"),
    ],
)
def test_a_localhost_that_is_not_this_machines_loopback_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str] | None, why: str
) -> None:
    names_lead(monkeypatch, {"localhost": addresses} if addresses else {})
    if not why:
        inputs.check_localhost()
        return
    with pytest.raises(EngineError, match="localhost does not resolve to 127") as caught:
        inputs.check_localhost()
    assert why in str(caught.value)
    assert "127.0.0.1 localhost" in caught.value.next_step


def test_a_second_name_of_the_registry_leads_to_loopback_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "here": ["127.0.0.1"],
        "here by both": ["::1", "127.0.0.1"],
        "both": ["127.0.0.1", "10.0.0.7"],
        "six": ["::1"],
        "debian": ["127.0.1.1"],
    }
    names_lead(monkeypatch, answers)
    inputs.check_registry_name("here")
    inputs.check_registry_name("here by both")
    for name, why in {
        "both": r"resolves to 10\.0\.0\.7 and 127\.0\.0\.1",
        "six": "resolves to ::1;",
        "debian": r"resolves to 127\.0\.1\.1",
        "registry": "Name or service not known",
    }.items():
        with pytest.raises(SelectionError, match=why):
            inputs.check_registry_name(name)


# -- the name of one's own suite --------------------------------------------------------------------------------------


def own(path: Path, project: bool = True) -> inputs.OwnSuite:  # noqa: FBT001, FBT002 - a test's own
    """Make a suite, and return it as it is found."""
    path.mkdir(parents=True)
    (path / "test_x.py").touch()
    if project:
        (path.parent / "pyproject.toml").touch()
    return inputs.own_suite(path)


def test_suites_of_one_last_name_have_names_of_their_own_that_can_be_read(tmp_path: Path) -> None:
    names = [own(tmp_path / where).name for where in ("a/tests", "b/tests", "x/a/tests", "y/a/tests")]
    assert len(set(names)) == 4
    assert [name.rpartition("-")[0] for name in names] == ["a-tests", "b-tests", "a-tests", "a-tests"]
    assert inputs.own_suite(tmp_path / "a/tests").name == names[0], "a path has one name"


def test_a_file_and_a_folder_of_one_name_are_two_suites(tmp_path: Path) -> None:
    folder = own(tmp_path / "a/tests")
    (tmp_path / "a/tests.py").touch()
    assert inputs.own_suite(tmp_path / "a/tests.py").name != folder.name


@pytest.mark.parametrize(
    "name", [*SUITES, *sorted(paths.BESIDE_SUITES), "logs", "command", "a b\n", "ä\udcff", "-x", "x" * 250]
)
def test_no_suite_of_ones_own_has_a_name_that_means_something_else(tmp_path: Path, name: str) -> None:
    found = own(tmp_path / name, project=False).name
    assert values.result_name(found) == found, "it can be given on a command line"
    assert found not in {*SUITES, *sorted(paths.BESIDE_SUITES), "logs", "command", name}


@pytest.mark.parametrize(
    "name", [*sorted(paths.BESIDE_SUITES), "Up", "", ".", "..", "a/b", "../x", "/x", "a b", "x" * 200, "-x"]
)
def test_a_name_of_a_result_that_is_taken_or_leads_elsewhere_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "C", f"--as={name}"])
    assert "argument --as: " in capsys.readouterr().err


@pytest.mark.parametrize("name", [*sorted(paths.BESIDE_RUNS), "Report"])
@pytest.mark.parametrize("words", [["run", "C"], ["matrix"], ["up", "C"], ["images"]])
def test_a_run_that_is_called_like_what_lies_beside_runs_is_refused(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([*words, f"--run={name}"])
    monkeypatch.setenv("PYXIS_MATRIX_RUN", name)
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    assert capsys.readouterr().err.count(f"argument --run: {name!r} cannot be used") == 2
