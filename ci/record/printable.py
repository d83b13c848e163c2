"""Text of anybody's as a terminal and a CI's log may have it: nothing in it steers them."""

import os
from pathlib import Path
import re

# GitHub's runner takes `::error::…` for a command behind blanks at a line's begin, and `##[error]…` anywhere in a line
# (src/Runner.Common/ActionCommand.cs in actions/runner). Azure Pipelines has `##vso[task.complete]…`.
_COMMAND = re.compile(r"^\s*(?=::)|#(?=#(?:vso)?\[)")


def printable(text: str) -> str:
    r"""Return a text in one line that is no command of a CI, with what can't be printed as it is typed: ``\x1b``."""
    line = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    # Within a command's sign: a backslash in front of `##[` would leave it one.
    return _COMMAND.sub(r"\g<0>\\", line)


def printable_lines(text: str) -> str:
    """Return a text of several lines, of which none is a command of a CI."""
    return "\n".join(map(printable, text.split("\n")))


def printable_path(path: Path | str) -> str:
    """Return a path as text: the names in it may hold any byte but a slash."""
    return printable(os.fsencode(path).decode(errors="replace"))
