"""``report.html``: the report as one page that needs no other file and no network.

The grid and the lists are in the page's text, made by the template. What the details of a cell need lies in it as JSON,
a piece per cell, and is read only when the cell is opened: so a page of thousands of cells opens like one of ten.
"""

import base64
from collections import Counter
from collections.abc import Iterator
import hashlib
from pathlib import Path
import re
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup, escape

from ci import templates
from ci.report import grid, overview
from ci.report.answers_table import AXES, Answers
from ci.report.behaviours import MARKED
from ci.report.model import Compat, Location, Merged, State
from ci.report.page_data import PageData, as_json, key, more, slug
from ci.report.words import ANSWER_KINDS, ANSWERS, CONTRADICTIONS, LOOKS, advice, described, mark, marks, sentence
from ci.terminal.quantities import count

NAME = "html"
FILE = "report.html"

_ASSETS = Path(__file__).parent / "assets"
_CODE = re.compile(r"`([^`]+)`")
_ISSUE = re.compile(r"([\w.-]+/[\w.-]+)#(\d+)")


def pieces(merged: Merged) -> Iterator[str]:
    """Yield the page."""
    yield as_html(merged)


def as_html(merged: Merged, *, live: str = "") -> str:
    """Return the page.

    :param live: a text that stands for this state of the results, where a server tells the page of newer ones.
    """
    compat = merged.compat
    # One function around both scripts: they share names, and the window has none of them.
    css, js = _asset("report.css"), f"(() => {{\n'use strict';\n{_asset('answers.js')}{_asset('report.js')}}})();"
    data, answers = PageData(merged), Answers(compat)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            compat=compat,
            live=live,
            css=Markup(css),  # noqa: S704 - our own files
            js=Markup(js),  # noqa: S704
            policy=_policy(css, js),
            signs={state.value: sign for state, (sign, _) in LOOKS.items()},
            sentence=sentence,
            contradictions_title=CONTRADICTIONS,
            described=described,
            issue_address=issue_address,
            tables=grid.tables(compat),
            more=more,
            changed={cell.id: data.changed.get(cell.id) for cell in compat.cells},
            numbers={cell.id: number for number, cell in enumerate(compat.cells)},
            gap_key=key,
            gap_numbers={gap: number for number, gap in enumerate(compat.gaps)},
            shown_runs=[run for run in compat.runs if run.shown],
            change_counts=Counter(change.kind.value for change in compat.changes.items).items()
            if compat.changes
            else (),
            changed_cells=sum(bool(change) for change in data.changed.values()),
            marked=[(key, kind, seen) for key, kind in MARKED.items() if (seen := overview.answers(compat, kind))],
            flaky_cells=sum(any(suite.flaky for suite in cell.suites) for cell in compat.cells),
            states=_states(compat),
            choices=_choices(compat),
            causes=overview.causes(compat),
            known=overview.known_failures(compat),
            mark=mark,
            marks=marks,
            answer_signs=ANSWERS,
            answer_kinds=ANSWER_KINDS,
            advice=advice,
            count=count,
            answers=answers,
            axes=AXES,
            phases=overview.phases(compat),
            index=as_json(data.index()),
            details=list(data.details()),  # before what they share is told
            shared=as_json(data.shared()),
            answered=as_json(answers.data()),
        )
    )


def issue_address(text: str) -> str:
    """Return where an upstream issue is to be read; nothing for text that names none."""
    if found := _ISSUE.fullmatch(text):
        return f"https://github.com/{found[1]}/issues/{found[2]}"
    # No javascript: address, and nothing that ends the attribute.
    return text if re.fullmatch(r"https?://[^\s\"'<>]+", text) else ""


def _states(compat: Compat) -> list[str]:
    """Return the states to filter by: those of cells, and those that only a single suite is in."""
    found = {suite.state for _, suite in compat.results()} | {cell.state for cell in compat.cells}
    return [state.value for state in State if state in found or (state is State.NOT_RUN and compat.gaps)]


def _choices(compat: Compat) -> list[tuple[str, list[str]]]:
    """Return the filters that have something to choose from."""
    places = [Location.of(cell) for cell in compat.cells]
    found = {"Suite": list(dict.fromkeys(suite.suite for _, suite in compat.results()))}
    for axis in ("slurm", "os", "enroot", "pyxis", "arch"):
        found[AXES[axis]] = sorted({getattr(place, axis) for place in places} - {""}, key=grid.natural)
    return [(name, values) for name, values in found.items() if len(values) > 1]


def _policy(css: str, js: str) -> str:
    """Return what the page may do: run its own script and style, and ask the server that it came from."""

    # By checksums, since a file has no server that could send a nonce: a script that gets into the page does not run.
    def sha(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {sha(js)}; style-src {sha(css)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def coded(text: str) -> Markup:
    """Return text in which what stands between backticks is shown as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it was escaped


def _environment() -> Environment:
    environment = templates.environment(_ASSETS, html=True)
    environment.filters["slug"] = slug
    environment.filters["coded"] = coded
    environment.filters["urlencode"] = lambda pairs: "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs.items()
    )
    return environment
