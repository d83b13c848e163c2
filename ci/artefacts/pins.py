"""Lists of checksums: containers/pins.toml for upstream's release files, and the SHA256SUMS of a mirror.

pins.toml is written only by ``nox -s pins`` and ``nox -s bump``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
import re
from typing import Annotated

import msgspec

from ci import paths
from ci.artefacts.identity import Identity
from ci.errors import ArtefactError, ChecksumError, as_here, session

_HEADER = f"""\
# Written by `{session("pins")}` and `{session("bump")}`; edits by hand are lost.
#
# One entry per source archive of a tag ([[archive]]), per other release file ([[artefact]]) and per image that is
# pulled ([[image]]), with the day on which it was recorded. A file that differs from its entry is refused. A release
# file without an entry is taken as it is first seen, and compared ever after; with --strict it is refused. An image is
# pulled by its digest, or by its tag where none is listed; results name the digest. Files that a mirror or the cache
# holds are never recorded: a mirror may carry files of its own making, and answers for them with its own SHA256SUMS.
# One that differs from its entry here is named in results, and refused with --strict.
#
# GitHub compresses the archives of tags on demand and does not promise the same bytes for ever, so for these checksum
# and size are those of the uncompressed tar. Anyone with a clone of the repository can compute them:
#   git archive --format=tar --prefix=pyxis-0.24.0/ v0.24.0 | sha256sum
#   git archive --format=tar --prefix=slurm-slurm-25-11-7-1/ slurm-25-11-7-1 | sha256sum
# The commit is that of the tag; git writes it into the tar, too, where `git get-tar-commit-id` finds it.
"""
# Of sha256sum: "<64 digits>  PATH", or "<64 digits> *PATH" with --binary.
_SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The checksum of the file that upstream served for a path."""

    path: str
    """Relative to upstream's base address; the same in the mirror and the cache."""
    sha256: Sha256
    size: int
    """In bytes."""
    date: date
    """The day on which the checksum was first recorded."""
    commit: str = ""
    """For an archive of a tag: the tag's commit. Checksum and size are then those of the uncompressed tar."""

    @property
    def identity(self) -> Identity:
        """The identity that the file must have."""
        return Identity(sha256=self.sha256, size=self.size, commit=self.commit)


def new_pin(path: str, identity: Identity) -> Pin:
    """Return the entry of a file that is recorded today."""
    day = datetime.now(UTC).date()
    return Pin(path=path, sha256=identity.sha256, size=identity.size, commit=identity.commit, date=day)


class _ArchivePin(msgspec.Struct, kw_only=True, rename="kebab"):
    """An entry of a tag's archive, in the form of pins.toml."""

    path: str
    commit: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")]
    tar_sha256: Sha256
    tar_size: int
    date: date


@dataclass(frozen=True, kw_only=True)
class ImagePin:
    """The digest that a registry had for an image's name, on one day."""

    reference: str
    """Name and tag, such as ``debian:bookworm-slim``."""
    digest: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
    """``sha256:`` and 64 digits; with one image per architecture, the digest of their index."""
    date: date

    @property
    def pinned(self) -> str:
        """The reference with the digest in place of the tag, as ``docker pull`` takes it."""
        return f"{self.reference.rpartition(':')[0]}@{self.digest}"


class _Pins(msgspec.Struct):
    """The content of pins.toml."""

    artefact: list[Pin] = []
    archive: list[_ArchivePin] = []
    image: list[ImagePin] = []

    @property
    def files(self) -> list[Pin]:
        """The entries of release files."""
        archives = (
            Pin(path=entry.path, sha256=entry.tar_sha256, size=entry.tar_size, date=entry.date, commit=entry.commit)
            for entry in self.archive
        )
        return [*self.artefact, *archives]


def load_pins(file: Path) -> dict[str, Pin]:
    """Return the pins by path; none if the file is missing. ``ArtefactError`` if it is invalid."""
    return {pin.path: pin for pin in _load(file).files}


def load_image_pins(file: Path) -> dict[str, ImagePin]:
    """Return the pinned images by reference; errors as for `load_pins`."""
    return {pin.reference: pin for pin in _load(file).image}


def pins_in(text: str) -> dict[str, str]:
    """Return the checksums in the text of pins.toml by path or image name; none if the text is invalid."""
    try:
        # The text may be that of an earlier revision, in another form. Then every entry counts as changed.
        found = msgspec.toml.decode(text, type=_Pins)
    except ValueError:
        return {}
    files = {pin.path: str(pin.identity) for pin in found.files}
    return files | {pin.reference: pin.digest for pin in found.image}


def _load(file: Path) -> _Pins:
    try:
        return msgspec.toml.decode(file.read_bytes(), type=_Pins)
    except FileNotFoundError:
        return _Pins()
    except (OSError, ValueError) as problem:  # the errors of msgspec and tomllib are ValueErrors
        raise ArtefactError(
            "the file of pinned checksums is invalid",
            where=str(file),
            why=f"{type(problem).__name__}: {problem}",
            next_step=f"restore the file; pins.toml is in git, and `{as_here(session('pins'))}` writes it",
        ) from problem


def render_pins(pins: Iterable[Pin], images: Iterable[ImagePin] = (), header: str = _HEADER) -> str:
    """Return the text of pins.toml: sorted by path and reference, so that a change shows as a small diff."""
    ordered = sorted(pins, key=lambda pin: (not pin.commit, pin.path))
    entries = [f"\n{_entry(pin)}" for pin in ordered]
    entries += [
        f'\n[[image]]\nreference = "{pin.reference}"\ndigest = "{pin.digest}"\ndate = {pin.date}\n'
        for pin in sorted(images, key=lambda pin: pin.reference)
    ]
    return header + "".join(entries)


def _entry(pin: Pin) -> str:
    if pin.commit:
        content = f'commit = "{pin.commit}"\ntar-sha256 = "{pin.sha256}"\ntar-size = {pin.size}\n'
    else:
        content = f'sha256 = "{pin.sha256}"\nsize = {pin.size}\n'
    return f'[[{"archive" if pin.commit else "artefact"}]]\npath = "{pin.path}"\n{content}date = {pin.date}\n'


def save_pins(file: Path, pins: Iterable[Pin], images: Iterable[ImagePin] = (), header: str = _HEADER) -> None:
    """Write pins.toml atomically; ``ArtefactError`` if that fails."""
    with paths.replaced(file, "the pins", ArtefactError) as draft:
        draft.write(render_pins(pins, images, header).encode())


def write_image_pins(file: Path, references: Iterable[str], digest_of: Callable[[str], str | None]) -> list[str]:
    """Record the digests of images in pins.toml; return the references for which no registry answers.

    These keep their earlier digest. A digest that has not changed keeps its date.

    :param digest_of: returns the digest that a registry has now.
    """
    pins, missing = load_image_pins(file), []
    for reference in sorted(references):
        digest = digest_of(reference)
        if digest is None:
            missing.append(reference)
        elif reference not in pins or pins[reference].digest != digest:
            pins[reference] = ImagePin(reference=reference, digest=digest, date=datetime.now(UTC).date())
    save_pins(file, load_pins(file).values(), pins.values())
    return missing


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
