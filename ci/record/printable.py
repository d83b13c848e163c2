"""Text of anybody's as a terminal and a CI's log may have it: nothing in it steers them."""

import os
from pathlib import Path
import re

import msgspec

from ci.record.store import Result

# What GitHub Actions and Azure Pipelines take for a command, wherever in a line's blanks it begins.
_COMMAND = re.compile(r"^(\s*)(::|##)", re.MULTILINE)
_WITH_LINES = frozenset({"reason", "message"})
"""What a result has of several lines; in all else a line break is none of ours."""


def printable(text: str) -> str:
    r"""Return a text in one line, with what can't be printed as it would be typed: ``\x1b``."""
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, of which none is a command of a CI."""
    return _COMMAND.sub(r"\1\\\2", "\n".join(map(printable, text.split("\n"))))


def printable_path(path: Path | str) -> str:
    """Return a path as text: the names in it may hold any byte but a slash."""
    return printable(os.fsencode(path).decode(errors="replace"))


def printable_result(result: Result) -> Result:
    """Return a result whose texts can all be printed."""
    return msgspec.convert(_cleaned(msgspec.to_builtins(result)), Result)


def _cleaned(value: object, *, lines: bool = False) -> object:
    match value:
        case str():
            return printable_lines(value) if lines else printable(value)
        case dict():
            return {printable(key): _cleaned(it, lines=key in _WITH_LINES) for key, it in value.items()}
        case list() | tuple():
            return [_cleaned(it) for it in value]
        case _:
            return value
