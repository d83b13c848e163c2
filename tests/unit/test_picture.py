"""The picture of a terminal: what a command printed, and nothing that a reader's browser would fetch."""

import json
from pathlib import Path
import re
from xml.etree import ElementTree as ET

from tests.picture.__main__ import drawn

DOCS = Path(__file__).resolve().parents[2] / "docs"
SAID = "\x1b[33m≈ known failure\x1b[0m  CELL\n" + "a line that is too long for it\n" + "third\nfourth\n"


def words(picture: str) -> str:
    """Return its text, with plain blanks."""
    return " ".join(" ".join(ET.fromstring(picture).itertext()).split())  # noqa: S314 - drawn here


def test_it_shows_the_first_lines_and_says_how_many_are_left() -> None:
    picture = drawn(SAID, "nox -s ci -- report", 24, 2)
    shown = words(picture)
    assert "nox -s ci -- report" in shown
    assert "≈ known failure" in shown
    assert "a line that is too long…" in shown
    assert "third" not in shown
    assert "… and 2 more lines" in shown
    assert "more lines" not in words(drawn(SAID, "t", 24, 4))


def test_nothing_is_fetched_for_it() -> None:
    for picture in (drawn(SAID, "t", 24, 2), (DOCS / "terminal.svg").read_text(encoding="utf-8")):
        assert not re.search(r"url\(|href|@import|@font-face", picture.replace("url(#terminal-", ""))


def test_the_readmes_is_of_the_results_that_come_with_it() -> None:
    shown = words((DOCS / "terminal.svg").read_text(encoding="utf-8"))
    found = json.loads((DOCS / "compat/compat.json").read_text(encoding="utf-8"))
    cells = [cell for cell in found["cells"] if cell["suites"]]
    # It has the first lines: of the last cell in it perhaps not all.
    whole = [cell for cell in cells if cell["id"] in shown][: -1 if "more lines" in shown else None]
    assert whole
    assert whole == cells[: len(whole)]
    # Else: nox -s picture -- docs/terminal.svg -- report docs/compat
    assert [
        suite for cell in whole for suite in cell["suites"] if f"{suite['counts']['passed']} passed" not in shown
    ] == []
