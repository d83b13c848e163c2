"""What is seen of a run: how far its cells have come, failures at once, and the same on every kind of output."""

from collections.abc import Callable
from datetime import UTC, datetime
import io
import json
from pathlib import Path
import re

import pytest
from rich.console import Console as RichConsole

from ci import paths
from ci.group import live, watching
from ci.group.watching import Expected, Watcher
from ci.record import progress, reportlog, store
from ci.terminal import console
from ci.terminal.mode import Mode
from tests.support import results

REAL = results.cell("22.05", "debian12", "3.4.1", "0.19.0")
CELL = REAL.id
SUITES = ("pyxis_basic", "registry")


class Cell:
    """Writes what a cell's process would."""

    def __init__(self, folder: Path) -> None:
        """Begin."""
        self.folder = folder / CELL
        self._log = progress.Log(self.folder / paths.PROGRESS_FILE)

    def phase(self, phase: str, suite: str = "", outcome: str = "") -> None:
        """Begin a phase, or end a suite."""
        self._log.add(phase, suite, outcome)

    def test(self, suite: str, name: str, outcome: str = "passed", message: str = "E  assert 1 == 2\nmore") -> None:
        """End a test."""
        path = self.folder / suite / store.REPORT_LOG_FILE
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for when in ("setup", "call", "teardown"):
                bad = when == "call" and outcome == "failed"
                report = {
                    "$report_type": "TestReport",
                    "nodeid": name,
                    "when": when,
                    "outcome": "failed" if bad else "passed",
                    "location": ["tests/integration/test_x.py", 41, name],
                    "longrepr": {"reprcrash": {"message": message}} if bad else None,
                }
                file.write(json.dumps(report) + "\n")

    def wrote(self, text: str) -> None:
        """Add to what the process wrote."""
        with (self.folder / paths.OUTPUT_FILE).open("a", encoding="utf-8") as file:
            file.write(text)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return Cell(tmp_path)


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    found = Watcher(tmp_path, {(CELL, "registry"): Expected(seconds=80.0, tests=90)})
    found.begin(CELL, SUITES)
    return found


# -- how far it has come --------------------------------------------------------------------------------------------


def test_phases_tests_and_outcomes_are_seen_as_they_come(cell: Cell, watcher: Watcher) -> None:
    state = watcher.states[CELL]
    assert watcher.look(CELL) == watching.News()
    cell.phase("launch")
    assert watcher.look(CELL).phases == (("launch", ""),)
    cell.phase("tests", "pyxis_basic")
    cell.wrote("collected 10 items / 3 deselected / 7 selected\n")
    cell.test("pyxis_basic", "a")
    watcher.look(CELL)
    assert (state.suite, len(state.tests), state.known) == ("pyxis_basic", 1, 7)
    cell.test("pyxis_basic", "b", "failed")
    cell.phase("ended", "pyxis_basic", "failed")
    cell.phase("tests", "registry")
    news = watcher.look(CELL)
    assert [(it.test, it.message, it.file, it.line) for it in news.failures] == [
        ("b", "E  assert 1 == 2", "tests/integration/test_x.py", 42)
    ]
    assert news.ended == (("pyxis_basic", "failed"),)
    assert state.outcomes == {"pyxis_basic": "failed"}
    assert state.bad
    cell.test("registry", "c")
    watcher.look(CELL)
    assert (len(state.tests), state.known) == (1, 90), "what an earlier run had, until pytest says it"
    cell.wrote("4 workers [12 items]\n")
    state.known = 0
    watcher.look(CELL)
    assert state.known == 12
    assert watcher.look(CELL) == watching.News(), "nothing is told twice"


def test_a_line_that_is_not_whole_is_read_when_it_is(cell: Cell, watcher: Watcher) -> None:
    cell.phase("tests", "pyxis_basic")
    cell.test("pyxis_basic", "a", "failed")
    log = cell.folder / "pyxis_basic" / store.REPORT_LOG_FILE
    whole = log.read_bytes()
    log.write_bytes(whole[:-400])
    assert watcher.look(CELL).failures == ()
    log.write_bytes(whole)
    assert len(watcher.look(CELL).failures) == 1


def test_a_message_has_nothing_that_a_terminal_obeys(cell: Cell, watcher: Watcher) -> None:
    cell.phase("tests", "pyxis_basic")
    cell.test("pyxis_basic", "a", "failed", "\x1b[2Jgone\x07")
    assert watcher.look(CELL).failures[0].message == r"\x1b[2Jgone\x07"


