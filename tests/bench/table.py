"""What comparisons are, what they came to, and the table of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
import statistics
import tomllib

import msgspec

from ci.errors import ResultsError
from ci.matrix.cells import Cell
from tests.support.figures import spread, table

_FILE = Path(__file__).with_name("comparisons.toml")
_NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two ways to the same end; see comparisons.toml for the fields."""

    name: str
    goal: float
    ours: str
    other: str
    ours_command: str
    other_command: str
    setup: str = "true"
    prepare: str = "true"
    cleanup: str = "true"
    times: int = 3
    runtimes: Sequence[str] = ("nvidia", "embedded")
    part: str = ""
    """The name of a row for what both sides measure on their way."""
    part_goal: float = 0.0

    def unfit(self, cell: Cell) -> str:
        """Return why it can't be made on a cell; empty if it can."""
        if cell.runtime in self.runtimes:
            return ""
        return f"it needs a cell of the runtime {' or '.join(sorted(self.runtimes))} (--cell)"


def comparisons(file: Path = _FILE) -> tuple[Comparison, ...]:
    """Return all comparisons, in the order of the file."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(
        Comparison(name=name, **{key.replace("-", "_"): value for key, value in its.items()})
        for name, its in found.items()
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a comparison came to."""

    name: str
    cell: str = ""
    ours: tuple[float, ...] = ()
    """Seconds of each turn."""
    other: tuple[float, ...] = ()
    load: float = 0.0
    """The machine's load when it began."""
    why_not: str = ""
    """Why there are no figures."""

    def plus(self, side: str, seconds: float) -> "Row":
        """Return it with a further measurement of a side."""
        if side == "ours":
            return replace(self, ours=(*self.ours, round(seconds, 3)))
        return replace(self, other=(*self.other, round(seconds, 3)))

    @property
    def ratio(self) -> float | None:
        """The middle of ours through the middle of the other; None where nothing was measured."""
        if not (self.ours and self.other):
            return None
        return statistics.median(self.ours) / statistics.median(self.other)

    def met(self, goal: float) -> bool | None:
        """Tell whether the goal is met; None where nothing was measured."""
        return None if self.ratio is None else self.ratio <= goal

    def cells(self, goal: float) -> list[str]:
        """Return the cells of its line."""
        if self.ratio is None:
            return [self.name, f"≤ {goal:g}", _NOT_RUN, "", "", "", ""]
        ratio = f"{self.ratio:.2f}" if self.met(goal) else f"**{self.ratio:.2f}: missed**"
        each = spread([mine / theirs for mine, theirs in zip(self.ours, self.other, strict=False)])
        turns = f"{each.least:.2f} to {each.most:.2f}" if each.count > 1 else ""
        return [self.name, f"≤ {goal:g}", ratio, turns, _middle(self.ours), _middle(self.other), str(len(self.ours))]

    @property
    def note(self) -> str:
        """The line below the table."""
        what = f"{_NOT_RUN}: {' '.join(self.why_not.split())}" if self.why_not else ""
        return f"- {self.name}: {what or f'on {self.cell}, load {self.load:g} when it began'}"


def _middle(seconds: Sequence[float]) -> str:
    of = spread(seconds)
    return f"{of.median:.1f}" + (f" ({of.least:.1f} to {of.most:.1f})" if of.count > 1 else "")


@dataclass(kw_only=True)
class Table:
    """The figures of a run, and their file, to which later calls of the same run add."""

    run: str
    machine: str
    date: str
    path: Path
    rows: Mapping[str, Row]

    def put(self, row: Row) -> None:
        """Keep a row, in the file as well, so that an interruption costs only what it met."""
        self.rows = {**self.rows, row.name: row}
        ratios = {name: it.ratio for name, it in self.rows.items()}
        figures = {"run": self.run, "machine": self.machine, "date": self.date, "ratios": ratios, "rows": self.rows}
        draft = self.path.with_name(f".{self.path.name}")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
        draft.replace(self.path)

    def text(self, of: Sequence[Comparison]) -> str:
        """Return the figures in Markdown: what was not measured says so."""
        head = ["comparison", "goal", "ratio", "turn by turn", "seconds of ours", "seconds of the other", "turns"]
        goals = {name: goal for it in of for name, goal in ((it.name, it.goal), (it.part, it.part_goal)) if name}
        lines = [self.rows.get(name, Row(name=name)).cells(goal) for name, goal in goals.items()]
        notes = [self.rows[name].note for name in goals if name in self.rows]
        text = [f"Run {self.run}, {self.date}, on {self.machine}.", "", table(head, lines), *notes]
        return "\n".join(text).rstrip() + "\n"


def load(path: Path) -> dict[str, Row]:
    """Return the rows that a file holds; none if there is no file.

    :raises ResultsError: if it is not one of this program.
    """
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept).rows
    except (OSError, msgspec.MsgspecError) as error:
        raise ResultsError(
            "the figures of this run are invalid",
            where=str(path),
            why=str(error),
            next_step="remove the file, or leave --run out to begin a run of its own",
        ) from error


class _Kept(msgspec.Struct):
    """What of a file is read again."""

    rows: dict[str, Row]
