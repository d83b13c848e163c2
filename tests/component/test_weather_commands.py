"""Bad input on the command line, and no engine: one message, the right exit code, never a traceback."""

from collections.abc import Mapping
import json
from pathlib import Path
import re
import sys

import pytest

from ci.cli.main import main
from ci.engine import emulation
from ci.errors import EngineError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.suites import SUITES
from tests.component.weather import LEGACY, Process

FOREIGN = Arch.ARM64 if Arch.host() is Arch.AMD64 else Arch.AMD64


def failed(process: Process, exit_code: int) -> str:
    """Return what a process wrote that ended with this code and one message."""
    assert process.end() == exit_code, process.output
    assert "Traceback" not in process.output
    return process.output


def test_bad_input_is_one_message_and_makes_nothing(tmp_path: Path) -> None:
    """In a process of its own; every other kind of bad input is a unit test of the command line."""
    process = Process.ci("run", "slurm22.05-embeded-debian12-amd64", "--", "true", PYXIS_MATRIX_RESULTS=str(tmp_path))
    assert "slurm22.05-embedded-debian12-amd64" in failed(process, 11)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["run", LEGACY, "--", "true"], ["up", LEGACY], ["down", "--all"], ["images", LEGACY]]
)
def test_no_engine_is_one_message(command: list[str], tmp_path: Path) -> None:
    process = Process.ci(
        *command, DOCKER_HOST="unix:///nonexistent.sock", PYXIS_MATRIX_RESULTS=str(tmp_path), PYXIS_MATRIX_RUN="none"
    )
    output = failed(process, 20)
    assert output.count("error: ") == 1
    assert "/nonexistent.sock" in output
    assert "next: " in output


def test_a_cell_of_another_architecture_is_refused_without_an_emulator_before_anything_is_built(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emulation, "BINFMT", tmp_path / "nothing")
    foreign = f"slurm22.05-embedded-debian12-{FOREIGN}"
    assert main(["run", foreign, "--run", run, "--results", str(tmp_path), "--", "true"]) == EngineError.exit_code
    output = capsys.readouterr().err
    assert f"this kernel cannot run code of {FOREIGN}" in output
    assert "ci/bootstrap --emulate" in output
    assert "docker build" not in output


# -- nox ------------------------------------------------------------------------------------------------------------


def nox(*arguments: str, environ: Mapping[str, str] | None = None) -> Process:
    return Process([sys.executable, "-m", "nox", *arguments], environ)


def cell_sessions(*arguments: str) -> dict[str, set[str]]:
    """Return the cells that nox offers, by session."""
    listed = nox("--list", "--json", *arguments)
    assert listed.end() == 0, listed.output
    offered: dict[str, set[str]] = {}
    for entry in json.loads(listed.output):
        if (name := re.fullmatch(r"(\w+)\((.+)\)", entry["session"])) is not None:
            offered.setdefault(name[1], set()).add(name[2])
    return offered


def test_nox_and_the_tool_list_the_same_cells() -> None:
    tool = Process.ci("cells")
    assert tool.end() == 0
    listed = set(tool.output.split())
    # The list is of cells with containers; those of plain Slurm are the suites' that run without them.
    real, legacy = {it for it in listed if "-pyxis" in it}, {LEGACY}
    assert real
    assert listed - real
    cells = {"nvidia": real, "embedded": listed - real, "legacy": legacy}
    offered = cell_sessions("--sessions", *SUITES)
    assert offered == {name: set().union(*(cells[it] for it in suite.runtimes)) for name, suite in SUITES.items()}
    assert (offered["pyxis_basic"], offered["legacy_integration"], offered["pyxis_upstream"]) == (listed, legacy, real)


def test_every_listed_cell_can_be_pasted_into_a_session_of_nox() -> None:
    tool = Process.ci("cells", "--group", "full")
    assert tool.end() == 0
    ids = [line.partition("\t")[0] for line in tool.output.splitlines()]  # a remark may follow
    assert len(ids) == len(set(ids)) > 100
    for some in (ids[at : at + 500] for at in range(0, len(ids), 500)):  # nox compares each name with each session
        assert cell_sessions("--sessions", *(f"pyxis_basic({cell})" for cell in some)) == {"pyxis_basic": set(some)}


def test_a_group_is_a_tag_of_nox() -> None:
    edges = {cell.id for cell in loading.load().cells("edges", Arch.host())}
    assert cell_sessions("--tags", "edges")["pyxis_basic"] == edges


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["--sessions", "pyxis_basic(slurm99.01-embedded-debian12-amd64)"], {}, "slurm99.01-embedded-debian12-amd64"),
        (["--list"], {"PYXIS_MATRIX_GROUP": "smok"}, "smoke"),
    ],
    ids=["unknown cell", "unknown group"],
)
def test_nox_says_why_nothing_is_selected(arguments: list[str], environ: dict[str, str], words: str) -> None:
    assert words in failed(nox(*arguments, environ=environ), 11)


def test_a_tag_that_selects_nothing_is_no_success() -> None:
    process = nox("--tags", "no-such-tag")
    assert process.end() != 0, process.output
