"""``compat.md``: a report as GitHub-flavoured Markdown, for a job's summary or a wiki."""

import re

from ci.record.outcomes import TestState
from ci.report import grid
from ci.report.compat import RED, CellReport, ChangeKind, Compat, State, SuiteReport
from ci.report.words import CONTRADICTIONS, SIGNS, counted_tests, first_line, reruns, sentence, told, tried_again

# GitHub's summary of a job holds one MiB; a grid of five thousand cells takes a fifth of it.
_MOST = 200
"""As many entries of a list are written; the rest is counted."""
_LONGEST = 400
_FEW, _TESTS = 5, 10
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~!#])")


def as_markdown(compat: Compat) -> str:
    """Return the report; links are relative to its folder."""
    lines = ["# Container jobs on Slurm", "", f"**{sentence(compat.verdicts)}.**", ""]
    lines += [
        f"Made {compat.made:%Y-%m-%d %H:%M} UTC of {_runs(compat)}"
        + "".join(f"; subject {_text(subject)}" for subject in compat.subjects)
        + ".",
        "",
    ]
    lines += _changes(compat) + _grid(compat)
    red = [(cell, suite) for cell, suite in compat.results() if suite.state in RED]
    lines += _section("What went wrong", [_red(cell, suite) for cell, suite in red])
    lines += _section(
        CONTRADICTIONS,
        [
            f"- {_code(it.cell)} {_text(it.suite)} of run {_code(it.run)}: {_text(it.what)}"
            for it in compat.contradictions
        ],
    )
    lines += _section("Known failures", _known(compat))
    lines += _section("Passed at a further try", _tried_again(compat))
    lines += _section("Flaky: passed and failed, and nothing was changed", _flaky(compat))
    lines += _section("Not run", _not_run(compat))
    lines += _section(
        "Not finished (running, or killed)",
        [f"- {_code(it.cell)} {_text(it.suite)} of run {_code(it.run)}, {it.tests} tests" for it in compat.unfinished],
    )
    lines += _section("Could not be read", [f"- {_code(it.where)}: {_text(it.what)}" for it in compat.problems])
    return "\n".join(lines)


def _runs(compat: Compat) -> str:
    shown = [run for run in compat.runs if run.shown]
    names = ", ".join(_code(run.id) for run in shown[:_FEW]) + (
        f" and {len(shown) - _FEW} more" if len(shown) > _FEW else ""
    )
    return f"{'run' if len(shown) == 1 else 'the runs'} {names}" if shown else "no results"