@pytest.mark.parametrize("kind", ["CollectReport", "TestReport"])
def test_a_failure_says_what_its_result_will_say(cell: Cell, watcher: Watcher, kind: str) -> None:
    """Not the first line of a traceback, and which phase it was that failed."""
    cell.phase("tests", "pyxis_basic")
    when = "setup" if kind == "TestReport" else None
    text = "tests/test_x.py:1: in <module>\n    import gone\nE   ModuleNotFoundError: no gone"
    longrepr = text if kind == "CollectReport" else {"reprcrash": {"message": "ModuleNotFoundError: no gone"}}
    report = {"$report_type": kind, "nodeid": "a", "outcome": "failed", "when": when, "longrepr": longrepr}
    log = cell.folder / "pyxis_basic" / store.REPORT_LOG_FILE
    log.parent.mkdir()
    log.write_text(json.dumps(report) + "\n")
    (test,) = reportlog.read(log).tests
    assert [it.message for it in watcher.look(CELL).failures] == [test.message]
    assert test.message == f"{when or 'collection'} failed: ModuleNotFoundError: no gone"


def test_what_is_expected_comes_from_earlier_runs(tmp_path: Path) -> None:
    for run, minute, seconds in (("old", 1, 10.0), ("new", 2, 20.0), ("now", 3, 99.0)):
        started = datetime(2026, 1, 1, 1, minute, tzinfo=UTC)  # gone by, at any hour of a day
        of = results.result(REAL, "registry", run=run, started=started, seconds=seconds, fingerprint="f")
        store.write(of, tmp_path / run / CELL / "registry" / store.RESULT_FILE)
    found = watching.expected(tmp_path, "now", CELL, SUITES)
    assert found == {(CELL, "registry"): Expected(seconds=20.0, tests=1)}
    watcher = Watcher(tmp_path, found)
    assert watcher.begin(CELL, ["registry"]).expected == 20.0
    assert watcher.begin(CELL, SUITES).expected == 0.0, "a guess from one of two suites would be too low"


# -- how it looks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "say", lines.append)
    return lines


Play = Callable[[live.Lines], None]


@pytest.fixture
def play(cell: Cell, watcher: Watcher) -> Play:
    """Return a function that shows a cell from begin to end."""

    def go(shown: live.Lines) -> None:
        with shown.shown():
            shown.begin(CELL)
            cell.phase("launch")
            cell.phase("tests", "pyxis_basic")
            cell.test("pyxis_basic", "a", "failed")
            cell.phase("ended", "pyxis_basic", "failed")
            cell.phase("tests", "registry")
            cell.test("registry", "b")
            cell.wrote("::error::not ours\nsection_end:1:x\n")
            shown.news(CELL, watcher.look(CELL))
            shown.tick()
            cell.phase("ended", "registry", "passed")
            shown.news(CELL, watcher.end(CELL))
            shown.end(watcher.states[CELL], 1)

    return go


def shown_as(tmp_path: Path, *, quiet: bool = False) -> live.Shown:
    return live.Shown(total=3, folder=tmp_path, quiet=quiet)


def test_lines_say_what_happens_and_failures_at_once(
    said: list[str], watcher: Watcher, play: Play, tmp_path: Path
) -> None:
    play(live.Lines(shown_as(tmp_path), watcher))
    assert [re.sub(r"\d+:\d\d", "TIME", line.removeprefix(f"{CELL}: ")) for line in said] == [
        "started",
        "launch",
        "pyxis_basic",
        "registry",
        "pyxis_basic failed: a: E  assert 1 == 2",
        "pyxis_basic failed",
        "registry passed",
        "pyxis_basic failed, registry passed, TIME (1 of 3 cells)",
    ]


def test_quiet_shows_only_what_went_wrong(said: list[str], watcher: Watcher, play: Play, tmp_path: Path) -> None:
    play(live.Lines(shown_as(tmp_path, quiet=True), watcher))
    assert len(said) == 3
    assert all("failed" in line for line in said)


def test_whoever_ends_it_is_told_what_it_waits_for(said: list[str], watcher: Watcher, tmp_path: Path) -> None:
    live.Lines(shown_as(tmp_path, quiet=True), watcher).ending()
    assert said == [f"ending; taken down first: {CELL}"]
    watcher.end(CELL)
    live.Lines(shown_as(tmp_path), watcher).ending()
    assert len(said) == 1, "nothing is up"


