"""What stands behind ``--`` on nox' command line: the session's own options, and the rest for pytest."""

from pathlib import Path

import pytest

from ci import options
from ci.matrix import asked as asked_for
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.asked import GROUP_VARIABLE
from ci.matrix.cells import Cell


def test_nothing_is_nothing() -> None:
    asked, own, rest = options.split([])
    assert (own, rest) == ([], [])
    assert (asked.suite, asked.cell, asked.strict, asked.keep) == (None, None, False, False)


def test_own_options_come_back_as_arguments_and_the_rest_goes_to_pytest() -> None:
    words = ["-n", "4", "--nodes", "3", "-k", "numpy", "--keep", "--mirror=/m", "--registry-port", "5000", "--verbose"]
    _, own, rest = options.split(words)
    assert own == ["--keep", "--nodes", "3", "--mirror", "/m", "--registry-port", "5000"]
    assert rest == ["-n", "4", "-k", "numpy", "--verbose"]


def test_what_is_handed_on_is_read_the_same_again() -> None:
    words = [
        "--nodes",
        "2",
        "--gpus",
        "1",
        "--subject",
        "/src/sdk",
        "--mirror",
        "/m",
        "--registry-port",
        "1",
        "--ssh-port",
        "2",
        "--keep",
    ]
    asked, own, _ = options.split(words)
    again, own_again, rest = options.split(own)
    assert (again, own_again, rest) == (asked, own, [])


def test_the_options_of_nox_itself_are_not_handed_on() -> None:
    asked, own, rest = options.split(["--suite", "/suites/mine", "--cell", "x", "--strict", "--", "-x"])
    assert (asked.suite, asked.cell, asked.strict) == (Path("/suites/mine"), "x", True)
    assert (own, rest) == ([], ["-x"])


def test_options_of_pytest_are_never_taken_for_abbreviations_of_ours() -> None:
    words = ["--sub", "x", "--node", "y", "--strict-markers"]
    assert options.split(words)[2] == words


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--nodes", "0"], "not between 1 and 16"),
        (["--nodes", "17"], "not between 1 and 16"),
        (["--nodes", "two"], "invalid"),
        (["--gpus", "-1"], "is no number of GPUs"),
        (["--gpus", "all"], "invalid"),
        (["--registry-port", "65536"], "is no port"),
        (["--ssh-port", "-1"], "is no port"),
        (["--ssh-port", "ssh"], "invalid"),
        (["--subject"], "expected one argument"),
    ],
)
def test_nonsense_is_refused_with_the_options_name(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        options.split(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert problem in error
    assert words[0] in error


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
    assert asked_for.selected(cell, [word.replace("ID", cell.id) for word in argv], named) is asked
