"""What a shell is told of a command line that is not whole yet; nobody else pays for it."""

import argparse
import ast
from collections.abc import Callable
import io
from pathlib import Path

from argcomplete.finders import CompletionFinder
import pytest

from ci.cli import completing, main
from ci.environment import launching
from ci.errors import MatrixError
from ci.matrix import loading, profile_files
from ci.matrix.arch import Arch
from ci.matrix.suites import SUITES

EMBEDDED = f"slurm22.05-embedded-debian12-{Arch.host()}"
Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Complete:
    """Return a function that returns what can stand at the end of a command line."""
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYXIS_MATRIX_GROUP", raising=False)
    monkeypatch.chdir(tmp_path)
    # It takes file descriptor 9 for its own.
    monkeypatch.setattr(CompletionFinder, "_init_debug_stream", lambda _: None)

    def words(line: str) -> list[str]:
        whole = f"pyxis-matrix {line}"
        variables = {completing.ASKED: "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
        for name, value in {**variables, "COMP_LINE": whole, "COMP_POINT": str(len(whole))}.items():
            monkeypatch.setenv(name, value)
        told = io.StringIO()
        completing.answer(
            main.parser(), output_stream=told, exit_method=lambda code: told.write("" if not code else "?")
        )
        return [word.strip() for word in told.getvalue().splitlines()]

    return words


def verbs() -> dict[str, argparse.ArgumentParser]:
    (found,) = (it for it in main.parser()._actions if isinstance(it, argparse._SubParsersAction))  # noqa: SLF001
    return {**found.choices}


def test_commands_are_those_that_help_lists(complete: Complete) -> None:
    assert complete("ma") == ["matrix"]
    commands = complete("")
    assert {"up", "report", "complete"} <= {*commands}
    assert not {"hold", "cell", "--help"} & {*commands}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("up slurm22.05-emb", EMBEDDED),
        ("up ", EMBEDDED),
        ("up slurm22.05-leg", EMBEDDED.replace("embedded", "legacy")),
        ("matrix --gr", "--group"),
        ("matrix --group st", "stable"),
        ("plan --group=st", "--group=stable"),
        ("matrix --suite regi", "registry"),
        ("suite pyxis_b", "pyxis_basic"),
        ("up CELL --profile st", "strict"),
        ("profile check ", "mine/"),
        ("report --format ht", "html"),
        ("down m", "my-run"),
    ],
)
def test_values_are_completed_by_what_they_name(complete: Complete, tmp_path: Path, line: str, word: str) -> None:
    launching.state_dir("my-run", EMBEDDED).mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    assert word in complete(line)


def test_all_that_are_known_are_offered(complete: Complete) -> None:
    assert complete("matrix --group ") == [group.name for group in loading.load().groups]
    assert complete("matrix --suite ") == [*SUITES]
    assert {*complete("up CELL --profile ")} >= {*profile_files.shipped()}
    used = {action.metavar for verb in verbs().values() for action in verb._actions}  # noqa: SLF001
    assert completing._NAMES.keys() <= used  # noqa: SLF001


def test_behind_the_dashes_are_the_words_of_another_program(complete: Complete) -> None:
    with pytest.raises(SystemExit) as ended:
        complete("run CELL -- py")
    assert ended.value.code == 1


def test_a_fault_in_matrix_toml_is_not_the_shells(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise MatrixError("a fault")

    monkeypatch.setattr(loading, "load", broken)
    assert complete("up sl") == []


@pytest.mark.parametrize("shell", completing.SHELLS)
def test_what_a_shell_has_to_read_names_the_program(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main.main(["complete", shell]) == 0
    assert "_ARGCOMPLETE" in capsys.readouterr().out
    assert f"complete {shell}" in completing.how(shell)


@pytest.mark.parametrize("package", ["argcomplete", "asyncssh", "docker"])
def test_what_takes_long_to_load_is_loaded_where_it_is_needed(package: str) -> None:
    for path in Path(main.__file__).parents[1].rglob("*.py"):
        top = [
            it for it in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(it, ast.Import | ast.ImportFrom)
        ]
        names = {(it.module or "") if isinstance(it, ast.ImportFrom) else it.names[0].name for it in top}
        assert package not in {name.partition(".")[0] for name in names}, path


def test_a_command_that_no_shell_asks_for_does_not_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(completing, "answer", asked.append)
    monkeypatch.delenv(completing.ASKED, raising=False)
    assert main.main([]) == 2
    assert asked == []
    monkeypatch.setenv(completing.ASKED, "1")
    assert main.main([]) == 2
    assert len(asked) == 1
