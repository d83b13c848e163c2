"""Release files of Slurm, enroot and Pyxis: which ones a cell needs, and where they come from.

Each file is looked for in the user's mirror directory, then in the cache, then upstream. Its relative path is the
same in all three: the path of upstream's address.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
import os
from pathlib import Path
from typing import Literal

from ci import paths
from ci.artefacts.download import Downloaded, DownloadError, downloaded, probe, sha256_of, unreachable
from ci.artefacts.pins import ImagePin, Pin, load_image_pins, load_pins, load_sums, save_pins
from ci.errors import ArtefactError, ChecksumError
from ci.matrix.cells import Cell, SlurmSource, SlurmVersion

UPSTREAM = "https://github.com/"
MIRROR_VARIABLE = "PYXIS_MATRIX_MIRROR"
SUMS_FILE = "SHA256SUMS"
PIN_COMMAND = "nox -s pins"

Source = Literal["mirror", "cache", "upstream"]
Authority = Literal["pins.toml", "SHA256SUMS"]


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A release file of upstream."""

    path: str
    """Relative to upstream's base address, to a mirror and to the cache."""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """An artefact on this machine, and what its checksum was compared with."""

    artefact: Artefact
    path: Path
    """The file; it must not be changed, because it may be the mirror's."""
    source: Source
    sha256: str
    verified_against: Authority | None
    """The list that has this checksum; ``None`` for a mirror's file that is in no list."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where artefacts are looked for, and their pinned checksums."""

    cache: Path
    mirror: Path | None = None
    upstream: str = UPSTREAM
    pins: Mapping[str, Pin] = field(default_factory=dict)
    image_pins: Mapping[str, ImagePin] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, mirror: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Sources":
        """Return the sources that the option ``mirror`` and the environment name; the option wins over the variable.

        :raises ArtefactError: if the mirror that is named is not a folder.
        """
        named = mirror or paths.directory_from(environ, MIRROR_VARIABLE)
        if named and not named.is_dir():
            raise ArtefactError(
                "the mirror is not found",
                where=f"{named} (from {'--mirror' if mirror else MIRROR_VARIABLE})",
                why="it is not a folder" if named.exists() else "no such folder",
                next_step="correct the path, or leave it out to use the cache and upstream",
            )
        return cls(
            cache=paths.cache_dir(environ) / "artefacts",
            mirror=named,
            pins=load_pins(paths.PINS_FILE),
            image_pins=load_image_pins(paths.PINS_FILE),
        )


@dataclass(frozen=True, kw_only=True)
class PinsWritten:
    """What ``write_pins`` did with each path."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """The file of upstream differs from the one that was pinned."""
    unchanged: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Downloading failed (path → why); the earlier checksum is kept."""
    unpinned: dict[str, str] = field(default_factory=dict)
    """Downloading failed (path → why), and there is no earlier checksum."""


def slurm_artefact(slurm: SlurmVersion) -> Artefact | None:
    """Return the source archive of a Slurm release; None for one that comes from packages.

    SchedMD's tags end with the number of the packaging, which has been 1 ever since.
    """
    if slurm.source is not SlurmSource.ARCHIVE:
        return None
    return Artefact(path=f"SchedMD/slurm/archive/refs/tags/slurm-{slurm.version.replace('.', '-')}-1.tar.gz")


def runtime_artefacts(cell: Cell) -> tuple[Artefact, ...]:
    """Return the release files of a cell's enroot and Pyxis; none for a cell without them."""
    artefacts = []
    if cell.enroot is not None:
        folder = f"NVIDIA/enroot/releases/download/v{cell.enroot}"
        artefacts += [f"{folder}/{package}_{cell.enroot}-1_{cell.arch}.deb" for package in ("enroot", "enroot+caps")]
    if cell.pyxis is not None:
        artefacts.append(f"NVIDIA/pyxis/archive/refs/tags/v{cell.pyxis}.tar.gz")
    return tuple(Artefact(path=path) for path in artefacts)


def artefacts_for(cell: Cell) -> tuple[Artefact, ...]:
    """Return the release files that a cell is built from."""
    slurm = slurm_artefact(cell.slurm)
    return (*([slurm] if slurm else []), *runtime_artefacts(cell))


