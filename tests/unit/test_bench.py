"""Comparisons with doubles: the turns, the ratio, the table, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ci import paths
from ci.errors import LaunchError, NotRunError, ResultsError, SelectionError
from ci.images.plan import ImagePlan, images_of
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.suites import SUITES
from ci.terminal.signals import Interrupted
from tests.bench import __main__ as program
from tests.bench import keeping
from tests.bench.__main__ import Table, check_load, go, select, suites_of
from tests.bench.building import upon
from tests.bench.comparisons import COMPARISONS
from tests.bench.installing import packages_of
from tests.bench.keeping import Figures
from tests.bench.measuring import Bench, Comparison, Row, Sides, comparison, measure, timed
from tests.support.rows import SAMPLE

MATRIX = loading.load(SAMPLE)
EMBEDDED = next(it for it in MATRIX.cells("embedded", Arch.host()))
BENCH = cast("Bench", SimpleNamespace(cell=EMBEDDED))
FIGURES = Figures(run="run", machine="2 cores", date="2026-11-27", rows={})


class _Recorder:
    """A comparison whose sides say when they were taken."""

    def __init__(self, *seconds: float) -> None:
        self.taken: list[str] = []
        self._seconds = iter(seconds)
        self.fails = 0
        self.made = comparison("fast", goal=0.5, ours="this", other="that")(self._sides)

    def _sides(self, _bench: Bench) -> Iterator[Sides]:
        self.taken.append("begin")
        yield Sides(ours=lambda: self._take("ours"), other=lambda: self._take("other"))
        self.taken.append("end")

    def _take(self, side: str) -> float:
        self.taken.append(side)
        if len(self.taken) == self.fails:
            raise LaunchError("it broke", next_step="try")
        return next(self._seconds)


# -- measuring ------------------------------------------------------------------------------------------------------


def test_the_sides_take_turns() -> None:
    recorder = _Recorder(10.0, 4.0, 20.0, 5.0)
    seen: list[Row] = []
    row = measure(recorder.made, BENCH, times=2, load=0.256, told=seen.append)
    assert recorder.taken == ["begin", "other", "ours", "other", "ours", "end"]
    assert row == Row(name="fast", cell=EMBEDDED.id, ours=(4.0, 5.0), other=(10.0, 20.0), load=0.26)
    assert [len(it.ours) for it in seen] == [1, 2]


def test_the_ratio_is_that_of_the_middles() -> None:
    row = Row(name="fast", ours=(1.0, 2.0, 9.0), other=(4.0, 8.0, 4.0))
    assert row.ratio == 0.5
    assert row.ratios
    assert (row.ratios.least, row.ratios.most) == (0.25, 2.25)
    assert (row.met(0.5), row.met(0.4)) == (True, False)


def test_without_turns_nothing_is_claimed() -> None:
    row = Row(name="fast", ours=(1.0,))
    assert (row.ratio, row.ratios, row.met(1.0)) == (None, None, None)


def test_a_side_that_fails_leaves_no_figures() -> None:
    recorder = _Recorder(10.0, 4.0)
    recorder.fails = 4
    row = measure(recorder.made, BENCH, times=3, load=0.0)
    assert (row.ours, row.other) == ((), ())
    assert row.why_not.startswith("failed: it broke")


def test_seconds_are_those_of_the_clock() -> None:
    assert timed(lambda: None, clock=iter([3.0, 5.5]).__next__) == 2.5


# -- the table ------------------------------------------------------------------------------------------------------


def test_the_table_has_every_comparison_and_invents_none() -> None:
    one, two, three = (replace(_Recorder().made, name=name) for name in ("one", "two", "three"))
    rows = {
        "one": Row(name="one", cell="cell", ours=(1.0, 1.2), other=(4.0, 4.0), load=0.3),
        "two": Row(name="two", cell="cell", ours=(3.0,), other=(4.0,), load=1.0),
    }
    assert keeping.text(replace(FIGURES, rows=rows), [one, two, three]).splitlines() == [
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


def test_a_reason_stands_below_the_table() -> None:
    rows = {"fast": Row(name="fast", why_not="failed: it broke\n  next: try")}
    assert keeping.text(replace(FIGURES, rows=rows), [_Recorder().made]).endswith(
        "- fast: not run: failed: it broke next: try\n"
    )


def test_calls_of_one_run_fill_one_table(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert keeping.load(path) == {}
    first = Table(FIGURES, path)
    first.put(Row(name="one", ours=(1.0,), other=(2.0,)))
    second = Table(replace(FIGURES, rows=keeping.load(path)), path)
    second.put(Row(name="two", why_not="no"))
    assert keeping.load(path) == {
        "one": Row(name="one", ours=(1.0,), other=(2.0,)),
        "two": Row(name="two", why_not="no"),
    }


@pytest.mark.parametrize("text", ["", "[]", '{"rows": []}', '{"rows": {"a": {"name": "a"}}}', '{"rows": {"a": 1}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match="the figures of this run are invalid"):
        keeping.load(path)


# -- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "code"), [((10.0, 5.0), 0), ((10.0, 6.0), 1)])
def test_the_exit_code_says_whether_the_goals_are_met(
    tmp_path: Path, seconds: tuple[float, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(FIGURES, tmp_path / "bench.json")
    recorder = _Recorder(*seconds)
    assert go([recorder.made], BENCH, table, times=1, write=False) == code
    assert table.figures.rows["fast"].ours == seconds[1:]
    assert "| workers | ≤ 0.4 | not run |" in capsys.readouterr().out


def test_what_failed_is_no_success(tmp_path: Path) -> None:
    recorder = _Recorder()
    recorder.fails = 2
    assert go([recorder.made], BENCH, Table(FIGURES, tmp_path / "bench.json"), times=1, write=False) == 1


def test_an_interruption_keeps_the_turns_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = iter([10.0, 4.0])

    def sides(_bench: Bench) -> Iterator[Sides]:
        def take() -> float:
            for it in calls:
                return it
            raise Interrupted(2)

        yield Sides(ours=take, other=take)

    interrupted = comparison("start", goal=0.5, ours="", other="")(sides)
    path = tmp_path / "bench.json"
    with pytest.raises(Interrupted):
        go([interrupted], BENCH, Table(FIGURES, path), times=2, write=True)
    assert keeping.load(path)["start"].ours == (4.0,)
    assert "| start | ≤ 0.3 | **0.40: missed** |" in capsys.readouterr().out


def test_what_does_not_fit_the_cell_says_so_and_keeps_earlier_figures(tmp_path: Path) -> None:
    (layers,) = select(["layers"])
    table = Table(FIGURES, tmp_path / "bench.json")
    assert go([layers], BENCH, table, times=1, write=False) == 0
    assert "needs a cell of the runtime nvidia" in table.figures.rows["layers"].why_not
    table.put(Row(name="layers", ours=(1.0,), other=(4.0,)))
    go([layers], BENCH, table, times=1, write=False)
    assert table.figures.rows["layers"].ratio == 0.25


# -- what is asked --------------------------------------------------------------------------------------------------


def test_the_list_is_sound() -> None:
    names = [it.name for it in COMPARISONS]
    assert len(set(names)) == len(names) == 8
    assert all(it.ours and it.other and it.times >= 1 and 0 < it.goal < 2 for it in COMPARISONS)
    page = (paths.REPOSITORY / "docs/performance.md").read_text(encoding="utf-8")
    described = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert [it.name for it in COMPARISONS if f"≤ {it.goal:g}" not in described.get(it.name, "")] == []


def test_comparisons_are_chosen_by_name() -> None:
    assert select([]) == COMPARISONS
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
    with pytest.raises(SelectionError, match="--busy goes without --write"):
        check_load(0.0, 2, busy=True, write=True)


def test_the_command_line_says_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [it.name for it in COMPARISONS]
    assert program.main(["nonsense"]) == SelectionError.exit_code


# -- what the sides are made of -------------------------------------------------------------------------------------


def test_an_image_upon_another_base_shares_nothing_with_its_like() -> None:
    images = images_of(EMBEDDED, MATRIX.subject, None, accounting=False, environ={})
    fresh = ImagePlan(folder="base", variant="fresh", arch=EMBEDDED.arch)
    moved = list(upon(images.node, fresh).family())
    before = list(images.node.family())
    assert [it.folder for it in moved] == [it.folder for it in before]
    assert moved[0] == fresh
    assert [it for it in moved if it in before] == []


def test_a_session_is_measured_with_the_packages_that_it_has() -> None:
    packages = packages_of(MATRIX.subject, paths.REPOSITORY / "pyproject.toml")
    assert MATRIX.subject.requirement in packages.requirements
    assert [it for it in packages.requirements if it.startswith(("docker", "pytest-xdist"))]
    assert packages.constraints == MATRIX.subject.constraints


def test_a_comparison_says_which_cells_it_is_for() -> None:
    legacy = replace(EMBEDDED, runtime=Runtime.LEGACY)
    made: Comparison = _Recorder().made
    assert made.unfit(EMBEDDED) == ""
    assert "it needs a cell of the runtime embedded or nvidia" in made.unfit(legacy)
