"""Comparisons with doubles: the turns, the ratio, the table, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
import re
from typing import Any

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
from tests.bench.__main__ import check_load, go, measure, select, suites_of, variables
from tests.bench.sides import packages_of
from tests.bench.table import Comparison, Row, Table, comparisons, load
from tests.support.rows import SAMPLE

MATRIX = loading.load(SAMPLE)
EMBEDDED = next(it for it in MATRIX.cells("embedded", Arch.host()))
FAST = Comparison(
    name="fast",
    goal=0.5,
    ours="this",
    other="that",
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
        self.folder = folder
        self.taken: list[str] = []
        self.seconds: list[float] = []
        self.fails = 0
        self.given = {"FOLDER": str(folder)}
        self.table = Table(run="run", machine="2 cores", date="2026-11-27", path=folder / "bench.json", rows={})

    def call(self, words: Sequence[str], *, env: dict[str, str], **_more: Any) -> Completed:  # noqa: ANN401 - not looked at
        """Run one."""
        self.taken.append(words[-1])
        if words[0] == "hyperfine":
            if not self.seconds:
                raise Interrupted(2)
            assert words[words.index("--prepare") + 1] == "make ready"
            assert env["SIDE"] == {"do this": "ours", "do that": "other"}[words[-1]]
            result = {"results": [{"times": [self.seconds.pop(0)]}]}
            Path(words[words.index("--export-json") + 1]).write_text(json.dumps(result), encoding="utf-8")
            (self.folder / f"part-{env['SIDE']}").write_text(f"{len(self.taken)}.5\n", encoding="utf-8")
        return Completed(command=tuple(words), exit_code=int(len(self.taken) == self.fails), output="it broke")

    def measure(self, it: Comparison = FAST, times: int = 1) -> list[Row]:
        """Make a comparison."""
        return measure(it, EMBEDDED, self.table, self.given, times=times)


@pytest.fixture
def bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bash:
    made = Bash(tmp_path)
    monkeypatch.setattr(console, "call", made.call)
    monkeypatch.setattr("os.getloadavg", lambda: (0.256, 0.0, 0.0))
    return made


# -- measuring ------------------------------------------------------------------------------------------------------


def test_the_sides_take_turns(bash: Bash) -> None:
    bash.seconds = [10.0, 4.0, 20.0, 5.0]
    assert bash.measure(times=2) == [Row(name="fast", cell=EMBEDDED.id, ours=(4.0, 5.0), other=(10.0, 20.0), load=0.26)]
    assert bash.taken == ["begin", "do that", "do this", "do that", "do this", "end"]


def test_what_both_measure_on_their_way_is_a_row_of_its_own(bash: Bash) -> None:
    bash.seconds = [10.0, 4.0]
    whole, part = bash.measure(replace(FAST, part="first", part_goal=0.3))
    assert (whole.name, whole.ours, part.name, part.ours, part.other) == ("fast", (4.0,), "first", (3.5,), (2.5,))
    assert bash.table.rows == {"fast": whole, "first": part}
    assert "| first | ≤ 0.3 | **1.40: missed** |" in bash.table.text([replace(FAST, part="first", part_goal=0.3)])


def test_the_ratio_is_that_of_the_middles() -> None:
    row = Row(name="fast", ours=(1.0, 2.0, 9.0), other=(4.0, 8.0, 4.0))
    assert row.ratio == 0.5
    assert row.cells(0.5)[2:4] == ["0.50", "0.25 to 2.25"]
    assert (row.met(0.5), row.met(0.4)) == (True, False)


def test_without_turns_nothing_is_claimed() -> None:
    row = Row(name="fast", ours=(1.0,))
    assert (row.ratio, row.met(1.0)) == (None, None)


@pytest.mark.parametrize("fails", [1, 2, 5], ids=["setup", "the first side", "a later turn"])
def test_a_side_that_fails_leaves_no_figures(bash: Bash, fails: int) -> None:
    bash.seconds, bash.fails = [10.0, 4.0, 10.0, 4.0], fails
    (row,) = bash.measure(times=2)
    assert (row.ours, row.other) == ((), ())
    assert row.why_not.startswith("failed: ")
    assert "it broke" in row.why_not
    assert bash.taken[-1] == "end"


# -- the table ------------------------------------------------------------------------------------------------------


def test_the_table_has_every_comparison_and_invents_none(bash: Bash) -> None:
    every = [replace(FAST, name=name) for name in ("one", "two", "three")]
    rows = {
        "one": Row(name="one", cell="cell", ours=(1.0, 1.2), other=(4.0, 4.0), load=0.3),
        "two": Row(name="two", cell="cell", ours=(3.0,), other=(4.0,), load=1.0),
    }
    bash.table.rows = rows
    assert bash.table.text(every).splitlines() == [
        "Run run, 2026-11-27, on 2 cores.",
        "",
        "| comparison | goal | ratio | turn by turn | seconds of ours | seconds of the other | turns |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| one | ≤ 0.5 | 0.28 | 0.25 to 0.30 | 1.1 (1.0 to 1.2) | 4.0 (4.0 to 4.0) | 2 |",
        "| two | ≤ 0.5 | **0.75: missed** |  | 3.0 | 4.0 | 1 |",
        "| three | ≤ 0.5 | not run |  |  |  |  |",
        "",
        "- one: on cell, load 0.3 when it began",
        "- two: on cell, load 1 when it began",
    ]


def test_a_reason_stands_below_the_table(bash: Bash) -> None:
    bash.table.put(Row(name="fast", why_not="failed: it broke\n  next: try"))
    assert bash.table.text([FAST]).endswith("- fast: not run: failed: it broke next: try\n")


def test_calls_of_one_run_fill_one_table(bash: Bash) -> None:
    path = bash.table.path
    assert load(path) == {}
    bash.table.put(Row(name="one", ours=(1.0,), other=(2.0,)))
    replace(bash.table, rows=load(path)).put(Row(name="two", why_not="no"))
    assert load(path) == {
        "one": Row(name="one", ours=(1.0,), other=(2.0,)),
        "two": Row(name="two", why_not="no"),
    }


@pytest.mark.parametrize("text", ["", "[]", '{"rows": []}', '{"rows": {"a": {"name": 1}}}', '{"rows": {"a": 1}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match="the figures of this run are invalid"):
        load(path)


# -- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "code"), [([10.0, 5.0], 0), ([10.0, 6.0], 1)])
def test_the_exit_code_says_whether_the_goals_are_met(
    bash: Bash, seconds: list[float], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bash.seconds = list(seconds)
    assert go([FAST], EMBEDDED, bash.table, bash.given, times=1, write=False) == code
    assert bash.table.rows["fast"].ours == (seconds[1],)
    assert "| workers | ≤ 0.4 | not run |" in capsys.readouterr().out


def test_what_failed_is_no_success(bash: Bash) -> None:
    bash.fails = 1
    assert go([FAST], EMBEDDED, bash.table, bash.given, times=1, write=False) == 1


def test_an_interruption_keeps_the_turns_so_far(bash: Bash, capsys: pytest.CaptureFixture[str]) -> None:
    bash.seconds = [10.0, 4.0]
    with pytest.raises(Interrupted):
        go([replace(FAST, name="start")], EMBEDDED, bash.table, bash.given, times=2, write=True)
    assert load(bash.table.path)["start"].ours == (4.0,)
    assert "| start | ≤ 0.35 | **0.40: missed** |" in capsys.readouterr().out
    assert bash.taken[-1] == "end"


def test_what_does_not_fit_the_cell_says_so_and_keeps_earlier_figures(bash: Bash) -> None:
    layers, table = select(["layers"]), bash.table
    assert go(layers, EMBEDDED, table, bash.given, times=1, write=False) == 0
    assert "needs a cell of the runtime nvidia" in table.rows["layers"].why_not
    table.put(Row(name="layers", ours=(1.0,), other=(4.0,)))
    go(layers, EMBEDDED, table, bash.given, times=1, write=False)
    assert table.rows["layers"].ratio == 0.25


# -- what is asked --------------------------------------------------------------------------------------------------


def test_the_list_is_sound() -> None:
    assert all(it.ours and it.other and it.times >= 1 and 0 < it.goal < 2 for it in comparisons())
    goals = {it.name: it.goal for it in comparisons()} | {it.part: it.part_goal for it in comparisons() if it.part}
    page = (paths.REPOSITORY / "docs/performance.md").read_text(encoding="utf-8")
    described = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert [name for name, goal in goals.items() if f"≤ {goal:g}" not in described.get(name, "")] == []
    assert described.keys() == goals.keys()


def test_every_variable_of_a_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "missing", lambda _cell, _where: None)
    suites = suites_of(EMBEDDED, MATRIX, [])
    given = variables(EMBEDDED, MATRIX, Options(run="r", results=tmp_path), suites, 2)
    assert len(given["COMPILED_CELLS"].split()) == 2
    assert (given["VARIANT_CELLS"], given["SECOND"] != "") == ("", True), "an embedded cell has no variants"
    for it in comparisons():
        for command in (it.setup, it.prepare, it.cleanup, it.ours_command, it.other_command):
            named = set(re.findall(r"\$\{?([A-Z][A-Z_]*)", command))
            assert named - given.keys() - {"SIDE", "CONF"} == set(), it.name


def test_comparisons_are_chosen_by_name() -> None:
    assert select([]) == comparisons()
    assert [it.name for it in select(["venv", "start"])] == ["start", "venv"]
    with pytest.raises(SelectionError, match="there is no comparison 'strat'; did you mean 'start'"):
        select(["strat"])


def test_suites_are_those_of_a_group_or_the_ones_named() -> None:
    usual = [it.name for it in suites_of(EMBEDDED, MATRIX, [])]
    assert usual == [it.name for it in SUITES.values() if it.default and not it.unfit(EMBEDDED, MATRIX.subject)]
    assert [it.name for it in suites_of(EMBEDDED, MATRIX, ["registry"])] == ["registry"]
    with pytest.raises(SelectionError, match="legacy_integration: it is for legacy cells"):
        suites_of(EMBEDDED, MATRIX, ["registry", "legacy_integration"])


def test_a_busy_machine_is_refused_or_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    check_load(2.0, 2, busy=False, write=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(NotRunError, match="this machine is busy"):
        check_load(2.1, 2, busy=False, write=False)
    check_load(2.1, 2, busy=True, write=False)
    assert "these figures are none" in capsys.readouterr().err
    with pytest.raises(SelectionError, match="--busy cannot be used with --write"):
        check_load(0.0, 2, busy=True, write=True)


def test_the_command_line_says_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [it.name for it in comparisons()]
    assert program.main(["nonsense"]) == SelectionError.exit_code


# -- what the sides are made of -------------------------------------------------------------------------------------


def test_a_session_is_measured_with_the_packages_that_it_has() -> None:
    packages = packages_of(MATRIX.subject, paths.REPOSITORY / "pyproject.toml")
    assert MATRIX.subject.requirement in packages.requirements
    assert [it for it in packages.requirements if it.startswith(("docker", "pytest-xdist"))]
    assert packages.constraints == MATRIX.subject.constraints


def test_a_comparison_says_which_cells_it_is_for() -> None:
    legacy = replace(EMBEDDED, runtime=Runtime.LEGACY)
    assert FAST.unfit(EMBEDDED) == ""
    assert "it needs a cell of the runtime embedded or nvidia" in FAST.unfit(legacy)