def fetch(artefact: Artefact, sources: Sources) -> Fetched:
    """Return an artefact from the first source that has it.

    Raises ``ArtefactError`` if no source has it, and ``ChecksumError`` if the file of the mirror or of upstream has the
    wrong checksum. A file in the cache with the wrong checksum is ignored and downloaded again.
    """
    if (found := _from_mirror(artefact, sources)) or (found := _from_cache(artefact, sources)):
        return found
    if (pin := sources.pins.get(artefact.path)) is None:
        raise _not_found(artefact, sources, _upstream_problem(artefact, sources) or "not asked")
    try:
        with _download(artefact, sources) as arrived:
            if arrived.sha256 != pin.sha256:
                raise _wrong_download(artefact, sources, arrived, pin)
            target = _into_cache(arrived, artefact, sources)
    except DownloadError as problem:
        raise _not_found(artefact, sources, str(problem)) from problem
    return Fetched(artefact=artefact, path=target, source="upstream", sha256=pin.sha256, verified_against="pins.toml")


def missing(cell: Cell, sources: Sources) -> str | None:
    """Return in one line which artefacts of a cell are missing and what to do; ``None`` if all are available.

    It is called before every session, so it only looks at files and asks upstream for headers; it downloads nothing.
    """
    lacking: list[tuple[Artefact, str]] = []
    for artefact in artefacts_for(cell):
        if _in_mirror(artefact, sources) or _from_cache(artefact, sources):
            continue
        if problem := _upstream_problem(artefact, sources):
            lacking.append((artefact, problem))
    if not lacking:
        return None
    artefact, problem = lacking[0]
    more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
    looked = "; ".join(_looked(artefact, sources, problem))
    return f"{artefact.path}{more} not found: {looked}. Next: {_remedy(artefact, sources, problem)}"


def write_pins(cells: Iterable[Cell], sources: Sources, path: Path = paths.PINS_FILE) -> PinsWritten:
    """Record the checksums of the cells' artefacts as upstream serves them now.

    Only what upstream serves is recorded, never files of a mirror or of the cache. If a download fails, the earlier
    checksum is kept. The downloaded files go into the cache.
    """
    pins = load_pins(path)
    written = PinsWritten()
    for artefact in sorted({each for cell in cells for each in artefacts_for(cell)}, key=lambda each: each.path):
        old = pins.get(artefact.path)
        try:
            new = _pin_from_upstream(artefact, sources)
        except DownloadError as problem:
            (written.kept if old else written.unpinned)[artefact.path] = str(problem)
            continue
        if old and old.sha256 == new.sha256:
            written.unchanged.append(artefact.path)
            continue
        (written.changed if old else written.added).append(artefact.path)
        pins[artefact.path] = new
    save_pins(path, pins.values(), load_image_pins(path).values())
    return written


def _pin_from_upstream(artefact: Artefact, sources: Sources) -> Pin:
    with _download(artefact, sources) as arrived:
        _into_cache(arrived, artefact, sources)
    return Pin(path=artefact.path, sha256=arrived.sha256, size=arrived.size, date=datetime.now(UTC).date())


def _in_mirror(artefact: Artefact, sources: Sources) -> bool:
    return sources.mirror is not None and (sources.mirror / artefact.path).is_file()


def _from_mirror(artefact: Artefact, sources: Sources) -> Fetched | None:
    """Return the mirror's file, or ``None`` if it has none. The file is used in place and never changed."""
    if sources.mirror is None or not _in_mirror(artefact, sources):
        return None
    file = sources.mirror / artefact.path
    sha256 = sha256_of(file)
    listed = load_sums(sources.mirror / SUMS_FILE).get(artefact.path)
    if listed not in (None, sha256):
        raise ChecksumError(
            f"{artefact.name} in the mirror is not the file that the mirror's own {SUMS_FILE} lists.",
            where=str(file),
            why=f"its sha256 is {sha256}, {SUMS_FILE} says {listed}",
            next_step="copy the file into the mirror again, or correct the list; the file was left as it is",
        )
    authority: Authority | None = "SHA256SUMS" if listed else None
    # A mirror may hold files of its own making, so a checksum that differs from the pinned one is not an error.
    if authority is None and (pin := sources.pins.get(artefact.path)) and pin.sha256 == sha256:
        authority = "pins.toml"
    return Fetched(artefact=artefact, path=file, source="mirror", sha256=sha256, verified_against=authority)


