"""One class and one exit code per kind of error; the text says what, where, why and the next command."""

import ast
import errno
import inspect
from pathlib import Path
import re

import pytest

from ci import errors
from ci.errors import PyxisMatrixError, disk_is_full
from tests.support.literals import words_of

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"python3? -m ci\b(?!\.)|\bnox -s\b")

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, PyxisMatrixError)]


def test_the_parts_stand_on_their_own_lines() -> None:
    error = PyxisMatrixError("the image did not build", where="base", why="no space left", next_step="docker system df")
    assert str(error).splitlines() == [
        "the image did not build",
        "  where: base",
        "  why: no space left",
        "  next: docker system df",
    ]


@pytest.mark.parametrize(
    ("parts", "lines"),
    [({}, []), ({"why": "no space"}, ["  why: no space"]), ({"next_step": "nox"}, ["  next: nox"])],
)
def test_parts_that_are_missing_leave_no_line(parts: dict[str, str], lines: list[str]) -> None:
    assert str(PyxisMatrixError("it broke", **parts)).splitlines() == ["it broke", *lines]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_says_what_it_is_for(kind: type[PyxisMatrixError]) -> None:
    assert kind.__doc__
    assert kind.__name__.endswith("Error")


def test_exit_codes_are_distinct_and_fit_a_process() -> None:
    codes = [kind.exit_code for kind in CLASSES if "exit_code" in vars(kind)]
    assert len(set(codes)) == len(codes), "a class without a code of its own has that of its base"
    assert all(3 <= code < 126 for code in codes), "0 is success, 1 and 2 are the commands' own, 126 and up the shell's"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("write /var/lib/docker/tmp: no space left on device", True),
        ("OSError: [Errno 28] No space left on device", True),
        ("mv: Disk quota exceeded", True),
        ("error ENOSPC while copying", True),
        ("RENOSPCX", False),
        ("everything is fine", False),
        # pyxis#93: used-up user namespaces say the same words
        ("enroot-nsenter: failed to create user namespace: No space left on device", False),
        ("unshare failed: No space left on device", False),
        ("new namespace\ntar: no space left on device", True),
    ],
)
def test_a_program_s_words_about_a_full_disk_are_told_from_others(text: str, *, full: bool) -> None:
    assert disk_is_full(text) is full


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (None, False)]
)
def test_the_system_s_error_for_a_full_disk_is_known_by_its_number(number: int | None, *, full: bool) -> None:
    assert disk_is_full(OSError(number, "No space left on device")) is full


def test_a_command_can_be_typed_where_only_bootstrap_knows_nox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(errors.BOOTSTRAP_VARIABLE, "1")
    assert errors.typed("down RUN") == "ci/bootstrap nox -s ci -- down RUN"
    assert errors.as_here("nox -s pyxis_basic") == "ci/bootstrap nox -s pyxis_basic"
    said = str(PyxisMatrixError("what", next_step="nox -s matrix -- CELL"))
    assert said == "what\n  next: ci/bootstrap nox -s matrix -- CELL"


def test_commands_are_written_for_a_person_in_one_place() -> None:
    """After `ci/bootstrap` nobody can run `python -m ci`: its packages are in an environment that nox makes.

    Where it is installed there is no nox at all.
    """
    assert errors.typed("up CELL") == "nox -s ci -- up CELL"
    for file in sorted((ROOT / "ci").rglob("*.py")):
        said = [text for text in words_of(ast.parse(file.read_text(encoding="utf-8"))) if COMMAND.search(text)]
        assert said == (["nox -s "] if file.name == "errors.py" else []), file
