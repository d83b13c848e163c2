"""The command line: exit codes, one message per mistake, and what is handed to the commands."""

import argparse
from collections.abc import Callable
import errno
import json
import os
from pathlib import Path
import signal
import sys
from typing import NoReturn

from docker.errors import APIError, NotFound
import pytest
from requests.exceptions import ConnectionError as EngineGone

from ci import paths
from ci.cli import clusters, commands, doctor, reports
from ci.cli.main import main, parser
from ci.environment.plan import EnvironmentPlan
from ci.errors import (
    DiskFullError,
    EngineError,
    LaunchError,
    MatrixError,
    PyxisMatrixError,
    SelectionError,
)
from ci.matrix.arch import Arch
from ci.matrix.suites import SUITES
from ci.session import running
from ci.session.record import Record

CELL = f"slurm22.05-legacy-debian12-{Arch.host()}"
OTHER = next(arch for arch in Arch if arch is not Arch.host())
REAL = f"slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-{Arch.host()}"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have folders of the test's own, and no choice of a group or a run from outside."""
    for name in ("PYXIS_MATRIX_RUN", "PYXIS_MATRIX_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    return tmp_path


HANDLERS: dict[str, tuple[object, str]] = {
    "cells": (commands, "cells"),
    "report": (reports, "show"),
    "doctor": (doctor, "examine"),
}


def raising(problem: BaseException) -> Callable[[argparse.Namespace], int]:
    """Return a command that fails."""

    def command(_asked: argparse.Namespace) -> int:
        raise problem

    return command


# -- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PyxisMatrixError, MatrixError, SelectionError, EngineError, LaunchError])
def test_an_error_of_ours_is_one_message_and_its_exit_code(
    kind: type[PyxisMatrixError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", raising(kind("what", where="where", why="why", next_step="next")))
    assert main(["doctor"]) == kind.exit_code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.endswith("error: what\n  where: where\n  why: why\n  next: next\n")
    assert "Traceback" not in written.err


@pytest.mark.parametrize(("command", "exit_code"), [("cells", 0), ("report", 0), ("doctor", 70)])
def test_a_reader_who_leaves_early_is_no_error_for_a_list_and_no_success_for_anything_else(
    command: str, exit_code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(*HANDLERS[command], raising(BrokenPipeError()))
    with capfd.disabled():
        kept = os.dup(sys.stdout.fileno())
        try:
            assert main([command]) == exit_code
        finally:
            os.dup2(kept, sys.stdout.fileno())
            os.close(kept)


def test_what_the_system_refuses_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", raising(PermissionError(errno.EACCES, "Permission denied", "/cache/x.lock")))
    assert main(["doctor"]) == PyxisMatrixError.exit_code
    error = capsys.readouterr().err
    assert "where: /cache/x.lock" in error
    assert "why: Permission denied" in error
    monkeypatch.setattr(doctor, "examine", raising(OSError(errno.ENOSPC, "No space left on device")))
    assert main(["doctor"]) == DiskFullError.exit_code


@pytest.mark.parametrize(
    "problem", [APIError("409", explanation="is not running"), NotFound("gone"), EngineGone("refused")], ids=repr
)
def test_an_engine_that_refuses_in_between_is_one_message(
    problem: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clusters, "logs", raising(problem))
    assert main(["logs"]) == LaunchError.exit_code
    said = "the engine does not answer" if isinstance(problem, EngineGone) else "the engine refused"
    assert said in capsys.readouterr().err


def test_a_look_at_the_machine_names_a_fault_of_the_matrix_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PYXIS_MATRIX_FILE", str(tmp_path / "matrix.toml"))
    Path(tmp_path / "matrix.toml").write_text('schema = 1\nsuject = "x"\n', encoding="utf-8")

    def connect() -> NoReturn:
        raise EngineError("no engine")

    monkeypatch.setattr(doctor, "connect", connect)
    assert main(["doctor"]) == MatrixError.exit_code
    said = capsys.readouterr().err
    assert said.count("unknown key 'suject'") == 1
    assert "engine: no engine" in said


def test_a_mistake_of_our_own_keeps_its_traceback_and_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", raising(ZeroDivisionError("ours")))
    assert main(["doctor"]) == PyxisMatrixError.exit_code, "Python's own 1 is that of tests that failed"
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_shells_code(
    number: signal.Signals, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_asked: argparse.Namespace) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(doctor, "examine", command)
    assert main(["doctor"]) == exit_code
    assert f"ended by {number.name}" in capsys.readouterr().err


def test_a_commands_own_exit_code_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _asked: 7)
    assert main(["doctor"]) == 7


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    for command in ("cells", "images", "run", "up", "shell", "logs", "down", "report", "doctor", "pins"):
        assert f"    {command} " in shown


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "exit_code", "part"),
    [
        (["run", "slurm22.05-embeded-amd64", "--", "true"], 11, "slurm22.05-embedded-debian12-amd64"),
        (["up", "smoke"], 11, "smoke"),
        (["run", CELL], 11, "there is no command to run"),
        (["run", CELL, "--"], 11, "there is no command to run"),
        (["cells", "--group", "smok"], 11, "smoke"),
        (["cells", "no-such-cell"], 11, "no-such-cell"),
        (["cells", CELL, "--explain"], 11, "--explain cannot be used with cells that are named"),
        (["cells", CELL, "--arch", OTHER], 11, f"--arch {OTHER} leaves out a cell that is named: {CELL}"),
        (["matrix", "--group", "smok"], 11, "smoke"),
        (["matrix", "no-such-cell"], 11, "no-such-cell"),
        (["matrix", "--suite", "registri"], 11, "did you mean 'registry'"),
        (["matrix", CELL, "--suite", "registry"], 11, "there is nothing to run"),
        (["matrix", CELL, "--keep"], 11, "--keep cannot be used with a group"),
        (["matrix", "--resume", "never-was"], 40, "there is no run never-was"),
        (["images", "--group", "smok"], 11, "smoke"),
        (["images", "no-such-cell"], 11, "no-such-cell"),
        *(([it, CELL, "--group", "smoke"], 11, "are both named") for it in ("cells", "images", "matrix", "plan")),
        (["pins", "--group", "smok"], 11, "smoke"),
        (["report", "no-such-run"], 40, "no-such-run"),
        (["logs"], 11, "no environments are up"),
        (["shell", "x"], 11, "no environments are up for x"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_selects_nothing_is_no_success(
    words: list[str], exit_code: int, part: str, surroundings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == exit_code
    written = capsys.readouterr()
    assert written.out == ""
    assert part in written.err
    assert not list(surroundings.iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run", CELL, "--run", "../../etc"], "is not a run id"),
        (["run", CELL, "--run", "a b"], "is not a run id"),
        (["run", CELL, "--run", "r" * 61], "is not a run id"),
        (["run", CELL, "--run", ""], "is not a run id"),
        (["up", CELL, "--ssh-port", "70000"], "is not a port"),
        (["up", CELL, "--nodes", "0"], "not between 1 and 16"),
        (["run"], "CELL"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_options_that_make_no_sense(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize("run", ["20261125-023431-a1b2", "gate", "v1.2_x"])
def test_ordinary_run_ids(run: str) -> None:
    assert parser().parse_args(["run", CELL, "--run", run]).run == run


def test_the_run_id_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXIS_MATRIX_RUN", "of-nox")
    assert parser().parse_args(["run", CELL]).run == "of-nox"
    monkeypatch.setenv("PYXIS_MATRIX_RUN", "refs/heads/main")
    with pytest.raises(SystemExit):
        parser().parse_args(["run", CELL])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"pyxis = [0.18, 0.19]\n", "matrix.toml"),
        (b"[a]\n[a]\n", "line 2"),
        (b"\xff\xfe", "matrix.toml"),
        (b"", "the file is empty"),
    ],
    ids=["wrong", "no TOML", "no UTF-8", "empty"],
)
def test_a_matrix_that_is_wrong_is_one_message_for_every_command(
    content: bytes,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "matrix.toml"
    path.write_bytes(content)
    monkeypatch.setattr(paths, "MATRIX_FILE", path)
    for words in (["cells"], ["run", CELL, "--", "true"], ["up", CELL], ["images"]):
        assert main(words) == MatrixError.exit_code
        error = capsys.readouterr().err
        assert part in error
        assert "Traceback" not in error


# -- what is printed and handed on ----------------------------------------------------------------------------------


def test_cells_are_printed_one_a_line_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cells", "--group", "full"]) == 0
    plain = capsys.readouterr().out.splitlines()
    assert main(["cells", "--group", "full", "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert plain == [cell["id"] for cell in as_json]
    assert len(set(plain)) == len(plain) > 100
    assert main(["cells", "--group", "full", "--arch", "aarch64"]) == 0
    assert capsys.readouterr().out.splitlines() == [name for name in plain if name.endswith("-arm64")] != []
    assert main(["cells", plain[3], plain[1], "--json"]) == 0
    assert [cell["id"] for cell in json.loads(capsys.readouterr().out)] == [plain[3], plain[1]]


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EnvironmentPlan, list[str]]]:
    """Record what `run` and `up` ask of a session, which then fails."""
    seen: list[tuple[EnvironmentPlan, list[str]]] = []

    def run(record: Record, _up: object = None) -> None:
        seen.append((record.plan, list(record.command)))
        raise LaunchError("enough")

    monkeypatch.setattr(running, "run", run)
    return seen


def test_what_follows_the_dashes_is_the_commands_own(
    requested: list[tuple[EnvironmentPlan, list[str]]], tmp_path: Path
) -> None:
    own = ["--run", "r", "--results", str(tmp_path), "--as", "mine", "--nodes", "2", "--keep"]
    assert main(["run", CELL, *own, "--", "pytest", "--nodes", "9", "--", "x"]) == LaunchError.exit_code
    ((plan, command),) = requested
    assert plan.cell.id == CELL
    assert command == ["pytest", "--nodes", "9", "--", "x"]
    options = plan.options
    assert (options.run, options.name, options.results, options.nodes) == ("r", "mine", tmp_path, 2)
    assert options.keep
    assert not options.plain


@pytest.mark.parametrize("name", SUITES)
def test_the_name_of_a_suite_of_the_project_is_not_given_to_a_command(
    requested: list[tuple[EnvironmentPlan, list[str]]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for more in ([], ["--pytest"], ["--plain", "--pytest"]):
        assert main(["run", CELL, "--as", name, *more, "--", "true"]) == SelectionError.exit_code
    assert f"--as {name} cannot be used for a command" in capsys.readouterr().err
    assert requested == []


def test_a_suite_of_the_project_is_run_as_it_is_written(requested: list[tuple[EnvironmentPlan, list[str]]]) -> None:
    main(["suite", "legacy_integration", CELL, "--", "-k", "arrays"])
    ((plan, command),) = requested
    assert (plan.options.name, plan.options.pytest, plan.options.plain) == ("legacy_integration", True, False)
    assert command == [sys.executable, "-m", "pytest", *SUITES["legacy_integration"].words(), "-k", "arrays"]


@pytest.mark.parametrize(
    "words",
    [
        ["suite", "legacy_integration", CELL],
        ["matrix", CELL],
        ["cell", CELL, "--suite", "legacy_integration"],
        ["bisect", "--axis", "pyxis", "--good", "0.19.0", "--bad", "0.24.0", "--cell", REAL, "--", "registry"],
    ],
    ids=lambda words: words[0],
)
def test_what_changes_pytest_is_refused_before_anything_is_made(
    surroundings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    behind = [] if "--" in words else ["--"]
    assert main([*words, *behind, "--setup-plan"]) == SelectionError.exit_code
    assert "--setup-plan cannot be used with" in capsys.readouterr().err
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "--setup-plan")
            assert main(words) == SelectionError.exit_code
        assert f"{name} cannot be used" in capsys.readouterr().err
    assert list(surroundings.iterdir()) == []


@pytest.mark.parametrize("option", ["--gpus", "--registry-port"])
@pytest.mark.parametrize("command", ["run", "up"])
def test_what_a_legacy_cell_does_not_have_is_refused_before_anything_is_made(
    surroundings: Path, command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, CELL, option, "1", "--", "true"]) == SelectionError.exit_code
    assert f"{option} cannot be used with {CELL}" in capsys.readouterr().err
    assert list(surroundings.iterdir()) == []


def test_up_keeps_it_up_with_a_password_for_a_person(requested: list[tuple[EnvironmentPlan, list[str]]]) -> None:
    main(["up", CELL])
    ((plan, command),) = requested
    assert plan.options.keep
    assert plan.options.plain
    assert command == []