def _from_cache(artefact: Artefact, sources: Sources) -> Fetched | None:
    """Return the cache's file, or ``None`` if it has none with the pinned checksum."""
    if _cache_problem(artefact, sources):
        return None
    file, sha256 = sources.cache / artefact.path, sources.pins[artefact.path].sha256
    return Fetched(artefact=artefact, path=file, source="cache", sha256=sha256, verified_against="pins.toml")


def _cache_problem(artefact: Artefact, sources: Sources) -> str | None:
    """Return why the cache's file can't be used; ``None`` if it can."""
    file, pin = sources.cache / artefact.path, sources.pins.get(artefact.path)
    if not file.is_file():
        return "not found"
    if pin is None:
        return "found, but no checksum is pinned for it"
    sha256 = sha256_of(file)
    return None if sha256 == pin.sha256 else f"found, but its sha256 is {sha256} and {pin.sha256} is pinned"


def _upstream_problem(artefact: Artefact, sources: Sources) -> str | None:
    """Return why upstream's file can't be used; ``None`` if it can. Downloads nothing."""
    problem = unreachable(sources.upstream) or probe(sources.upstream + artefact.path)
    if problem is None and artefact.path not in sources.pins:
        return f"has it, but no checksum is pinned for it ({PIN_COMMAND} pins it)"
    return problem


@contextmanager
def _download(artefact: Artefact, sources: Sources) -> Iterator[Downloaded]:
    # If the server does not answer at all, wait for it only once, and not once per file.
    if down := unreachable(sources.upstream):
        raise DownloadError(down)
    with downloaded(sources.upstream + artefact.path, (sources.cache / artefact.path).parent) as arrived:
        yield arrived


def _into_cache(arrived: Downloaded, artefact: Artefact, sources: Sources) -> Path:
    # It was downloaded into the same folder, so the rename is atomic, also when two runs fetch it at once.
    return arrived.path.replace(sources.cache / artefact.path)


def _not_found(artefact: Artefact, sources: Sources, upstream: str) -> ArtefactError:
    return ArtefactError(
        f"{artefact.name} was not found.",
        where=artefact.path,
        why="; ".join(_looked(artefact, sources, upstream)),
        next_step=_remedy(artefact, sources, upstream),
    )


def _wrong_download(artefact: Artefact, sources: Sources, arrived: Downloaded, pin: Pin) -> ChecksumError:
    why = f"its sha256 is {arrived.sha256} ({arrived.size} bytes), pinned on {pin.date} was {pin.sha256} ({pin.size})"
    if "/archive/" in artefact.path:
        why += "; archives of tags are made on demand, and their compression may change while their content does not"
    return ChecksumError(
        f"{artefact.name} from upstream is not the file that was pinned.",
        where=sources.upstream + artefact.path,
        why=why,
        next_step=f"find out what changed before you trust it; then `{PIN_COMMAND}` records the new checksum",
    )


def _looked(artefact: Artefact, sources: Sources, upstream: str) -> list[str]:
    """Return for each source why its file was not used."""
    mirror = "none was named" if sources.mirror is None else f"{sources.mirror}: not found"
    return [
        f"mirror {mirror}",
        f"cache {sources.cache}: {_cache_problem(artefact, sources)}",
        f"upstream {sources.upstream}: {upstream}",
    ]


def _remedy(artefact: Artefact, sources: Sources, upstream: str) -> str:
    if PIN_COMMAND in upstream:
        return f"record upstream's checksums with `{PIN_COMMAND}`, and commit containers/pins.toml"
    place = "it" if sources.mirror else f"a directory, named with --mirror DIR or {MIRROR_VARIABLE}"
    return f"fetch {UPSTREAM}{artefact.path} elsewhere and put it under that same path below {place}"
