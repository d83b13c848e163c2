"""Typed access to parsed TOML. Collects all faults instead of stopping at the first."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
import datetime as dt
import difflib
import functools
from pathlib import Path
import re
import tomllib
from typing import Self

from ci.errors import MatrixError, typed
from ci.terminal.quantities import count

_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*[=.]")
"""A line that sets a key; of a dotted one the first part."""
# A version without quotes, which is not a number: tomllib only says that it expected the end of the line.
_BARE_VERSION = re.compile(r"(?<![\w.\"'])(\d+\.\d+(?:\.\d+)+)(?![\w.\"'])")


class Number(float):
    """A TOML float that remembers how it was written, because 0.20 and 0.2 are two versions but one float."""

    def __new__(cls, source: str) -> Self:
        """Parse the source text."""
        number = super().__new__(cls, source)
        number.source = source
        return number

    source: str


_MANY = 50
"""Of more words than these only the nearest one is named."""


@dataclass(kw_only=True)
class Faults:
    """What is wrong with one file, in the order it was found."""

    path: Path
    text: str = ""
    lines: list[str] = field(default_factory=list)

    def add(self, key: str, fault: str) -> None:
        """Note a fault at a key path such as ``pyxis[2].version`` (counted from 0)."""
        line = self.line_of(key)
        entry = f"{self.path.name}{f':{line}' if line else ''}: {key}: {fault}"
        # A key that two readers ask for has its fault once.
        if entry not in self.lines:
            self.lines.append(entry)

    def raise_if_any(self) -> None:
        """Raise all of them as one `MatrixError`."""
        if self.lines:
            found = count(len(self.lines), "fault")
            listing = "".join(f"\n  - {line}" for line in self.lines)
            raise MatrixError(
                f"{self.path.name} has {found}:{listing}",
                where=str(self.path),
                next_step=f"correct the file, then look at it with: {typed('cells --group full')}",
            )

    def line_of(self, key: str) -> int | None:
        """Return the line of a key path, or else of the table that it is missing from; None if neither is there."""
        # From ``pyxis[2].version`` upwards: ``pyxis[2]``, then ``pyxis``.
        while key and not (line := self._lines.get(key) or self._lines.get(f"{key}[0]")):
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return line if key else None

    @functools.cached_property
    def _lines(self) -> Mapping[str, int]:
        """By key path, the line where a table or a key begins: tomllib tells no positions."""
        found: dict[str, int] = {}
        rows: Counter[str] = Counter()
        table = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header(line).startswith("["):
                table = header(line).strip("[]")
                if header(line).startswith("[["):
                    rows[table] += 1
                    table = f"{table}[{rows[table] - 1}]"
                found.setdefault(table, number)
            elif key := _KEY.match(line):
                # The first one: a later line of this form may stand within a text of several lines.
                found.setdefault(f"{table}.{key[1]}".lstrip("."), number)
        return found


def header(line: str) -> str:
    """Return a line without blanks and comment: a table's header, if it is one."""
    # A number sign within quotes does not matter: no table has one in its name.
    return re.sub(r"\s", "", line.partition("#")[0])


