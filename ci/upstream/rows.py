"""Adds rows to matrix.toml, and leaves everything else in it as people wrote it."""

import tomllib

from packaging.version import Version
import tomlkit

from ci.errors import MatrixError
from ci.matrix.tables import header
from ci.upstream.news import NewRelease

_OF_THE_SERIES = ("supported-until",)
"""Keys that hold for a series; a row of another series does not take them over."""
_OF_THE_RELEASE = ("untried",)  # nobody knows of a new release whether it was tried


def with_row(text: str, new: NewRelease) -> str:
    """Return the text of matrix.toml with a row for a new release, beneath the newest one that is older.

    It takes over the keys of an earlier release, because what limits that mostly limits the next one, too; not its
    comments.
    """
    rows = tomllib.loads(text).get(new.axis, [])
    versions = {str(row["version"]): number for number, row in enumerate(rows)}
    if new.model not in versions:
        raise MatrixError(
            f"matrix.toml has no row [[{new.axis}]] of version {new.model} to take as a model",
            next_step=f"add {new.published.version} by hand",
        )
    place = versions[max((version for version in versions if Version(version) < new.published.parsed), key=Version)]
    model = {
        key: value
        for key, value in rows[versions[new.model]].items()
        if key not in _OF_THE_RELEASE and (new.same_series or key not in _OF_THE_SERIES)
    }
    row = tomlkit.dumps({new.axis: [{**model, "version": new.published.version}]})
    # Text, and not the parsed document: where rows of an axis do not stand together, tomlkit would move them.
    lines = text.splitlines()
    end = _end(lines, [number for number, line in enumerate(lines) if header(line) == f"[[{new.axis}]]"][place])
    return "\n".join([*lines[:end], "", *row.splitlines(), *lines[end:], ""])


def _end(lines: list[str], start: int) -> int:
    """Return the line after a row's last key; comments and blank lines from there on introduce what comes next."""
    following = (number for number, line in enumerate(lines) if number > start and line.startswith("["))
    end = next(following, len(lines))
    while not lines[end - 1].partition("#")[0].strip():  # comments above the next row are about that one
        end -= 1
    return end
