"""Lists of checksums: containers/pins.toml for upstream's release files, and the SHA256SUMS of a mirror.

pins.toml is written only by ``nox -s pins``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
import os
from pathlib import Path
import re
import tomllib

from ci.errors import ArtefactError, ChecksumError

_HEADER = """\
# Written by `nox -s pins`; edits by hand are lost.
#
# One entry per release file, as upstream itself served it on that date. A download that is not listed here, or that
# differs from what is listed, is refused. Files that a mirror or the cache holds are never recorded: a mirror may carry
# files of its own making, and answers for them with its own SHA256SUMS.
#
# GitHub makes the archives of tags (…/archive/refs/tags/…) on demand and does not promise the same bytes for ever. When
# only such a checksum differs, compare the content with the tag, then write the pins anew.
"""
_ALLOW = "allow writing there, then run `nox -s pins` again"
_SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The checksum of the file that upstream served for a path."""

    path: str
    """Relative to upstream's base address; the same in the mirror and the cache."""
    sha256: str
    size: int
    """In bytes."""
    date: date
    """The day on which the checksum was first recorded."""


def load_pins(file: Path) -> dict[str, Pin]:
    """Return the pins by path; none if the file is missing. ``ArtefactError`` if it is invalid."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        pins = [_pin(row) for row in document.get("artefact", [])]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ArtefactError(
            "the file of pinned checksums is invalid",
            where=str(file),
            why=f"{type(problem).__name__}: {problem}",
            next_step="restore the file from git; `nox -s pins` writes it",
        ) from problem
    return {pin.path: pin for pin in pins}


def render_pins(pins: Iterable[Pin]) -> str:
    """Return the text of pins.toml: sorted by path, so that a change shows as a small diff."""
    entries = [
        f'\n[[artefact]]\npath = "{pin.path}"\nsha256 = "{pin.sha256}"\nsize = {pin.size}\ndate = {pin.date}\n'
        for pin in sorted(pins, key=lambda pin: pin.path)
    ]
    return _HEADER + "".join(entries)


def save_pins(file: Path, pins: Iterable[Pin]) -> None:
    """Write pins.toml atomically; ``ArtefactError`` if that fails."""
    # A name per process, so that two runs do not write into the same temporary file.
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(render_pins(pins), encoding="utf-8")
        draft.replace(file)
    except OSError as problem:
        draft.unlink(missing_ok=True)
        why = problem.strerror or str(problem)
        raise ArtefactError("writing the pins failed", where=str(file), why=why, next_step=_ALLOW) from problem


def load_sums(file: Path) -> dict[str, str]:
    """Return the sha256 of each path in a file that ``sha256sum`` wrote; empty if the file is missing.

    Raises ``ChecksumError`` if a line is invalid, because such a list can't be trusted.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as problem:
        raise ChecksumError("reading a list of checksums failed", where=str(file), why=str(problem)) from problem
    sums = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (match := _SUMS_LINE.fullmatch(line.rstrip())):
            raise ChecksumError(
                "a list of checksums has an invalid line",
                where=f"{file}:{number}",
                why=f"expected 64 hex digits, two blanks and a path: {line!r}",
                next_step=f"in {file.parent}: find . -type f ! -name {file.name} -exec sha256sum {{}} + > {file.name}",
            )
        # `find .` puts "./" before each path.
        sums[match[2].removeprefix("./")] = match[1].lower()
    return sums


def _pin(row: Mapping[str, object]) -> Pin:
    path, sha256, size, day = row["path"], row["sha256"], row["size"], row["date"]
    if not isinstance(path, str) or not isinstance(size, int) or not isinstance(day, date):
        raise TypeError(f"an entry has a value of the wrong type: {dict(row)}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"no sha256 of 64 lower-case hex digits for {path}: {sha256!r}")
    return Pin(path=path, sha256=sha256, size=size, date=day)
