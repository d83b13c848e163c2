"""Lists of checksums: containers/pins.toml, for upstream's own release files, and the SHA256SUMS of a mirror.

People write matrix.toml; pins.toml is only ever written by ``nox -s pins``.
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
    """What upstream served for one path, on one day."""

    path: str
    """Relative to upstream's base address, and in the mirror and cache too."""
    sha256: str
    size: int
    """In bytes."""
    date: date
    """The day on which the checksum was first recorded."""


def load_pins(file: Path) -> dict[str, Pin]:
    """Return the pins by path; ``ArtefactError`` where the file can't be read. A file that is not there has none."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        pins = [_pin(row) for row in document.get("artefact", [])]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ArtefactError(
            "The pinned checksums can't be read.",
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
    """Write pins.toml, whole or not at all; ``ArtefactError`` where that is not possible."""
    # Its own name, so that two runs do not write into one temporary file.
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(render_pins(pins), encoding="utf-8")
        draft.replace(file)
    except OSError as problem:
        draft.unlink(missing_ok=True)
        why = problem.strerror or str(problem)
        raise ArtefactError("The pins can't be written.", where=str(file), why=why, next_step=_ALLOW) from problem


def load_sums(file: Path) -> dict[str, str]:
    """Return the sha256 by path that ``sha256sum`` wrote into a file; a file that is not there lists nothing.

    Raises ``ChecksumError`` for a line that says nothing of the kind: a list in doubt vouches for nothing.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as problem:
        raise ChecksumError("A list of checksums can't be read.", where=str(file), why=str(problem)) from problem
    sums = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (match := _SUMS_LINE.fullmatch(line.rstrip())):
            raise ChecksumError(
                "A list of checksums has a line that is none.",
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
