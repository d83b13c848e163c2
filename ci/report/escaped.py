"""Text of tests and machines as Markdown: it stays text, whatever it would mean there."""

import re

_LONGEST = 400  # characters; all of it is in the result
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~!#])")


def text(text: str) -> str:
    """Return the beginning of a text as text, whatever it would mean in Markdown or HTML."""
    return whole(cut(_flat(text)))


def whole(text: str) -> str:
    """Return all of a text as text."""
    return _SPECIAL.sub(r"\\\1", _flat(text)).replace("\\<", "&lt;")


def cut(text: str) -> str:
    """Return the beginning of what may be a page long, such as the message of a test."""
    return text[:_LONGEST] + (" […]" if len(text) > _LONGEST else "")


def code(text: str) -> str:
    """Return text as code; a backtick in it would end that."""
    # In code a backslash is itself, so a backtick can't be escaped. Only a | can: tables end a box at it in code, too.
    flat = _flat(text).replace("`", "'").replace("|", "\\|")
    return f"`{flat[:_LONGEST]}`" if flat else "``"


def _flat(text: str) -> str:
    """Return text as one line, without what a terminal would act upon."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