def test_silence_is_broken_now_and_then(
    said: list[str], watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = live.Lines(shown_as(tmp_path), watcher)
    shown.tick()
    assert said == []
    monkeypatch.setattr(live, "_EVERY_SECONDS", -1.0)
    shown.tick()
    assert said == [f"{CELL}: starting, 0:00"]


def test_images_that_are_waited_for_are_named(
    said: list[str], watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    showing = shown_as(tmp_path)
    showing.images = lambda: "cell2"
    monkeypatch.setattr(live, "_EVERY_SECONDS", -1.0)
    live.Lines(showing, watcher).tick()
    assert said[-1] == "cell2: images"
    stream = io.StringIO()
    terminal = RichConsole(file=stream, width=160, height=24)
    table = live.LiveTable(showing, watcher, terminal)
    with table.shown(), console.plain_lines(table.stream):
        console.warn("a file that nobody pinned")
        terminal.print(table)
    assert "0 of 3 cells · images of cell2 · 0:0" in stream.getvalue()
    assert "warning: a file that nobody pinned\n" in stream.getvalue(), "what a build says is not lost"


def test_github_has_groups_and_annotations_and_obeys_no_output(
    said: list[str], watcher: Watcher, play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(live.Sections(shown_as(tmp_path), watcher, Mode.GITHUB))
    first, group, stop, theirs, _, go_on, end = capsys.readouterr().err.splitlines()
    assert first == (
        f"::error file=tests/integration/test_x.py,line=42,title=pyxis_basic on {CELL}::a: E  assert 1 == 2"
    )
    assert (group, end) == (f"::group::{CELL}: what it wrote", "::endgroup::")
    assert stop.startswith("::stop-commands::")
    assert go_on == f"::{stop.removeprefix('::stop-commands::')}::"
    assert theirs == "::error::not ours"
    assert said


def test_gitlab_has_sections_and_obeys_no_output(
    said: list[str], watcher: Watcher, play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(live.Sections(shown_as(tmp_path), watcher, Mode.GITLAB))
    written = capsys.readouterr().err
    name = f"{CELL}_what_it_wrote"
    assert "\x1b[0Ksection_start:" in written
    assert f":{name}[collapsed=true]\r\x1b[0K{CELL}: what it wrote\n" in written
    assert written.count("section_end:") == 1
    assert "section_end 1:x" in written
    assert any("pyxis_basic failed: a" in line for line in said)


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("no_color", [False, True], ids=["colour", "NO_COLOR"])
def test_the_table_fits_any_width_and_needs_no_colour(
    *, cell: Cell, watcher: Watcher, tmp_path: Path, width: int, no_color: bool
) -> None:
    cell.phase("tests", "registry")
    cell.test("registry", "a", "failed")
    watcher.look(CELL)
    stream = io.StringIO()
    terminal = RichConsole(
        file=stream, width=width, height=24, force_terminal=True, no_color=no_color, color_system="standard"
    )
    table = live.LiveTable(shown_as(tmp_path), watcher, terminal)
    terminal.print(table)
    written = stream.getvalue()
    assert ("\x1b[1;31m" in written) is not no_color
    plain = io.StringIO()
    RichConsole(file=plain, width=width, height=24).print(table)
    lines = plain.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert CELL in plain.getvalue()
    assert "registry 1 of 90 tests, 1 failed" in plain.getvalue()
    assert "0 of 3 cells" in lines[0]


@pytest.mark.parametrize(("width", "more"), [(80, 44), (160, 36)])
def test_a_table_of_many_cells_leaves_room(watcher: Watcher, tmp_path: Path, width: int, more: int) -> None:
    for number in range(50):
        watcher.begin(f"cell{number}", SUITES)
    stream = io.StringIO()
    terminal = RichConsole(file=stream, width=width, height=24)
    terminal.print(live.LiveTable(shown_as(tmp_path), watcher, terminal))
    assert f"and {more} more" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) < 24


def test_what_ended_stays_above_the_table(watcher: Watcher, play: Play, tmp_path: Path) -> None:
    stream = io.StringIO()
    play(live.LiveTable(shown_as(tmp_path), watcher, RichConsole(file=stream, width=160, height=24)))
    assert f"✗ {CELL}  pyxis_basic failed, registry passed  0:00" in stream.getvalue()
    assert "pyxis_basic failed: a: E  assert 1 == 2" in stream.getvalue()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({"GITHUB_ACTIONS": "true"}, Mode.GITHUB), ({"GITLAB_CI": "true"}, Mode.GITLAB), ({"CI": "true"}, Mode.PLAIN)],
    ids=["github", "gitlab", "another"],
)
def test_where_it_runs_is_told_by_the_environment(environ: dict[str, str], expected: Mode) -> None:
    assert Mode.of(environ, io.StringIO()) == expected


def test_what_fits_the_output_is_chosen(watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    assert type(live.display(shown_as(tmp_path), watcher)) is live.Lines
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert type(live.display(shown_as(tmp_path), watcher)) is live.LiveTable
    monkeypatch.setenv("TERM", "dumb")
    assert type(live.display(shown_as(tmp_path), watcher)) is live.Lines
    monkeypatch.setenv("GITLAB_CI", "true")
    assert type(live.display(shown_as(tmp_path), watcher)) is live.Sections
