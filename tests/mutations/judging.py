"""What a suite made of a mutation, and the table of all of them; pure but for reading pytest's report log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
import json
from pathlib import Path
import re

from ci.record import reportlog
from ci.record.outcomes import Outcome
from tests.mutations.mutation import CONTROL, Mutation

_LONGEST = 160


class Colour(StrEnum):
    """What a suite came to, as an answer to a mutation."""

    GREEN = "green"
    RED = "red"
    OTHER = "red for another reason"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One suite on one mutation."""

    suite: str
    colour: Colour
    test: str = ""
    """The first failing one; empty where the session itself is what is wrong."""
    why: str = ""
    """The line that has the mutation's words; the first line where none has."""

    def __str__(self) -> str:
        """Return it as it stands in the table."""
        name = self.test.rpartition("/")[2]
        return f"{self.colour.value}: {name or self.why}" if self.colour is not Colour.GREEN else self.colour.value


@dataclass(frozen=True, kw_only=True)
class Row:
    """All suites on one mutation."""

    mutation: Mutation
    verdicts: tuple[Verdict, ...]

    @property
    def problem(self) -> str:
        """What this row says against the suites; empty if nothing."""
        colours = {verdict.colour for verdict in self.verdicts}
        if self.mutation.name == CONTROL:
            return "" if colours == {Colour.GREEN} else "red, though nothing was changed: the other rows prove nothing"
        if Colour.RED in colours:
            return ""
        if Colour.OTHER in colours:
            return f"nothing noticed: no red suite says {self.mutation.says!r}"
        return "nothing noticed"


def judge(mutation: Mutation, suite: str, log: Path, exit_code: int) -> Verdict:
    """Read what pytest left, as a session does, and hold it against what the mutation has to make it say."""
    seen = reportlog.read(log)
    outcome = seen.outcome(exit_code)
    if outcome is Outcome.PASSED:
        return Verdict(suite=suite, colour=Colour.GREEN)
    first = next((test for test in seen.tests if test.outcome.red), None)
    if first and not seen.problem:
        name, said = first.name, [first.message, *_sections(log, first.name)]
    else:
        name, said = "", [seen.reason(exit_code) or outcome.value]
    # What root ran for a test ("# install --owner=munge") is no answer of anything.
    lines = [line.strip() for text in said for line in text.splitlines() if line.strip() and line[:2] != "# "]
    recognised = next((line for line in lines if re.search(mutation.says, line)), None)
    if recognised is None or outcome not in mutation.outcomes:
        return Verdict(suite=suite, colour=Colour.OTHER, test=name, why=_short(next(iter(lines), "")))
    return Verdict(suite=suite, colour=Colour.RED, test=name, why=_short(recognised))


def _sections(log: Path, test: str) -> Iterable[str]:
    """Return what was captured during a test: the commands that it ran, with their answers."""
    for line in log.read_bytes().splitlines():
        report = json.loads(line)
        if report.get("nodeid") == test:
            yield from (text for _, text in report.get("sections") or ())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def table(rows: Sequence[Row], suites: Sequence[str]) -> str:
    """Return the rows as a table in Markdown, and below it what is wrong and why each suite is red."""
    head = ["mutation", *suites]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        by_suite = {verdict.suite: str(verdict) for verdict in row.verdicts}
        name = f"**{row.mutation.name}: {row.problem}**" if row.problem else row.mutation.name
        lines.append(_line([name, *(by_suite.get(suite, "-") for suite in suites)]))
    lines.append("")
    for row in rows:
        lines += [
            f"- {row.mutation.name}, {verdict.suite}: {verdict.why}"
            for verdict in row.verdicts
            if verdict.colour is not Colour.GREEN
        ]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |"
