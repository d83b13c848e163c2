"""Records upstream's checksums in containers/pins.toml."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ci import paths
from ci.artefacts.identity import NotAnArchiveError
from ci.artefacts.pins import Pin, load_image_pins, load_pins, new_pin, save_pins
from ci.artefacts.releases import Artefact, artefacts_for
from ci.artefacts.sources import Sources, from_upstream, identify, into_cache
from ci.matrix.cells import Cell
from ci.web import WebError


@dataclass(frozen=True, kw_only=True)
class PinsWritten:
    """The paths of release files, by what ``write_pins`` did with their checksums."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Upstream's file differs from the one that was pinned."""
    unchanged: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Downloading failed (path → why); the earlier checksum is kept."""
    unpinned: dict[str, str] = field(default_factory=dict)
    """Downloading failed (path → why), and there is no earlier checksum."""


def write_pins(cells: Iterable[Cell], sources: Sources, path: Path = paths.PINS_FILE) -> PinsWritten:
    """Record the checksums of the cells' artefacts as upstream serves them now.

    Only what upstream serves is recorded, never files of a mirror or of the cache. If a download fails, the earlier
    checksum is kept. The downloaded files go into the cache.
    """
    pins = load_pins(path)
    written = PinsWritten()
    # Artefacts of one path are equal: a file that several cells need is downloaded once.
    for artefact in sorted({each for cell in cells for each in artefacts_for(cell)}, key=lambda each: each.path):
        old = pins.get(artefact.path)
        try:
            new = pin_from_upstream(artefact, sources)
        except WebError as problem:
            (written.kept if old else written.unpinned)[artefact.path] = str(problem)
            continue
        if old and old.identity == new.identity:
            written.unchanged.append(artefact.path)
            continue
        (written.changed if old else written.added).append(artefact.path)
        pins[artefact.path] = new
    # The file is written anew as a whole; the images' entries in it stay as they are.
    save_pins(path, pins.values(), load_image_pins(path).values())
    return written


def pin_from_upstream(artefact: Artefact, sources: Sources) -> Pin:
    """Download a file, keep it in the cache, and return its pin.

    :raises WebError: if upstream does not have the file, or has another kind of file under its address.
    """
    with from_upstream(artefact, sources) as arrived:
        try:
            identity = identify(artefact, arrived)
        except NotAnArchiveError as problem:
            raise WebError(str(problem)) from problem
        into_cache(arrived, artefact, sources)
    return new_pin(artefact.path, identity)
