"""hyperfine itself runs the sides in turns, and keeps each turn as soon as it has ended."""

from pathlib import Path
import shutil

import pytest

from tests.bench.__main__ import measure
from tests.bench.table import Comparison, load

pytestmark = pytest.mark.skipif(
    not shutil.which("hyperfine"), reason="hyperfine was not found: apt-get install hyperfine"
)
# What each command leaves in one file says when it was run, and what it found in its environment.
SIDES = {side: f'echo "{side} $SIDE" >> $FOLDER/said' for side in ("ours", "other")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder like that of a cell's comparisons."""
    found = tmp_path / "run/cell/bench"
    found.mkdir(parents=True)
    return found


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text(encoding="utf-8").splitlines()


def compare(folder: Path, **commands: str) -> None:
    comparison = Comparison(
        name="start",
        goal=0.5,
        setup="echo setup >> $FOLDER/said",
        prepare="echo for $SIDE >> $FOLDER/said",
        cleanup="echo cleanup >> $FOLDER/said",
        ours_command=commands.get("ours", SIDES["ours"]),
        other_command=commands.get("other", SIDES["other"]),
    )
    measure(comparison, {"FOLDER": str(folder)}, times=2)


def test_the_sides_take_turns_each_prepared(folder: Path) -> None:
    compare(folder)
    turn = ["for other", "other other", "for ours", "ours ours"]
    assert said(folder) == ["setup", *turn, *turn, "cleanup"]
    figures = load(folder.parents[1])["start"]
    assert (len(figures.of("ours")), len(figures.of("other")), figures.cell) == (2, 2, "cell")


def test_a_side_that_fails_ends_it_and_leaves_no_figures(folder: Path) -> None:
    compare(folder, ours="exit 3")
    assert said(folder) == ["setup", "for other", "other other", "for ours", "cleanup"]
    figures = load(folder.parents[1])["start"]
    assert (figures.results, figures.ratio) == ([], None)
    assert "non-zero exit code: 3" in figures.failed
