"""Text of anybody's as a terminal and a CI's log may have it: nothing in it steers them."""

import os
from pathlib import Path
import re

# What GitHub Actions and Azure Pipelines take for a command, wherever in a line's blanks it begins.
_COMMAND = re.compile(r"^(\s*)(::|##)", re.MULTILINE)


def printable(text: str) -> str:
    r"""Return a text in one line, with what can't be printed as it would be typed: ``\x1b``."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, of which none is a command of a CI."""
    return _COMMAND.sub(r"\1\\\2", "\n".join(map(printable, text.split("\n"))))


def printable_path(path: Path | str) -> str:
    """Return a path as text: the names in it may hold any byte but a slash."""
    return printable(os.fsencode(path).decode(errors="replace"))
