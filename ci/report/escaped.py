"""Text of tests and machines as Markdown: it stays text, whatever it would mean there."""

import re

_LONGEST = 400
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~!#])")


def text(text: str) -> str:
    """Return text as text, whatever it would mean in Markdown or HTML."""
    flat = _flat(text)
    return _SPECIAL.sub(r"\\\1", flat[:_LONGEST] + (" […]" if len(flat) > _LONGEST else "")).replace("\\<", "&lt;")


def code(text: str) -> str:
    """Return text as code; a backtick in it would end that."""
    flat = _flat(text).replace("`", "'").replace("|", "\\|")
    return f"`{flat[:_LONGEST]}`" if flat else "``"


def _flat(text: str) -> str:
    """Return text as one line, without what a terminal would act upon."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
