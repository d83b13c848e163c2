"""What `--help` prints, of all programs and commands: it fits a terminal, and says what each word is."""

import argparse
from collections.abc import Callable
import importlib
from pathlib import Path
import sys

import pytest

from ci.cli import main
from ci.errors import BOOTSTRAP_VARIABLE
from ci.machine import setup
from ci.session import arguments
from tests.unit.test_installed import ASKING

WIDTH = 80
Shown = Callable[[Callable[[], object]], str]
PROGRAMS = sorted(it.parent.name for it in Path(__file__).parents[1].glob("*/__main__.py"))


def commands() -> list[str]:
    (verbs,) = (it for it in main.parser()._actions if isinstance(it, argparse._SubParsersAction))  # noqa: SLF001
    return ["", *verbs.choices]


def of_program(name: str) -> None:
    importlib.import_module(f"tests.{name}.__main__").main()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Return a function that returns what a program with the argument ``--help`` prints, when it has checked it."""
    parsers: list[argparse.ArgumentParser] = []
    whole = argparse.ArgumentParser.format_help

    def format_help(self: argparse.ArgumentParser) -> str:
        parsers.append(self)
        return whole(self)

    monkeypatch.setattr(argparse.ArgumentParser, "format_help", format_help)
    monkeypatch.setenv("COLUMNS", str(WIDTH))

    def check(act: Callable[[], object]) -> str:
        with pytest.raises(SystemExit) as ended:
            act()
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert [line for line in text.splitlines() if len(line) > WIDTH] == []
        (parser,) = parsers
        offered = [it for it in parser._actions if argparse.SUPPRESS not in {it.dest, it.help}]  # noqa: SLF001
        assert [it.dest for it in offered if not it.help] == []
        whole_text = " ".join(text.split())
        assert [it.help for it in offered if it.help and "%" not in it.help and it.help not in whole_text] == []
        return text

    return check


@pytest.mark.parametrize("called", ["nox", "ci/bootstrap", "pyxis-matrix"])
@pytest.mark.parametrize("command", commands())
def test_of_a_command(monkeypatch: pytest.MonkeyPatch, shown: Shown, command: str, called: str) -> None:
    if called == "ci/bootstrap":
        monkeypatch.setenv(BOOTSTRAP_VARIABLE, "1")
    for module in ASKING if called == "pyxis-matrix" else ():
        monkeypatch.setattr(module, "INSTALLED", True)
    text = shown(lambda: main.main([*command.split(), "--help"]))
    assert f"usage: {called} " in text or called == "ci/bootstrap"


def test_a_command_of_two_usages_has_a_line_for_each(shown: Shown) -> None:
    first, second, *_ = shown(lambda: main.main(["profile", "--help"])).splitlines()
    assert first == "usage: nox -s ci -- profile check NAME|DIR"
    assert second.startswith("       nox -s ci -- profile import ")


def test_of_a_session(shown: Shown) -> None:
    def session() -> None:
        sys.stdout.write(arguments.help_text())
        sys.exit(0)

    assert 'usage: nox -s "SUITE(CELL)" -- [options]' in shown(session)


@pytest.mark.parametrize("name", PROGRAMS)
def test_of_a_program_among_the_tests(monkeypatch: pytest.MonkeyPatch, shown: Shown, name: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    assert shown(lambda: of_program(name))


def test_of_bootstrap(shown: Shown) -> None:
    assert shown(lambda: setup.parse(["--help"]))
