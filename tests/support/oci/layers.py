"""Layers made from bytes: any entries, stored in any of the ways that registries know.

For example ``Layer.of({"/etc/motd": "hello", "/opt/tool": File(content=b"...", mode=0o755), "/tmp/old": Whiteout()})``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
import gzip
import io
from pathlib import PurePosixPath
import tarfile

import zstandard


class Compression(StrEnum):
    """How a layer is compressed."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file with a mode or an owner of its own; plain ``bytes`` or ``str`` make one of root's with mode 0644."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory; those above it come by themselves. ``opaque`` hides what lower layers have in it."""

    mode: int = 0o755
    opaque: bool = False


@dataclass(frozen=True)
class Symlink:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Whiteout:
    """Removes what lower layers have under this path."""


Entry = bytes | str | File | Directory | Symlink | Whiteout


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: an uncompressed tar archive, and how it is stored."""

    tar: bytes = field(repr=False)
    compression: Compression = Compression.GZIP

    @classmethod
    def of(cls, entries: Mapping[str, Entry], compression: Compression = Compression.GZIP) -> "Layer":
        """Make a layer of paths and what is there; the same entries always give the same bytes."""
        return cls.in_order(sorted(_with_parents(entries).items()), compression)

    @classmethod
    def in_order(cls, entries: Iterable[tuple[str, Entry]], compression: Compression = Compression.GZIP) -> "Layer":
        """Make a layer of just these paths, in this order."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, entry in entries:
                for member, content in _members(path, entry):
                    archive.addfile(member, io.BytesIO(content))
        return cls(tar=buffer.getvalue(), compression=compression)

    @cached_property
    def blob(self) -> bytes:
        """The bytes that the registry stores."""
        match self.compression:
            case Compression.GZIP:
                return gzip.compress(self.tar, mtime=0)
            case Compression.ZSTD:
                return zstandard.ZstdCompressor().compress(self.tar)
            case Compression.NONE:
                return self.tar


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in entries:
        for parent in list(PurePosixPath(path).parents)[:-1]:
            found[str(parent)] = Directory()
    return found | dict(entries)


def _members(path: str, entry: Entry) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the archive's members for one entry. No times and no names of users: equal entries, equal digests."""
    place = PurePosixPath(path.lstrip("/"))
    member = tarfile.TarInfo(str(place))
    content = b""
    match entry:
        case bytes() | str():
            content = entry.encode() if isinstance(entry, str) else entry
        case File():
            content = entry.content
            member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
        case Directory():
            member.type, member.mode = tarfile.DIRTYPE, entry.mode
        case Symlink():
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
        case Whiteout():
            member.name = str(place.parent / f".wh.{place.name}")
    member.size = len(content)
    yield member, content
    if isinstance(entry, Directory) and entry.opaque:
        yield tarfile.TarInfo(str(place / ".wh..wh..opq")), b""