class TomlTable:
    """One TOML table. A key that was never read is an unknown key."""

    def __init__(self, values: Mapping[str, object], path: str, faults: Faults) -> None:
        """Wrap the values at a key path; the root's path is empty."""
        self.values = values
        self.path = path
        self.faults = faults
        # A dict, because messages list the known keys in the order in which they are read.
        self._known: dict[str, None] = {}

    def at(self, key: str) -> str:
        """Return the key path of a key of this table."""
        return f"{self.path}.{key}" if self.path else key

    def fault(self, key: str, text: str) -> None:
        """Note a fault at a key of this table, or at the table itself for the empty key."""
        self.faults.add(self.at(key) if key else self.path, text)

    def has(self, key: str) -> bool:
        """Whether the key is there; makes it a known key."""
        self._known[key] = None
        return key in self.values

    def text(self, key: str, default: str | None = None) -> str:
        """Return a non-empty text; without a default the key is required. Return the empty string after a fault."""
        if not self.has(key):
            if default is None:
                self.fault("", f"the key {key!r} is missing")
            return default or ""
        value = self.values[key]
        if not isinstance(value, str):
            self.fault(key, expected("text in quotes", value, key))
        elif not value.strip():
            self.fault(key, "must not be empty")
        else:
            return value
        return ""

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of non-empty texts; empty where the key is absent."""
        value = self.values[key] if self.has(key) else []
        if not isinstance(value, list):
            self.fault(key, expected("a list of texts", value, key))
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.fault(f"{key}[{index}]", expected("text in quotes", item))
            elif not item.strip():
                self.fault(f"{key}[{index}]", "must not be empty")
        return tuple(item for item in value if isinstance(item, str) and item.strip())

    def one_or_more(self, key: str) -> tuple[str, ...]:
        """Return a text, or a list of them; the key is required."""
        return self.texts(key) if isinstance(self.values.get(key), list) else (self.text(key),)

    def integer(self, key: str, default: int, *, least: int) -> int:
        """Return a whole number that is no smaller than `least`."""
        value = self.values[key] if self.has(key) else default
        # True and False are whole numbers in Python.
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(key, expected("a whole number", value))
            return default
        if value < least:
            self.fault(key, f"must be at least {least}, is {value}")
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.values[key] if self.has(key) else default
        if not isinstance(value, bool):
            self.fault(key, expected("true or false", value))
            return default
        return value

    def date(self, key: str) -> dt.date | None:
        """Return a date; None where it is absent."""
        if not self.has(key):
            return None
        value = self.values[key]
        # A datetime is a date in Python, too.
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            self.fault(key, expected("a date without quotes, such as 2026-11-30", value))
            return None
        return value

    def table(self, key: str) -> "TomlTable | None":
        """Return a table, None where it is absent or something else."""
        if not self.has(key):
            return None
        value = self.values[key]
        if not isinstance(value, dict):
            self.fault(key, expected(f"a table [{self.at(key)}]", value))
            return None
        return TomlTable(value, self.at(key), self.faults)

    def rows(self, key: str) -> "list[TomlTable]":
        """Return the rows of an array of tables; empty where the key is absent."""
        value = self.values[key] if self.has(key) else []
        if isinstance(value, dict):
            # Of a version without quotes, as in ``[pyxis.0.20]``, TOML makes tables within tables.
            inner = ".".join(_dotted(value))
            self.fault(key, f"expected [[{key}]] rows, found a table with the key {inner!r}; {as_row(key, inner)}")
            return []
        if not isinstance(value, list):
            self.fault(key, f"expected [[{key}]] rows, found {kind(value)}; {as_row(key, shown(value))}")
            return []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                hint = f"{quote(item)}, " if isinstance(item, int | float) else ""
                self.fault(f"{key}[{index}]", f"expected a row, found {kind(item)}; {hint}{as_row(key, shown(item))}")
        found = enumerate(value)
        return [
            TomlTable(item, f"{self.at(key)}[{index}]", self.faults) for index, item in found if isinstance(item, dict)
        ]

    def finish(self) -> None:
        """Note every unknown key, with the known one that is most similar."""
        for key in self.values:
            if key not in self._known:
                self.fault(key, f"unknown key {key!r}{did_you_mean(key, self._known)}")


def read_table(path: Path) -> TomlTable:
    """Return the root of a TOML file; `MatrixError` with file and line if it is missing or is not TOML."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MatrixError(
            f"reading {path.name} failed",
            where=str(path),
            why=error.strerror or str(error),
            next_step="run from a checkout that has the file",
        ) from error
    # Editors do not show the mark, and tomllib only calls the first line an invalid statement.
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _malformed(path, 1, "the file starts with a byte order mark", "save it as UTF-8 without one (BOM)")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise _malformed(path, line, fault, "save the file as UTF-8") from error
    try:
        return TomlTable(tomllib.loads(text, parse_float=Number), "", Faults(path=path, text=text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        # As in "Expected newline or end of document after a statement (at line 3, column 15)"; without, it is the end.
        found = re.search(r"at line (\d+)", message)
        lines = text.splitlines()
        line = int(found[1]) if found else len(lines)
        bare = _BARE_VERSION.search(lines[line - 1].partition("#")[0]) if 0 < line <= len(lines) else None
        hint = f'versions are text, quote it: "{bare[1]}"' if bare else "correct the line"
        raise _malformed(path, line, message, hint) from error


def _malformed(path: Path, line: int, fault: str, hint: str) -> MatrixError:
    return MatrixError(f"{path.name}:{line}: {fault}; {hint}", where=f"{path}:{line}", why="the file is not TOML")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the tail of an error message: the nearest known word, and all of them, unless these are a page."""
    # Members of an enum, too, whose repr would stand in the message.
    words = [str(word) for word in known]
    close = difflib.get_close_matches(word, words, n=1)
    every = f" (known: {', '.join(words)})" if words and not (close and len(words) > _MANY) else ""
    return (f"; did you mean {close[0]!r}?" if close else "") + every


def expected(wanted: str, value: object, key: str = "") -> str:
    """Return the message for a value of the wrong type; a number where text is wanted is shown quoted."""
    hint = f"; {quote(value, key)}" if "text" in wanted and isinstance(value, int | float) else ""
    return f"expected {wanted}, found {kind(value)}{hint}"


def kind(value: object) -> str:
    """Return what a TOML value is, in words, for error messages."""
    # First, because it is a whole number as well.
    if isinstance(value, bool):
        return f"the boolean {shown(value)}"
    if isinstance(value, int | float):
        return f"the number {shown(value)}"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return f"the {type(value).__name__} {value}"


def shown(value: object) -> str:
    """Return a value as it stands in the file."""
    if isinstance(value, Number):
        return value.source
    return str(value).lower() if isinstance(value, bool) else str(value)


def quote(value: object, key: str = "") -> str:
    """Return the advice to quote a number, because TOML reads 0.20 as 0.2."""
    return f'quote it: {f"{key} = " if key else ""}"{shown(value)}"'


def as_row(axis: str, version: str) -> str:
    """Return the advice to write a version as a row."""
    return f'write it as [[{axis}]] with version = "{version}"'


def _dotted(table: Mapping[str, object]) -> list[str]:
    """Return the parts of a dotted key such as ``pyxis.0.20``."""
    if not table:
        return []
    key, value = next(iter(table.items()))
    return [key, *(_dotted(value) if isinstance(value, dict) else [])]
