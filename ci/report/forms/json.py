"""``compat.json``: the model itself, for other programs and for the next report."""

from collections.abc import Iterator

import msgspec

from ci.report.model import COMPAT_FILE, Merged

NAME = "json"
FILE = COMPAT_FILE


def pieces(merged: Merged) -> Iterator[str]:
    """Yield the report as programs read it."""
    yield msgspec.json.format(msgspec.json.encode(merged.compat), indent=1).decode() + "\n"
