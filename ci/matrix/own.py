"""A matrix file of one's own: it adds to the project's matrix.toml, or replaces parts of it."""

from ci.matrix.model import VERSION_AXES
from ci.matrix.tables import TomlTable

_ROWS = {**dict.fromkeys(VERSION_AXES, "version"), "os": "name"}
"""By axis, the key by which a row is known: one of the file's own takes the place of the project's."""
_LISTS = ("exclude", "known-failure")
_TABLES = ("groups", "defaults", "suite-environment")
"""What of these a file does not name is the project's; the other tables count as a whole."""


def extended(own: TomlTable, project: TomlTable) -> TomlTable:
    """Return what a file of one's own and the project's come to.

    Rows of the own file stand first, so that a row has the same place here as there: a fault is found by it, and names
    that file's line.
    """
    merged = {**project.values, **own.values}
    for key, value in own.values.items():
        before = project.values.get(key)
        if key in (*_ROWS, *_LISTS) and isinstance(value, list) and isinstance(before, list):
            # Whatever is not a row is left to the loader, which names the fault.
            known = [row.get(_ROWS[key]) for row in value if isinstance(row, dict)] if key in _ROWS else []
            # A row is replaced by its version or name; lists only grow.
            merged[key] = [*value, *(row for row in before if not known or row.get(_ROWS[key]) not in known)]
        elif key in _TABLES and isinstance(value, dict) and isinstance(before, dict):
            merged[key] = {**before, **value}
    return TomlTable(merged, own.path, own.faults)
