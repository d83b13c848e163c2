"""What comparisons are, what hyperfine measured of them, and the table of that."""

from collections.abc import Mapping, Sequence
from pathlib import Path
import statistics
import tomllib

import msgspec

from ci.errors import ResultsError
from ci.matrix.cells import Cell
from tests.support.figures import spread, table

_FILE = Path(__file__).with_name("comparisons.toml")


class Comparison(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """Two ways to the same end; see comparisons.toml for the fields."""

    name: str
    goal: float
    ours_command: str = ""
    other_command: str = ""
    setup: str = "true"
    prepare: str = "true"
    cleanup: str = "true"
    times: int = 1
    runtimes: tuple[str, ...] = ("nvidia", "embedded")
    measured_with: str = ""
    """The comparison whose commands measure this one on their way."""

    def unfit(self, cell: Cell) -> str:
        """Return why it can't be made on a cell; empty if it can."""
        if cell.runtime in self.runtimes:
            return ""
        return f"it needs a cell of the runtime {' or '.join(sorted(self.runtimes))} (--cell)"

    def hyperfine(self, times: int, export: Path) -> list[str]:
        """Return hyperfine's command line. Each turn is a command of its own to it, which it runs once.

        Several runs of one command would follow each other, and what the machine does meanwhile has to meet both sides.
        """
        words = ["hyperfine", "--runs", "1", "--shell", "bash", "--show-output", "--export-json", str(export)]
        for side, command in (("other", self.other_command), ("ours", self.ours_command)) * times:
            both = (f"export SIDE={side}\n{line}" for line in (self.prepare, command))
            words += ["--command-name", side, "--prepare", *both]
        return words


def comparisons(file: Path = _FILE) -> tuple[Comparison, ...]:
    """Return all comparisons, in the order of the file."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    return msgspec.convert([{"name": name, **keys} for name, keys in found.items()], tuple[Comparison, ...])


class Turn(msgspec.Struct):
    """One run of a side's command."""

    command: str
    """The side: ours, other."""
    times: list[float]
    """Seconds; hyperfine has a list of them, here of one."""


class Figures(msgspec.Struct, kw_only=True):
    """What a comparison came to: the file that hyperfine exports."""

    results: list[Turn]
    failed: str = ""
    """Why there are no turns."""
    cell: str = ""

    def of(self, side: str) -> list[float]:
        """Return the seconds of each turn of a side."""
        return [seconds for turn in self.results if turn.command == side for seconds in turn.times]

    @property
    def ratio(self) -> float | None:
        """The middle of ours through the middle of the other; None where nothing was measured."""
        ours, other = self.of("ours"), self.of("other")
        return statistics.median(ours) / statistics.median(other) if ours and other else None

    def met(self, goal: float) -> bool | None:
        """Tell whether the goal is met; None where nothing was measured."""
        return None if self.ratio is None else self.ratio <= goal

    def cells(self, goal: float) -> list[str]:
        """Return what its line has of figures."""
        if self.ratio is None:
            return ["not run", "", "", "", ""]
        ours, other = self.of("ours"), self.of("other")
        each = spread([mine / theirs for mine, theirs in zip(ours, other, strict=False)])
        return [
            f"{self.ratio:.2f}" if self.met(goal) else f"**{self.ratio:.2f}: missed**",
            f"{each.least:.2f} to {each.most:.2f}" if each.count > 1 else "",
            _middle(ours),
            _middle(other),
            str(len(ours)),
        ]


def _middle(seconds: list[float]) -> str:
    of = spread(seconds)
    return f"{of.median:.1f}" + (f" ({of.least:.1f} to {of.most:.1f})" if of.count > 1 else "")


def text(head: str, figures: Mapping[str, Figures], every: Sequence[Comparison] = comparisons()) -> str:
    """Return the figures in Markdown: what was not measured says so."""
    titles = ["comparison", "goal", "ratio", "turn by turn", "seconds of ours", "seconds of the other", "turns"]
    nothing = Figures(results=[])
    lines = [[it.name, f"≤ {it.goal:g}", *figures.get(it.name, nothing).cells(it.goal)] for it in every]
    notes = [
        f"- {it.name}: " + (f"not run: {' '.join(of.failed.split())}" if of.failed else f"on {of.cell}")
        for it in every
        if (of := figures.get(it.name))
    ]
    return "\n".join([head, "", table(titles, lines), *notes]).rstrip() + "\n"


def load(run: Path, every: Sequence[Comparison] = comparisons()) -> dict[str, Figures]:
    """Return the figures in a run's folder by comparison; of a comparison on several cells, the newest.

    :raises ResultsError: if a file is not one of hyperfine's.
    """
    figures = {}
    for comparison in every:
        for file in sorted(run.glob(f"*/bench/{comparison.name}.json"), key=lambda path: path.stat().st_mtime):
            try:
                figures[comparison.name] = msgspec.json.decode(file.read_bytes(), type=Figures)
            except (OSError, msgspec.MsgspecError) as error:
                what, again = f"the figures of {comparison.name} are invalid", "remove the file, or leave --run out"
                raise ResultsError(what, where=str(file), why=str(error), next_step=again) from error
            figures[comparison.name].cell = file.parts[-3]
    return figures
