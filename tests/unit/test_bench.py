"""Comparisons with doubles: the turns, the ratio, the table, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
import json
import os
from pathlib import Path
import re
from typing import Any

import msgspec
import pytest

from ci import paths
from ci.artefacts import sources
from ci.errors import NotRunError, ResultsError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.suites import SUITES
from ci.options import Options
from ci.terminal import console
from ci.terminal.processes import Completed
from ci.terminal.signals import Interrupted
from tests.bench import __main__ as program
from tests.bench.__main__ import go, measure, select, variables
from tests.bench.sides import note_first
from tests.bench.table import Comparison, Figures, Turn, comparisons, load, text
from tests.support.rows import SAMPLE

MATRIX = loading.load(SAMPLE)
EMBEDDED = next(it for it in MATRIX.cells("embedded", Arch.host()))
FAST = Comparison(
    name="fast",
    goal=0.5,
    ours_command="do this",
    other_command="do that",
    setup="begin",
    prepare="make ready",
    cleanup="end",
)


class Bash:
    """Stands for bash and hyperfine, which say when they were started."""

    def __init__(self, folder: Path) -> None:
        """Take no time."""
        self.run = folder
        self.folder = folder / "cell" / "bench"
        self.folder.mkdir(parents=True)
        self.taken: list[str] = []
        self.seconds: list[float] = []
        self.fails = 0
        self.given = {"FOLDER": str(self.folder)}

    def call(self, words: Sequence[str], **_more: Any) -> Completed:  # noqa: ANN401 - not looked at
        """Run one; hyperfine as far as there are seconds, and until it fails."""
        if words[0] == "bash":
            self.taken.append(words[-1])
            return Completed(command=tuple(words), exit_code=int(len(self.taken) == self.fails), output="it broke")
        export = Path(words[words.index("--export-json") + 1])
        turns = []
        for place in [at for at, word in enumerate(words) if word == "--command-name"]:
            side, option, prepare, command = words[place + 1 : place + 5]
            assert (option, prepare) == ("--prepare", f"export SIDE={side}\nmake ready")
            self.taken.append(command.removeprefix(f"export SIDE={side}\n"))
            if len(self.taken) == self.fails:
                return Completed(command=tuple(words), exit_code=1, output="it broke")
            if not self.seconds:
                raise Interrupted(2)
            turns.append({"command": side, "mean": 1.0, "times": [self.seconds.pop(0)]})
            export.write_text(json.dumps({"results": turns}), encoding="utf-8")
        return Completed(command=tuple(words), exit_code=0, output="")

    def measure(self, comparison: Comparison = FAST, times: int = 1) -> Figures:
        """Make a comparison."""
        measure(comparison, self.given, times=times)
        return load(self.run, [comparison])[comparison.name]


def figures(ours: Sequence[float], other: Sequence[float] = (), *, cell: str = "cell") -> Figures:
    """Return what was measured, turn by turn."""
    sides = (("ours", ours), ("other", other))
    turns = [Turn(command=side, times=[seconds]) for side, values in sides for seconds in values]
    return Figures(results=turns, cell=cell)


@pytest.fixture
def bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bash:
    stand_in = Bash(tmp_path)
    monkeypatch.setattr(console, "call", stand_in.call)
    return stand_in


# -- measuring ------------------------------------------------------------------------------------------------------


def test_the_sides_take_turns(bash: Bash) -> None:
    bash.seconds = [10.0, 4.0, 20.0, 5.0]
    measured = bash.measure(times=2)
    assert (measured.of("ours"), measured.of("other")) == ([4.0, 5.0], [10.0, 20.0])
    assert bash.taken == ["begin", "do that", "do this", "do that", "do this", "end"]


def test_what_both_measure_on_their_way_is_a_row_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "cell/bench/first-answer.json"
    file.parent.mkdir(parents=True)
    for side, seconds in (("other", 2.5), ("ours", 3.5)):
        note_first(file, side, seconds)
    assert load(tmp_path)["first-answer"].ratio == 1.4
    assert "| first-answer | ≤ 0.3 | **1.40: missed** |" in text("", load(tmp_path))


def test_what_is_measured_on_the_way_fails_with_it(bash: Bash) -> None:
    (whole,) = (it for it in comparisons() if it.name == "whole-group")
    note_first(bash.folder / "first-answer.json", "ours", 1.0)
    bash.fails = 1
    measure(whole, bash.given, times=1)
    assert {name: of.failed[:6] for name, of in load(bash.run).items()} == {
        "whole-group": "failed",
        "first-answer": "failed",
    }


def test_the_ratio_is_that_of_the_middles() -> None:
    measured = figures([1.0, 2.0, 9.0], [4.0, 8.0, 4.0])
    assert measured.ratio == 0.5
    assert measured.cells(0.5)[:2] == ["0.50", "0.25 to 2.25"]
    assert (measured.met(0.5), measured.met(0.4)) == (True, False)


def test_without_turns_nothing_is_claimed() -> None:
    assert (figures([1.0]).ratio, figures([1.0]).met(1.0)) == (None, None)


@pytest.mark.parametrize("fails", [1, 2, 5], ids=["setup", "the first side", "a later turn"])
def test_a_side_that_fails_leaves_no_figures(bash: Bash, fails: int) -> None:
    bash.seconds, bash.fails = [10.0, 4.0, 10.0, 4.0], fails
    measured = bash.measure(times=2)
    assert measured.results == []
    assert measured.failed.startswith("failed: ")
    assert "it broke" in measured.failed
    assert bash.taken[-1] == "end"


# -- the table ------------------------------------------------------------------------------------------------------


def test_the_table_has_every_comparison_and_invents_none() -> None:
    every = tuple(msgspec.structs.replace(FAST, name=name) for name in ("one", "two", "three"))
    measured = {"one": figures([1.0, 1.2], [4.0, 4.0]), "two": figures([3.0], [4.0])}
    assert text("Run run, 2026-11-27, on 2 cores.", measured, every).splitlines() == [
        "Run run, 2026-11-27, on 2 cores.",
        "",
        "| comparison | goal | ratio | turn by turn | seconds of ours | seconds of the other | turns |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| one | ≤ 0.5 | 0.28 | 0.25 to 0.30 | 1.1 (1.0 to 1.2) | 4.0 (4.0 to 4.0) | 2 |",
        "| two | ≤ 0.5 | **0.75: missed** |  | 3.0 | 4.0 | 1 |",
        "| three | ≤ 0.5 | not run |  |  |  |  |",
        "",
        "- one: on cell",
        "- two: on cell",
    ]


def test_a_reason_stands_below_the_table() -> None:
    measured = {"fast": Figures(results=[], failed="failed: it broke\n  next: try")}
    assert text("", measured, (FAST,)).endswith("- fast: not run: failed: it broke next: try\n")


def test_calls_of_one_run_fill_one_table_and_the_newest_of_a_name_counts(tmp_path: Path) -> None:
    assert load(tmp_path) == {}
    for age, (cell, name, seconds) in enumerate((("b", "start", 1.0), ("a", "start", 2.0), ("b", "harness", 3.0))):
        file = tmp_path / cell / "bench" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(figures([seconds], [4.0])))
        os.utime(file, (age, age))
    assert load(tmp_path) == {
        "start": figures([2.0], [4.0], cell="a"),
        "harness": figures([3.0], [4.0], cell="b"),
    }


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"results": {}}', '{"results": [{"command": "ours"}]}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "cell/bench/start.json"
    file.parent.mkdir(parents=True)
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ResultsError, match="the figures of start are invalid"):
        load(tmp_path)


# -- how it ends ----------------------------------------------------------------------------------------------------

START = msgspec.structs.replace(FAST, name="start")


@pytest.mark.parametrize(("seconds", "code"), [([10.0, 5.0], 0), ([10.0, 6.0], 1)])
def test_the_exit_code_says_whether_the_goals_are_met(
    bash: Bash, seconds: list[float], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bash.seconds = list(seconds)
    assert go([START], "", bash.given, times=1) == code
    assert load(bash.run)["start"].of("ours") == [seconds[1]]
    assert "| workers | ≤ 0.4 | not run |" in capsys.readouterr().out


def test_what_failed_is_no_success(bash: Bash) -> None:
    bash.fails = 1
    assert go([START], "", bash.given, times=1) == 1


def test_an_interruption_keeps_the_turns_so_far(bash: Bash, capsys: pytest.CaptureFixture[str]) -> None:
    bash.seconds = [10.0, 4.0]
    with pytest.raises(Interrupted):
        go([START], "", bash.given, times=2)
    assert load(bash.run)["start"].of("ours") == [4.0]
    assert "| start | ≤ 0.35 | **0.40: missed** |" in capsys.readouterr().out
    assert bash.taken[-1] == "end"


# -- which, and how --------------------------------------------------------------------------------------------------


def test_the_list_is_sound() -> None:
    assert all(it.times >= 1 and 0 < it.goal < 2 for it in comparisons())
    assert all(bool(it.measured_with) != bool(it.ours_command and it.other_command) for it in comparisons())
    page = (paths.REPOSITORY / "docs/performance.md").read_text(encoding="utf-8")
    described = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert [it.name for it in comparisons() if f"≤ {it.goal:g} |" not in described.get(it.name, "")] == []
    assert described.keys() == {it.name for it in comparisons()}


def test_every_variable_of_a_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "missing", lambda _cell, _where: None)
    given = variables(EMBEDDED, MATRIX, Options(run="r", results=tmp_path))
    fitting = [it.name for it in SUITES.values() if it.default and not it.unfit(EMBEDDED, MATRIX.subject)]
    assert given["SUITE_WORDS"] == " ".join(f"--suite {name}" for name in fitting)
    assert given["SUITE"] == fitting[0]
    compiled = given["COMPILED_CELLS"].split()
    assert (len(compiled) or 6, given["VARIANT_CELLS"], given["SECOND"] != "") == (6, "", True), "no embedded variants"
    for it in comparisons():
        for command in (it.setup, it.prepare, it.cleanup, it.ours_command, it.other_command):
            named = set(re.findall(r"\$\{?([A-Z][A-Z_]*)", command))
            assert named - given.keys() - {"SIDE", "CONF"} == set(), it.name


def test_comparisons_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert select([]) == comparisons()
    assert [it.name for it in select(["workers", "start"])] == ["start", "workers"]
    assert [it.name for it in select(["whole-group"])] == ["whole-group", "first-answer"]
    assert program.main(["strat"]) == SelectionError.exit_code
    assert "there is no comparison 'strat'; there are layers, start," in capsys.readouterr().err


def test_a_busy_machine_is_refused_or_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)  # no more than that is tried
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for load_of_now, words, said in (
        (2.0, [], "hyperfine was not found"),
        (2.1, [], "this machine is busy, and figures of it say nothing"),
        (2.1, ["--busy"], "warning: this machine is busy, and figures of it say nothing (load 2.1, 2 cores)"),
    ):
        monkeypatch.setattr("os.getloadavg", lambda load_of_now=load_of_now: (load_of_now, 0.0, 0.0))
        assert program.main(words) == NotRunError.exit_code
        assert said in (error := capsys.readouterr().err)
        assert ("hyperfine was not found" in error) is (said != "this machine is busy, and figures of it say nothing")


def test_a_comparison_says_which_cells_it_is_for() -> None:
    legacy = replace(EMBEDDED, runtime=Runtime.LEGACY)
    assert FAST.unfit(EMBEDDED) == ""
    assert "it needs a cell of the runtime embedded or nvidia" in FAST.unfit(legacy)
