"""What comes after ``--`` on nox' command line: the session's own options, and the rest for pytest."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
import re

import pytest

from ci.cli.main import parser
from ci.errors import SelectionError
from ci.matrix import loading
from ci.matrix import mentioned as requested_suites
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.mentioned import GROUP_VARIABLE
from ci.options import Options, Scope, values
from ci.options.values import RunsOn
from ci.session import arguments

HANDED_ON = (Scope.IMAGES, Scope.CLUSTER)


def test_nothing_is_nothing() -> None:
    asked, rest = arguments.split([])
    assert (asked.words(*HANDED_ON), rest) == ([], [])
    assert (asked.suite, asked.shell_command, asked.strict, asked.keep) == (None, "", False, False)


def test_own_options_come_back_as_arguments_and_the_rest_goes_to_pytest() -> None:
    words = ["-n", "4", "--nodes", "3", "-k", "numpy", "--keep", "--mirror=/m", "--registry-port", "5000", "--verbose"]
    asked, rest = arguments.split(words)
    assert asked.words(*HANDED_ON) == ["--mirror", "/m", "--nodes", "3", "--registry-port", "5000", "--keep"]
    assert rest == ["-n", "4", "-k", "numpy", "--verbose"]


EVERYTHING = (
    *("--nodes", "2", "--gpus", "1", "--subject", "/src/sdk", "--mirror", "/m", "--strict", "--accounting"),
    *(
        "--registry-port",
        "1",
        "--ssh-port",
        "2",
        "--user",
        "alice",
        "--password-file=PASSWORD",
        "--container-name",
        "theirs",
    ),
    *("--registry-name", "registry", "--base-image", "python:3.11-slim", "--base-image", "reg.io/a/b_c"),
    *("--node-package", "numpy", "--node-package", "six<2", "--keep"),
    *("--partition", "normal", "--partition", "gpu-q", "--job-image", "node", "--image-package", "cloudpickle"),
)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """Return a file with a password."""
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text(" -a:b \"'$\\é \n", encoding="utf-8")
    return path


def test_what_nox_hands_on_is_read_the_same_by_the_command_line(password: Path) -> None:
    asked, _ = arguments.split([word.replace("PASSWORD", str(password)) for word in EVERYTHING])
    assert asked.password_file == password
    own = ("--run", "r", "--results", "/results", "--as", "name", "--plain", "--pytest")
    whole = [*asked.words(*HANDED_ON), *own]
    again = Options.of(parser().parse_args(["run", "CELL", *whole]))
    assert again == replace(asked, run="r", results=Path("/results"), name="name", plain=True, pytest=True)
    assert again.words(*HANDED_ON) == asked.words(*HANDED_ON)


def test_a_password_is_what_its_file_holds_and_stands_nowhere_else(password: Path) -> None:
    asked, _ = arguments.split(["--password-file", str(password)])
    assert values.password_in(password) == " -a:b \"'$\\é "
    assert asked.words(*HANDED_ON) == ["--password-file", str(password)]
    assert "a:b" not in repr(asked)


@pytest.mark.parametrize("command", ["run", "up", "matrix"])
@pytest.mark.parametrize("words", [["--password", "s3cr3t"], ["--password=s3cr3t"]], ids=["two words", "one word"])
def test_no_command_takes_a_password_and_none_repeats_it(
    command: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([command, "CELL", *words])
    error = capsys.readouterr().err
    assert "a password on a command line is visible to every user of this machine" in error
    assert "s3cr3t" not in error


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o600, "1 to 255 printable characters"),
        (b"a\nb\n", 0o600, "1 to 255 printable characters"),
        (b"a" * 256, 0o600, "1 to 255 printable characters"),
        (b"\xff", 0o600, "it is not UTF-8"),
        (b"s3cr3t", 0o644, "every user of this machine may read it: chmod 600"),
    ],
)
def test_a_file_that_is_no_good_for_a_password_is_refused_without_its_content(
    password: Path, content: bytes, mode: int, why: str
) -> None:
    password.write_bytes(content)
    password.chmod(mode)
    with pytest.raises(SelectionError, match=why) as caught:
        values.password_in(password)
    assert "s3cr3t" not in str(caught.value)


def test_every_option_is_offered_once_and_has_a_word_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "--help"])
    shown = capsys.readouterr().out
    for field in fields(Options):
        declared = field.metadata["option"]
        flag = declared.flag or f"--{field.name.replace('_', '-')}"
        assert declared.help
        text = arguments.help_text() if declared.scope is Scope.SUITE else shown
        assert len(re.findall(rf"^  {flag}\b", text, re.MULTILINE)) == 1, flag


def test_folders_are_taken_from_where_the_person_is() -> None:
    asked, _ = arguments.split(["--subject", "checkout", "--mirror", "~/mirror"])
    assert (asked.subject, asked.mirror) == (Path.cwd() / "checkout", Path.home() / "mirror")


def test_the_options_of_a_suite_of_ones_own_are_not_handed_on() -> None:
    asked, rest = arguments.split(["--suite", "/suites/mine", "--command", "make", "--", "-x"])
    assert (asked.suite, asked.shell_command) == (Path("/suites/mine"), "make")
    assert (asked.words(*HANDED_ON), rest) == ([], ["-x"])


def test_what_stands_before_the_dashes_and_behind_them_comes_together() -> None:
    read = argparse.Namespace(run="r", nodes=2)
    asked, rest = arguments.split(["--nodes", "3", "-k", "x"], read)
    assert (asked.run, asked.nodes, rest) == ("r", 3, ["-k", "x"])


def test_options_of_pytest_are_never_taken_for_ours() -> None:
    words = ["--sub", "x", "--strict-markers", "--strict-config", "--keep-duplicates", "--co", "--sw", "--cov", "-s"]
    assert arguments.split(words)[1] == words


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--node", "--nodes"), ("--gpu=1", "--gpus"), ("--registryport", "--registry-port"), ("--mirorr", "--mirror")],
)
def test_a_slip_is_refused_with_what_was_perhaps_meant(word: str, meant: str) -> None:
    with pytest.raises(SelectionError, match=f"did you mean {meant}\\?"):
        arguments.split([word, "3"])


@pytest.mark.parametrize(
    "words",
    [["--gpus", "1"], ["--registry-port", "5000"], ["--registry-name", "registry"], ["--base-image", "python:3.11"]],
)
def test_a_legacy_cell_takes_no_option_of_containers(words: list[str]) -> None:
    rows = loading.load()
    asked, _ = arguments.split(words)
    asked.check(rows.cell("slurm22.05-embedded-debian12-amd64"))
    with pytest.raises(SelectionError, match=f"{words[0]} cannot be used with slurm22.05-legacy-debian12-amd64"):
        asked.check(rows.cell("slurm22.05-legacy-debian12-amd64"))


def test_the_login_node_needs_a_suite_to_run(cell: Cell) -> None:
    with pytest.raises(SelectionError, match="--on login has no suite"):
        Options(on=RunsOn.LOGIN).check(cell)
    Options(on=RunsOn.LOGIN, suite=Path("/theirs")).check(cell)


def test_a_result_folder_is_named_after_run_cell_and_suite(cell: Cell) -> None:
    asked = Options(run="r", results=Path("/results"), name="mine")
    assert asked.folder(cell) == Path("/results/r") / cell.id / "mine"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--nodes", "0"], "not between 1 and 16"),
        (["--nodes", "17"], "not between 1 and 16"),
        (["--nodes", "two"], "invalid"),
        (["--gpus", "-1"], "is not a number of GPUs"),
        (["--gpus", "all"], "invalid"),
        (["--registry-port", "65536"], "is not a port"),
        (["--ssh-port", "-1"], "is not a port"),
        (["--ssh-port", "ssh"], "invalid"),
        (["--subject"], "expected one argument"),
        (["--user", "Alice"], "is not a user name"),
        (["--user", "a;b"], "is not a user name"),
        (["--password", "s3cr3t"], "visible to every user of this machine"),
        (["--password=s3cr3t"], "use --password-file PATH"),
        (["--password-file", "/absent"], "No such file or directory"),
        (["--password-file", "/dev/null"], "it is not a regular file"),
        (["--container-name", "a/b"], "is not a container name"),
        (["--registry-name", "registry:20002"], "is not a host name"),
        (["--base-image", "Python"], "is not an image name"),
        (["--node-package", "./folder"], "is not a requirement"),
        (["--with", "numpy=1"], "is not a requirement"),
        (["--on", "node"], "neither host nor login"),
    ],
)
def test_nonsense_is_refused_with_the_options_name(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments.split(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert problem in error
    assert words[0].partition("=")[0] in error
    assert "s3cr3t" not in error


@pytest.fixture
def cell() -> Cell:
    return loading.load().cells("smoke", Arch.AMD64)[0]


@pytest.mark.parametrize(
    ("argv", "environ", "asked"),
    [
        (["-s", "pyxis_basic"], {}, False),
        ([], {}, False),
        (["-s", "pyxis_basic(ID)"], {}, True),
        (["-t", "smoke"], {}, True),
        (["--tags=smoke"], {}, True),
        ([], {GROUP_VARIABLE: "smoke"}, True),
        ([], {"NOXSESSION": "pyxis_basic(ID)"}, True),
        ([], {"NOXSESSION": "pyxis_basic"}, False),
        (["-s", "pyxis_basic(slurm99.01-embedded-amd64)"], {}, False),
    ],
)
def test_whether_somebody_asked_for_this_cell(
    cell: Cell, argv: list[str], environ: dict[str, str], *, asked: bool
) -> None:
    named = {name: value.replace("(ID)", f"({cell.id})") for name, value in environ.items()}
    assert requested_suites.selected(cell, [word.replace("ID", cell.id) for word in argv], named) is asked


@pytest.mark.parametrize(
    ("option", "value"),
    [("--partition", it) for it in ("debug", "DEFAULT", "a b", "a,b", "-a", "")]
    + [("--job-image", "debian13"), ("--image-package", "not a requirement")],
)
def test_what_no_partition_or_job_image_can_be_is_refused(option: str, value: str) -> None:
    with pytest.raises(SystemExit):
        arguments.split([f"{option}={value}"])
