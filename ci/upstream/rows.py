"""Adds rows to matrix.toml, and leaves everything else in it as people wrote it."""

from packaging.version import Version
import tomlkit
from tomlkit.items import AoT, Comment, Table, Whitespace

from ci.errors import MatrixError
from ci.upstream.news import New

_OF_THE_SERIES = ("supported-until",)
"""Keys that hold for a series; a row of another series does not take them over."""


def with_row(text: str, new: New) -> str:
    """Return the text of matrix.toml with a row for a new release, beneath the newest one that is older.

    It takes over the keys of an earlier release, because what limits that mostly limits the next one, too; not its
    comments.
    """
    document = tomlkit.parse(text)
    rows = document[new.axis]
    versions = {str(row["version"]): number for number, row in enumerate(rows)} if isinstance(rows, AoT) else {}
    if not isinstance(rows, AoT) or new.model not in versions:
        raise MatrixError(
            f"matrix.toml has no row [[{new.axis}]] of version {new.model} to take as a model",
            next_step=f"add {new.published.version} by hand",
        )
    place = versions[max((it for it in versions if Version(it) < new.published.parsed), key=Version)]
    above = rows[place]
    row = tomlkit.table()
    for key, value in rows[versions[new.model]].unwrap().items():
        if new.same_series or key not in _OF_THE_SERIES:
            row.add(key, new.published.version if key == "version" else value)
    for item in _behind(above):
        row.add(item)
    above.add(tomlkit.nl())
    rows.insert(place + 1, row)
    return tomlkit.dumps(document)


def _behind(row: Table) -> list[Comment | Whitespace]:
    """Take the blank lines and comments behind a row's last key away, and return them.

    To the parser they are part of the row; to people they introduce what comes next.
    """
    body = row.value.body
    end = max(number for number, (key, _item) in enumerate(body) if key is not None) + 1
    behind = [item for _key, item in body[end:] if isinstance(item, Comment | Whitespace)]
    del body[end:]
    return behind
