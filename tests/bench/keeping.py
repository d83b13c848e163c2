"""The figures of a run in a file, to which later calls of the same run add, and the table of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path

from ci.errors import ResultsError
from tests.bench.measuring import Comparison, Row
from tests.support.figures import Spread, spread, table

NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures of a run."""

    run: str
    machine: str
    date: str
    rows: Mapping[str, Row]
    """By the name of the comparison."""


def load(path: Path) -> dict[str, Row]:
    """Return the rows that a file holds; none if there is no file.

    :raises ResultsError: if it is not one of this program.
    """
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["rows"]
        rows = [Row(**{**it, "ours": tuple(it["ours"]), "other": tuple(it["other"])}) for it in kept.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            "the figures of this run are invalid",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            next_step="remove the file, or leave --run out to begin a run of its own",
        ) from error
    return {row.name: row for row in rows}


def save(path: Path, figures: Figures) -> None:
    """Write them, so that a killed process leaves the last whole file."""
    draft = path.with_name(f".{path.name}")
    ratios = {name: row.ratio for name, row in figures.rows.items()}
    draft.write_text(json.dumps({"schema": 1, "ratios": ratios, **asdict(figures)}, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def text(figures: Figures, comparisons: Sequence[Comparison]) -> str:
    """Return the figures in Markdown: what was not measured says so."""
    head = ["comparison", "goal", "ratio", "turn by turn", "seconds of ours", "seconds of the other", "turns"]
    rows = [_line(it, figures.rows.get(it.name, Row(name=it.name))) for it in comparisons]
    lines = [f"Run {figures.run}, {figures.date}, on {figures.machine}.", "", table(head, rows)]
    lines += _notes(figures.rows[it.name] for it in comparisons if it.name in figures.rows)
    return "\n".join(lines).rstrip() + "\n"


def _line(it: Comparison, row: Row) -> list[str]:
    goal = f"≤ {it.goal:g}"
    if row.ratio is None or row.ratios is None:
        return [it.name, goal, NOT_RUN, "", "", "", ""]
    ratio = f"{row.ratio:.2f}" if row.met(it.goal) else f"**{row.ratio:.2f}: missed**"
    turns = str(len(row.ours))
    return [it.name, goal, ratio, _spread(row.ratios), _middle(spread(row.ours)), _middle(spread(row.other)), turns]


def _middle(of: Spread) -> str:
    return f"{of.median:.1f}" + (f" ({of.least:.1f} to {of.most:.1f})" if of.count > 1 else "")


def _spread(of: Spread) -> str:
    return f"{of.least:.2f} to {of.most:.2f}" if of.count > 1 else ""


def _notes(rows: Iterable[Row]) -> list[str]:
    notes = []
    for row in rows:
        if row.why_not:
            notes.append(f"- {row.name}: {NOT_RUN}: {' '.join(row.why_not.split())}")
        else:
            notes.append(f"- {row.name}: on {row.cell}, load {row.load:g} when it began")
    return notes
