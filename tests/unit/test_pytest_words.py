"""`ci.matrix.pytest_words`: what a person may give to pytest, and what of it makes a result one of a part."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from ci import paths
from ci.errors import SelectionError
from ci.matrix import pytest_words
from ci.matrix.pytest_words import check_environment, given, narrowing, unknown
from ci.matrix.suites import SUITES

SUITE = SUITES["registry"]
FILE = next(it for it in sorted((paths.REPOSITORY / "tests/integration/registry").glob("test_*.py")))
HERE = FILE.relative_to(paths.REPOSITORY).as_posix()


# What changes what pytest does: in the first column the kind of change.
CHANGING = {
    "nothing is run": [
        "--setup-plan",
        "--setup-only",
        "--collect-only",
        "--co",
        "--fixtures",
        "--markers",
        "--version",
    ],
    "other settings": [
        *(
            "-c other.ini",
            "--config-file=other.ini",
            "-o python_files=x.py",
            "--override-ini=addopts=",
            "--rootdir /tmp",
        ),
        *("--inifile x", "--confcutdir=/", "--noconftest", "--import-mode=append", "--pyargs", "-W ignore"),
        *("--strict-markers", "--disable-warnings", "--continue-on-collection-errors", "--keep-duplicates"),
    ],
    "other code": [
        "-p evil",
        "-pevil",
        "-p no:skipping",
        "--disable-plugin-autoload",
        "--doctest-modules",
        "--pastebin=all",
    ],
    "another meaning of passing": ["--runxfail", "--reruns 5", "--only-rerun x", "--fail-on-flaky", "--assert=plain"],
    "other files": ["--report-log=/tmp/x", "--junitxml x", "--junit-xml=x", "--basetemp=/", "@words", "-k @words"],
    "other machines": ["--tx popen", "-f", "--looponfail", "--rsyncdir x", "-d"],
    "what nobody knows": ["--no-such-option", "--cell x", "-1", "-"],
    "hidden among others": ["-xvc other.ini", "-qpevil", "-vx --co", "-k a --setup-plan", "-n 2 -Wignore"],
}


@pytest.mark.parametrize("words", [it for those in CHANGING.values() for it in those])
def test_what_is_not_known_to_leave_the_tests_as_they_are_is_refused(words: str) -> None:
    with pytest.raises(SelectionError, match=r"cannot be used with registry|ignored explicit argument") as caught:
        given(SUITE, words.split())
    assert "-k, -m" in caught.value.next_step


@pytest.mark.parametrize(
    "words",
    [
        *([], ["-v"], ["-vv", "-s"], ["-xvs"], ["-n", "4"], ["-n4"], ["-n", "0", "--pdb"], ["-ra"], ["--tb=short"]),
        *(["--maxfail=2"], ["--durations", "5"], ["--durations=0"], ["--color=yes"], ["--ff"], ["--nf", "-q"], ["-l"]),
        *(["--dist", "loadfile"], ["--setup-show"], ["-k", ""], ["-m", ""]),
    ],
    ids=" ".join,
)
def test_what_shows_orders_or_stops_leaves_the_suite_whole(words: list[str]) -> None:
    found = given(SUITE, words)
    assert (found.narrowing, found.paths) == ((), ())
    assert found.command(SUITE) == (*SUITE.words(), *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-k", "tls and not x"], ["-k tls and not x"]),
        (["-ktls"], ["-k tls"]),
        (["-xk", "tls"], ["-k tls"]),
        (["-m", "container_packaging"], ["-m container_packaging"]),
        (["--deselect", "a::b", "--deselect=c"], ["--deselect a::b", "--deselect c"]),
        (["--ignore=x", "--ignore-glob", "*y*"], ["--ignore x", "--ignore-glob *y*"]),
        (["--lf"], ["--lf"]),
        (["--last-failed", "--lfnf=none"], ["--lf", "--lfnf none"]),
        (["--sw"], ["--sw"]),
        (["--stepwise-skip"], ["--sw-skip"]),
        ([HERE], [HERE]),
        ([f"{HERE}::test_x[a b]", "-v"], [f"{HERE}::test_x[a b]"]),
        ([str(FILE)], [str(FILE)]),
    ],
)
def test_what_asks_for_a_part_is_named(words: list[str], told: list[str]) -> None:
    assert list(given(SUITE, words).narrowing) == told


def test_a_path_stands_in_the_place_of_the_whole_suite() -> None:
    words = [f"{HERE}::test_x", "-v", "-k", f"{HERE}"]
    command = given(SUITE, words).command(SUITE, "-n", "2")
    assert command == (*SUITE.words(whole=False), "-n", "2", *words)
    assert "tests/integration/registry" not in command


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("tests/unit", "the suite is tests/integration/registry"),
        ("tests/integration", "the suite is tests/integration/registry"),
        ("tests/integration/registry/../conformance", "the suite is tests/integration/registry"),
        ("/", "the suite is tests/integration/registry"),
        ("tests/integration/registry/test_no_such.py::test_x", "there is no such file or directory"),
        ("true", "there is no such file or directory"),
    ],
)
def test_a_path_of_elsewhere_is_no_part_of_the_suite(word: str, why: str) -> None:
    with pytest.raises(SelectionError, match="is not a part of registry") as caught:
        given(SUITE, [word])
    assert caught.value.why == why


@pytest.mark.parametrize("words", [["-k"], ["-n"], ["-x=1"]])
def test_words_that_pytest_could_not_read_are_refused_in_plain_words(words: list[str]) -> None:
    with pytest.raises(SelectionError, match="pytest's arguments are invalid"):
        given(SUITE, words)


def test_every_option_that_is_taken_is_one_of_pytest_with_as_many_values(pytestconfig: pytest.Config) -> None:
    options = {
        name: option.attrs()
        for group in (*pytestconfig._parser._groups, pytestconfig._parser._anonymous)  # noqa: SLF001
        for option in group.options
        for name in option.names()
    }
    for action in pytest_words._Parser()._actions:  # noqa: SLF001
        for name in action.option_strings:
            theirs = options[name]
            values = theirs.get("action", "store") in {"store", "append"} and theirs.get("nargs") != 0
            assert values == (not isinstance(action, argparse._StoreTrueAction)), name  # noqa: SLF001


# -- suites of somebody's own; what their pytest tells is in test_parts.py ------------------------------------------


@pytest.mark.parametrize(
    ("asked", "deselected", "told"),
    [
        ([("--run-integration", ""), ("-p", "theirs"), ("-q", "")], 0, []),
        ([("--run-integration", ""), ("-p", "theirs"), ("-q", "")], 1, ["--run-integration", "-p theirs"]),
        ([("-k", "x"), ("--lf", "")], 0, ["-k x", "--lf"]),
        ([("-o", "junit_logging=all"), ("-p", "pytest_reportlog"), ("--cell", ""), ("--junitxml", "")], 1, []),
        (
            [("-o", "testpaths=x"), ("-p", "no:theirs"), ("-p", "no:cacheprovider")],
            0,
            ["-o testpaths=x", "-p no:theirs"],
        ),
        ([("@words", ""), ("", "a.py::b")], 0, ["@words", "a.py::b"]),
    ],
)
def test_of_somebodys_own_suite_only_a_part_is_noticed(
    asked: Sequence[tuple[str, str]], deselected: int, told: list[str]
) -> None:
    assert list(narrowing(asked, deselected)) == told


def test_words_that_can_not_be_read_here_are_left_to_pytest_itself() -> None:
    assert unknown(["-sp", "no:x", "-k", "a", "--no-such"]) == ("-sp", "-k", "--no-such")
    assert unknown(["-sk", "a"]) == ()


# -- the environment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTEST_ADDOPTS", "--setup-plan"),
        ("PYTEST_ADDOPTS", "-q"),
        ("PYTEST_PLUGINS", "evil"),
        ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),
        ("PYTHONOPTIMIZE", "1"),
    ],
)
def test_an_environment_that_changes_what_pytest_does_is_refused(name: str, value: str) -> None:
    with pytest.raises(SelectionError, match=f"{name} cannot be used with this project's suites") as caught:
        check_environment({"PATH": "/bin", name: value})
    assert f"unset {name}" in caught.value.next_step


def test_an_environment_that_changes_nothing_is_left_alone() -> None:
    check_environment({"PYTEST_ADDOPTS": "", "PYTEST_CURRENT_TEST": "x", "PYTEST_XDIST_WORKER": "gw0", "PATH": "/bin"})


def test_the_settings_are_those_of_the_project_whatever_lies_nearer(tmp_path: Path) -> None:
    assert not tmp_path.is_relative_to(paths.REPOSITORY)
    for suite in SUITES.values():
        assert suite.words()[:2] == ("-c", "pyproject.toml")
