"""A matrix file of one's own: what it adds and replaces, how its faults are told, and `init`, which writes one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ci import paths
from ci.cli.main import main
from ci.errors import MatrixError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.model import Matrix
from tests.support.rows import faults_in

EMBEDDED = f"slurm22.05-embedded-debian12-{Arch.host()}"
REAL = f"slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-{Arch.host()}"

Own = Callable[[str], Matrix]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Return what writes a file of one's own, and returns the matrix that it makes with the project's."""

    def load(content: str) -> Matrix:
        (tmp_path / "matrix.toml").write_text(content, encoding="utf-8")
        monkeypatch.setenv(paths.MATRIX_VARIABLE, str(tmp_path / "matrix.toml"))
        return loading.load()

    return load


def test_what_is_not_named_is_the_projects(own: Own) -> None:
    project, mine = loading.load(paths.MATRIX_FILE), own('[subject]\nrequirement = "submitit==1.5"\n')
    assert mine.subject.requirement == "submitit==1.5"
    assert mine.subject.constraints == (), "limits of another package do not hold for it"
    assert mine.all_cells(Arch.host()) == project.all_cells(Arch.host())
    assert (mine.groups, mine.defaults) == (project.groups, project.defaults)
    assert mine.path.name == "matrix.toml"
    assert mine.path != project.path


def test_rows_and_groups_are_added_and_defaults_replaced_one_by_one(own: Own) -> None:
    project = loading.load(paths.MATRIX_FILE)
    mine = own(
        '[[pyxis]]\nversion = "0.99.0"\n[groups.mine]\ncells = [{ pyxis = "0.99.0", slurm = "22.05", arch = "host" }]\n'
        '[defaults]\ngroup = "mine"\n[suite-environment]\nhost = "CLUSTER"\n'
    )
    assert {it.name for it in mine.pyxis} == {*(it.name for it in project.pyxis), "0.99.0"}
    assert {group.name for group in mine.groups} == {*(group.name for group in project.groups), "mine"}
    assert {str(cell.pyxis) for cell in mine.cells(None, Arch.host())} == {"0.99.0"}
    assert mine.defaults.nodes == project.defaults.nodes
    variables = dict(mine.suite_environment.variables)
    assert variables == {**dict(project.suite_environment.variables), "host": "CLUSTER"}


def test_a_row_of_the_same_version_takes_the_place_of_the_projects(own: Own) -> None:
    mine = own('[[pyxis]]\nversion = "0.24.0"\nrequires-enroot = ">=4"\n')
    (row,) = [it for it in mine.pyxis if it.name == "0.24.0"]
    assert [axis for axis, _ in row.requires] == ["enroot"]


def test_known_failures_add_up(own: Own) -> None:
    before = loading.load(paths.MATRIX_FILE).failures
    mine = own('[[known-failure]]\ntests = ["test_mine"]\nsays = "too old"\nreason = "it is"\npyxis = "0.19.0"\n')
    assert [it.tests for it in mine.failures] == [("test_mine",), *(it.tests for it in before)]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("\n[subjct]\n", "matrix.toml:2: subjct: unknown key 'subjct'; did you mean 'subject'?"),
        ('[subject]\nrequirment = "x"\n', "matrix.toml:2: subject.requirment: unknown key 'requirment'; did you mean"),
        (
            '[defaults]\ngroup = "smok"\n',
            "matrix.toml:2: defaults.group: there is no group 'smok'; did you mean 'smoke'?",
        ),
        (
            '[[pyxis]]\nversion = "0.98.0"\n\n[[pyxis]]\nversion = 0.99\n',
            "matrix.toml:5: pyxis[1].version: expected text",
        ),
        ('[groups.mine]\ncells = [{ slurm = "21.08" }]\n', "matrix.toml:2: groups.mine.cells[0].slurm:"),
        ('[[exclude]]\npyxis = "0.24.0"\nraeson = "x"\n', "matrix.toml:3: exclude[0].raeson: unknown key"),
        ("pyxis = 1\n", "matrix.toml:1: pyxis: expected [[pyxis]] rows"),
        ("groups = 1\n", "matrix.toml:1: groups: expected"),
    ],
    ids=lambda value: value.split("\n")[0] if "matrix.toml:" not in value else "",
)
def test_a_fault_names_the_line_of_the_persons_own_file(own: Own, tmp_path: Path, content: str, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        own(content)
    assert [it for it in faults_in(caught.value) if it.startswith(fault)], caught.value
    assert caught.value.where == str(tmp_path / "matrix.toml")


def test_a_file_that_is_named_and_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(paths.MATRIX_VARIABLE, str(tmp_path / "gone.toml"))
    with pytest.raises(MatrixError, match=r"reading gone\.toml failed"):
        loading.load()


def test_an_edit_of_either_file_is_seen(own: Own) -> None:
    assert own('[defaults]\ngroup = "smoke"\n').defaults.group == "smoke"
    assert own('[defaults]\ngroup = "embedded"\n').defaults.group == "embedded"


# -- init ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder := tmp_path / "with a space").mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("words", [[], [EMBEDDED], [REAL, "--subject", "submitit==1.5", "--profile", "strict"]])
def test_what_is_written_is_valid_and_selects_what_was_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *words]) == 0
    monkeypatch.setenv(paths.MATRIX_VARIABLE, str(here / "matrix.toml"))
    project, mine = loading.load(paths.MATRIX_FILE), loading.load()
    smoke = [cell.id for cell in project.cells("smoke", Arch.host())]
    assert [cell.id for cell in mine.cells(None, Arch.host())] == ([words[0]] if words else smoke)
    assert mine.subject.requirement == ("submitit==1.5" if "--subject" in words else project.subject.requirement)
    said = capsys.readouterr().err + (here / "matrix.toml").read_text(encoding="utf-8")
    assert ("--profile strict" in said) is ("--profile" in words)


def test_one_that_is_there_is_left_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "matrix.toml").write_text("theirs", encoding="utf-8")
    assert main(["init"]) == SelectionError.exit_code
    assert "matrix.toml exists already, and was not changed" in capsys.readouterr().err
    assert (here / "matrix.toml").read_text(encoding="utf-8") == "theirs"


def test_a_cell_that_there_is_not_is_told_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", EMBEDDED.replace("embedded", "embeded")]) == SelectionError.exit_code
    assert f"did you mean {EMBEDDED}" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--subject", "not a package!"], "is not a requirement"), (["--profile", "stric"], "did you mean 'strict'")],
)
def test_a_word_that_makes_no_sense_is_told_before_anything_is_written(
    here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["init", *words])
    assert said in capsys.readouterr().err
    assert list(here.iterdir()) == []
