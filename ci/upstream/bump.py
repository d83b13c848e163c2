"""Takes new releases into matrix.toml and containers/pins.toml."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
import tempfile

from packaging.version import Version

from ci import paths
from ci.artefacts.pinning import pin_from_upstream
from ci.artefacts.pins import Pin, load_image_pins, load_pins, save_pins
from ci.artefacts.releases import Artefact, enroot_packages, pyxis_source, slurm_source
from ci.artefacts.sources import Sources
from ci.errors import ArtefactError, ChecksumError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.upstream.news import NewRelease
from ci.upstream.rows import with_row
from ci.web import WebError


@dataclass(frozen=True, kw_only=True)
class BumpOutcome:
    """What became of the new releases."""

    added: list[NewRelease] = field(default_factory=list)
    left: dict[NewRelease, str] = field(default_factory=dict)
    """Those whose files upstream does not have, and why; they are in neither file."""


def take(
    news: Iterable[NewRelease], sources: Sources, *, matrix: Path = paths.MATRIX_FILE, pins: Path = paths.PINS_FILE
) -> BumpOutcome:
    """Download the files of new releases, pin them, and add their rows; a release whose files are missing is left out.

    :raises ChecksumError: if a file is not the one that GitHub's list of the release says; nothing is written then.
    :raises MatrixError: if the matrix with the new rows is invalid; nothing is written then, either.
    """
    taken = BumpOutcome()
    arches = loading.load(matrix).arches
    text, recorded = matrix.read_text(encoding="utf-8"), load_pins(pins)
    for new in news:
        try:
            fresh = [_pinned(artefact, new, sources) for artefact in artefacts_of(new, arches)]
        except WebError as problem:
            # A release can be announced before its files are uploaded; it is new at the next look, too.
            taken.left[new] = str(problem)
            continue
        text = with_row(text, new)
        recorded |= {pin.path: pin for pin in fresh}
        taken.added.append(new)
    if taken.added:
        _check(text, matrix.name)
        # The pins first: a pin without a row does no harm, and a row without a pin does.
        save_pins(pins, recorded.values(), load_image_pins(pins).values())
        with paths.replaced(matrix, "the new rows", ArtefactError) as draft:
            draft.write(text.encode())
    return taken


def artefacts_of(new: NewRelease, arches: Iterable[Arch]) -> tuple[Artefact, ...]:
    """Return the release files of a new release, for all architectures."""
    version = new.published.version
    match new.axis:
        case "slurm":
            return (slurm_source(version),)
        case "enroot":
            return tuple(each for arch in arches for each in enroot_packages(Version(version), arch))
        case _:
            return (pyxis_source(Version(version)),)


def _pinned(artefact: Artefact, new: NewRelease, sources: Sources) -> Pin:
    try:
        pin = pin_from_upstream(artefact, sources)
    except WebError as problem:
        raise WebError(f"{sources.address(artefact)}: {problem}") from problem
    published = new.published
    # GitHub makes a tag's archive on demand, and may pack it otherwise later: what stays is the commit named in it.
    said, found = (published.commit, pin.commit) if pin.commit else (published.digests.get(artefact.name), pin.sha256)
    if said and said != found:
        raise ChecksumError(
            f"{artefact.name} is not what GitHub says of {artefact.release}",
            where=sources.address(artefact),
            why=f"GitHub's API names {said}, and the file is {found}",
            next_step="look at the release's page; nothing was written",
        )
    return pin


def _check(text: str, name: str) -> None:
    # A file of the same name, because the loader reads files and names them in its errors.
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-bump-") as folder:
        draft = Path(folder) / name
        draft.write_text(text, encoding="utf-8")
        loading.load(draft)
