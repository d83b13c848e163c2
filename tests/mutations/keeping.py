"""The rows of a run in a file: a later call with the same run goes on where one ended, and the table is of both."""

from collections.abc import Iterable, Sequence
import json
from pathlib import Path

from tests.mutations.judging import Colour, Row, Verdict
from tests.mutations.mutations import MUTATIONS


def load(path: Path) -> list[Row]:
    """Return the rows that a file holds, of mutations that there still are; none if there is no file."""
    if not path.exists():
        return []
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [
        Row(
            mutation=mutation,
            verdicts=tuple(Verdict(**{**it, "colour": Colour(it["colour"])}) for it in kept[mutation.name]),
        )
        for mutation in MUTATIONS
        if mutation.name in kept
    ]


def save(path: Path, rows: Iterable[Row]) -> None:
    """Write rows into a file."""
    kept = {row.mutation.name: [vars(verdict) for verdict in row.verdicts] for row in rows}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def joined(rows: Sequence[Row], new: Row) -> list[Row]:
    """Return the rows with one more, in the order of the mutations; what it says of a suite takes the older's place."""
    by_name = {row.mutation.name: row for row in rows}
    old = by_name.get(new.mutation.name)
    verdicts = {verdict.suite: verdict for row in (old, new) if row for verdict in row.verdicts}
    by_name[new.mutation.name] = Row(mutation=new.mutation, verdicts=tuple(verdicts.values()))
    return [by_name[mutation.name] for mutation in MUTATIONS if mutation.name in by_name]