def _grid(compat: Compat) -> list[str]:
    lines = []
    for table in grid.tables(compat):
        title = f"{table.title}, {table.arch}" if table.arch else table.title
        lines += [f"## {_text(title)}" + (f" ({table.remark})" if table.remark else ""), ""]
        heads = [f"enroot {_text(it[0])}<br>Pyxis {_text(it[1])}" if it[1] else _text(it[0]) for it in table.columns]
        lines += ["| Slurm | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for row in table.rows:
            boxes = [
                "<br>".join(_box(cell) for cell in box.cells) or f"{SIGNS[State.NOT_RUN]} not run" for box in row.boxes
            ]
            lines.append(f"| **{_text(row.slurm)}** {_text(row.os)} | " + " | ".join(boxes) + " |")
        lines.append("")
    return lines


def _box(cell: CellReport) -> str:
    red = sum(suite.state in RED for suite in cell.suites)
    more = f" ({red} of {len(cell.suites)} suites)" if red else ""
    return f"{SIGNS[cell.state]} {cell.state}{more}"


def _changes(compat: Compat) -> list[str]:
    if compat.changes is None:
        return []
    title = f"Changed since {compat.changes.since:%Y-%m-%d %H:%M} UTC"
    items = [f"- {it.kind}: {_code(it.cell)} {_text(it.suite)}{_text(told(it))}" for it in compat.changes.items]
    new = [it for it in compat.changes.items if it.kind is ChangeKind.NEW]
    if len(new) == len(items) and items:
        items = [f"- {len(new)} suites are new, nothing else changed"]
    return _section(title, items) or [f"## {title}", "", "Nothing.", ""]


def _red(cell: CellReport, suite: SuiteReport) -> str:
    where = f" ([files]({suite.folder}))" if suite.folder else ""
    lines = [f"- {_code(cell.id)} **{_text(suite.suite)}**: {suite.state}, {counted_tests(suite)}{where}"]
    if suite.reason:
        lines.append(f"  - {_text(suite.reason)}")
    red = [test for test in suite.tests if test.outcome in {TestState.FAILED, TestState.ERROR, TestState.INTERRUPTED}]
    for test in red[:_TESTS]:
        again = f" (after {reruns(test.reruns)})" if test.reruns else ""
        lines.append(f"  - {_code(test.name)}{again}: {_text(first_line(test.message) or 'no message')}")
    if len(red) > _TESTS:
        lines.append(f"  - and {len(red) - _TESTS} more tests")
    return "\n".join([*lines, f"  - again: {_code(suite.again)}"])


def _known(compat: Compat) -> list[str]:
    at: dict[tuple[str, str], set[str]] = {}
    for cell, suite in compat.results():
        for test in suite.tests:
            if test.outcome is TestState.XFAILED:
                at.setdefault((test.name, first_line(test.message)), set()).add(cell.id)
    return [
        f"- {_code(name)}: {_text(reason)}, on {len(cells)} cell{'s' if len(cells) > 1 else ''}"
        for (name, reason), cells in at.items()
    ]


def _tried_again(compat: Compat) -> list[str]:
    return [
        f"- {_code(cell.id)} {_text(suite.suite)}: {_text(tried_again(test.name, test.reruns, test.message))}"
        for cell, suite in compat.results()
        for test in suite.tests
        if test.reruns and test.outcome is TestState.PASSED
    ]


def _flaky(compat: Compat) -> list[str]:
    return [f"- {_code(cell.id)} {_text(suite.suite)}" for cell, suite in compat.results() if suite.flaky]


def _not_run(compat: Compat) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for cell, suite in compat.results():
        if suite.state is State.NOT_RUN:
            reasons.setdefault(suite.reason or counted_tests(suite), []).append(
                f"{_code(cell.id)} {_text(suite.suite)}"
            )
    for cell in compat.cells:
        for name, reason in cell.missing.items():
            reasons.setdefault(reason, []).append(f"{_code(cell.id)} {_text(name)}")
    for gap in compat.gaps:
        reason = gap.reason + (f" ({gap.issue})" if gap.issue else "")
        versions = f"enroot {gap.enroot}, pyxis {gap.pyxis}" if gap.pyxis else gap.runtime
        name = f"slurm {gap.slurm}, {versions}, {gap.os}, {gap.arch}"
        reasons.setdefault(reason, []).append(_code(gap.id) if gap.id else _text(name))
    return [
        f"- {_text(reason)}: {', '.join(of[:_FEW])}" + (f" and {len(of) - _FEW} more" if len(of) > _FEW else "")
        for reason, of in reasons.items()
    ]


def _section(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"- and {len(items) - _MOST} more"] if len(items) > _MOST else []
    return [f"## {title}", "", *items[:_MOST], *more, ""]


def _text(text: str) -> str:
    """Return text of tests and machines as text, whatever it would mean in Markdown or HTML."""
    flat = _flat(text)
    return _SPECIAL.sub(r"\\\1", flat[:_LONGEST] + (" […]" if len(flat) > _LONGEST else "")).replace("\\<", "&lt;")


def _code(text: str) -> str:
    """Return text as code; a backtick in it would end that."""
    flat = _flat(text).replace("`", "'").replace("|", "\\|")
    return f"`{flat[:_LONGEST]}`" if flat else "``"


def _flat(text: str) -> str:
    """Return text as one line, without what a terminal would act upon."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
