"""The identity of a release file: its checksum, or that of the tar inside it and the commit that git wrote there.

Archives of tags are made on demand, and their compression may change while their content does not. So they are
identified by their content, whatever compressed it.
"""

import bz2
from collections.abc import Mapping
from dataclasses import dataclass
import gzip
import hashlib
import lzma
from pathlib import Path
import re
from typing import IO, cast
import zlib

from ci.errors import ArtefactError

_CHUNK = 1 << 20
_READERS: dict[bytes, type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""Readers by the first bytes of what they read."""
_LARGEST = 1 << 30
"""The most bytes that are unpacked where the size is not known; Slurm has 45 MB."""
_BLOCK = 512
# git writes the commit into the pax header in front of all files; `git get-tar-commit-id` reads it from the same place.
# A pax record begins with its own length: 52 for "52 comment=", 40 digits and the line break.
_COMMIT = re.compile(rb"52 comment=([0-9a-f]{40})\n")


class NotAnArchiveError(Exception):
    """A file is not an archive of a tag; the text is the cause in a few words."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The checksum, size and commit by which a file is recognised."""

    sha256: str
    size: int
    """In bytes."""
    commit: str = ""
    """The commit that a tag's archive was made from. Where it is set, checksum and size are those of the tar inside."""

    def __str__(self) -> str:
        """Return the identity as in messages."""
        if self.commit:
            return f"a tar of commit {self.commit} with sha256 {self.sha256} ({self.size} bytes)"
        return f"sha256 {self.sha256} ({self.size} bytes)"


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file's content in lower-case hex; ``ArtefactError`` if reading fails."""
    return of_file(file).sha256


def of_file(file: Path) -> Identity:
    """Return the identity of a file's bytes; ``ArtefactError`` if reading fails."""
    try:
        with file.open("rb") as stream:
            return Identity(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), size=stream.tell())
    except OSError as problem:
        raise _unreadable(file, problem) from problem


def sums_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in a folder by its path there, sorted; ``ArtefactError`` if reading fails."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def combined(sums: Mapping[str, str]) -> str:
    """Return one sha256 for all files of a folder, from what `sums_of` returned."""
    # Lines as sha256sum prints them.
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()).encode()).hexdigest()


def of_tag_archive(file: Path, *, largest: int = _LARGEST) -> Identity:
    """Return the identity of the tar in a tag's archive, compressed with gzip, bzip2 or xz, or not at all.

    :param largest: the most bytes that are unpacked; more are refused, so that a small file can't unpack without end.
    :raises NotAnArchiveError: if the archive is damaged, too large, or was not made by git.
    :raises ArtefactError: if reading fails.
    """
    digest, size, head = hashlib.sha256(), 0, b""
    try:
        with _unpacked(file) as stream:
            while chunk := stream.read(_CHUNK):
                # The first block is the pax header's own header, the second its records.
                head = head or chunk[: 2 * _BLOCK]
                digest.update(chunk)
                if (size := size + len(chunk)) > largest:
                    raise NotAnArchiveError(f"it unpacks to more than {largest} bytes")
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as problem:
        raise NotAnArchiveError(f"it is damaged or cut off: {problem}") from problem
    except OSError as problem:
        if problem.errno is None:  # bz2 has no error class of its own for damaged data
            raise NotAnArchiveError(f"it is damaged or cut off: {problem}") from problem
        raise _unreadable(file, problem) from problem
    found = _COMMIT.match(head, _BLOCK)
    if not found:
        raise NotAnArchiveError("not a tar made by git archive: its header has no commit id")
    return Identity(sha256=digest.hexdigest(), size=size, commit=found[1].decode())


def _unpacked(file: Path) -> IO[bytes]:
    with file.open("rb") as stream:
        head = stream.read(6)
    reader = next((reader for magic, reader in _READERS.items() if head.startswith(magic)), None)
    return cast("IO[bytes]", reader(file)) if reader else file.open("rb")


def _unreadable(file: Path, problem: OSError) -> ArtefactError:
    why = problem.strerror or str(problem)
    return ArtefactError("reading a file failed", where=str(file), why=why, next_step=f"ls -l {file}")
