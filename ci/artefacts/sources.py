"""Where release files come from: the user's mirror directory, then the cache, then upstream.

A file's relative path is the same in all three: the path of upstream's address. Its checksum is in
``containers/pins.toml`` or, for a file that is not listed there, in the user's lock file (`ci.artefacts.first_seen`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
from typing import Literal

from ci import paths
from ci.artefacts import first_seen
from ci.artefacts.copies import copies_in, take
from ci.artefacts.download import downloaded, probe, unreachable
from ci.artefacts.identity import Identity, NotAnArchiveError, of_file, of_tag_archive
from ci.artefacts.pins import ImagePin, Pin, load_image_pins, load_pins, load_sums, new_pin
from ci.artefacts.releases import UPSTREAM, Artefact, artefacts_for
from ci.errors import ArtefactError, ChecksumError, session
from ci.matrix.cells import Cell
from ci.terminal import console
from ci.web import Tell, WebError

SUMS_FILE = "SHA256SUMS"
PIN_COMMAND = session("pins")

Source = Literal["mirror", "cache", "upstream", "candidate"]
DIFFERS = "differs from"
"""The words in results before the name of a list that has another checksum for a file."""
Authority = Literal["pins.toml", "SHA256SUMS", "first seen"]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """An artefact on this machine, and why it is trusted."""

    artefact: Artefact
    """The artefact that was requested."""
    path: Path
    """A copy, which later changes of the source's file do not affect."""
    source: Source
    served: str
    """The relative path in the source; not the artefact's own if another file was found in its place."""
    sha256: str
    content: str
    """For an archive of a tag the sha256 of the tar inside, which no compression changes; else that of the file."""
    commit: str = ""
    """The commit that an archive of a tag was made from."""
    verified_against: Authority | None
    """The list that has its checksum; ``None`` for a mirror's file that is in no list."""
    differs_from: Authority | None = None
    """The list that has another checksum: this mirror's file is not the release that others get."""

    @property
    def vouched_for(self) -> str:
        """The lists with the same and with another checksum, as in results; empty if no list has the file."""
        differs = f"{DIFFERS} {self.differs_from}" if self.differs_from else ""
        return ", ".join(filter(None, [self.verified_against, differs]))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The places to look for artefacts, and their expected checksums."""

    cache: Path
    mirror: Path | None = None
    upstream: str = UPSTREAM
    pins: Mapping[str, Pin] = field(default_factory=dict)
    image_pins: Mapping[str, ImagePin] = field(default_factory=dict)
    first_seen: Path | None = None
    """The lock file of files without a pin; with ``None`` they are refused (``--strict``)."""
    tell: Tell = field(default=console.warn, compare=False)
    """Called with a line of text for waits, and for files that are trusted on first download."""

    @classmethod
    def from_environment(
        cls,
        mirror: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        strict: bool = False,
    ) -> "Sources":
        """Return the sources that the option ``mirror`` and the environment name; the option wins over the variable.

        :param strict: refuse files that are in no list of checksums.
        :raises ArtefactError: if the mirror that is named is not a folder.
        """
        named = mirror or paths.directory_from(environ, paths.MIRROR_VARIABLE)
        if named and not named.is_dir():
            raise ArtefactError(
                "the mirror was not found",
                where=f"{named} (from {'--mirror' if mirror else paths.MIRROR_VARIABLE})",
                why="it is not a folder" if named.exists() else "no such folder",
                next_step="correct the path, or leave it out to use the cache and upstream",
            )
        return cls(
            cache=paths.cache_dir(environ) / "artefacts",
            mirror=named,
            pins=load_pins(paths.PINS_FILE),
            image_pins=load_image_pins(paths.PINS_FILE),
            first_seen=None if strict else paths.first_seen_file(environ),
        )

    @property
    def copies(self) -> Path:
        """The folder for the copies of files that were checked."""
        return copies_in(self.cache.parent)

    def address(self, artefact: Artefact) -> str:
        """Return upstream's address of a file."""
        return (artefact.base or self.upstream) + artefact.path

    def expected(self, artefact: Artefact) -> tuple[Pin, Authority] | None:
        """Return the pin of a file, and the list that has it; ``None`` if no list does."""
        if pin := self.pins.get(artefact.path):
            return pin, "pins.toml"
        seen = load_pins(self.first_seen).get(artefact.path) if self.first_seen else None
        return (seen, "first seen") if seen else None


def fetch(artefact: Artefact, sources: Sources) -> Fetched:
    """Return an artefact, or another file with the same software, from the first source that has it.

    A file in the cache with a wrong checksum is ignored and downloaded again. A candidate's file is taken unchecked,
    because the user named it.

    :raises ArtefactError: if no source has it.
    :raises ChecksumError: if the file of the mirror or of upstream has a wrong checksum.
    """
    if artefact.file:
        return _candidate(artefact, artefact.file, sources)
    # All names in the mirror, then all in the cache: a mirror may have SchedMD's own archive of a Slurm only.
    for find in (_from_mirror, _from_cache):
        for place in artefact.places:
            if found := find(place, sources):
                return replace(found, artefact=artefact)
    problems: dict[Artefact, str] = {}
    for place in artefact.places:
        # Before the download, because --strict would refuse the file after it all the same.
        if why := _untrusted(place, sources):
            problems[place] = _upstream_problem(place, sources) or why
            continue
        try:
            return replace(_from_upstream(place, sources), artefact=artefact)
        except WebError as problem:
            problems[place] = str(problem)
    raise ArtefactError(
        f"{artefact.name} was not found",
        where=f"{artefact.path} ({artefact.release})" if artefact.release else artefact.path,
        why="; ".join(_looked(sources, problems)),
        next_step=_remedy(sources, problems),
    )


def missing(cell: Cell, sources: Sources) -> str | None:
    """Return in one line which artefacts of a cell are missing and what to do; ``None`` if all are available.

    Called before every session, so it is quick: it looks at files, asks upstream for headers, and downloads nothing.
    """
    lacking = [
        (artefact, problems) for artefact in artefacts_for(cell) if (problems := _missing_one(artefact, sources))
    ]
    if not lacking:
        return None
    # One is told in full: for the others the same can be done.
    artefact, problems = lacking[0]
    more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
    looked = "; ".join(_looked(sources, problems))
    untried = f"{cell.remark}; " if cell.remark else ""
    return f"{untried}{artefact.path}{more} not found: {looked}. Next: {_remedy(sources, problems)}"


def identify(artefact: Artefact, file: Path, *, pin: Pin | None = None) -> Identity:
    """Return the identity of a file, of the kind that this artefact's pin has.

    :raises NotAnArchiveError: if the artefact is the archive of a tag, and the file is not.
    """
    if not artefact.is_tag_archive:
        return of_file(file)
    # More bytes than the pin has are another file, whatever they are: unpacking ends there.
    return of_tag_archive(file, largest=pin.size) if pin else of_tag_archive(file)


@contextmanager
def from_upstream(artefact: Artefact, sources: Sources) -> Iterator[Path]:
    """Download a file into its folder in the cache, under another name; after its check `into_cache` renames it.

    :raises WebError: if upstream does not have it or can't be reached.
    """
    # If the server does not answer at all, wait for that only once, and not once per file.
    if down := unreachable(artefact.base or sources.upstream):
        raise WebError(down)
    folder = (sources.cache / artefact.path).parent
    with downloaded(sources.address(artefact), folder, sources.tell) as arrived:
        yield arrived


def into_cache(arrived: Path, artefact: Artefact, sources: Sources) -> Path:
    """Give a download that was checked its name in the cache, and return its path."""
    # In one folder, so that the rename is atomic, also when two runs fetch the file at the same time.
    return arrived.replace(sources.cache / artefact.path)


def _candidate(artefact: Artefact, file: Path, sources: Sources) -> Fetched:
    copy, sha256 = take(file, sources.copies)
    try:
        content = of_tag_archive(copy).sha256
    except NotAnArchiveError:
        content = sha256
    identity = Identity(sha256=content, size=copy.stat().st_size, commit=artefact.commit)
    return _fetched(artefact, copy, "candidate", sha256, identity, None)


def _from_upstream(artefact: Artefact, sources: Sources) -> Fetched:
    known = sources.expected(artefact)
    with from_upstream(artefact, sources) as arrived:
        # The copy is what is checked and built from; to a shared cache others can write.
        copy, sha256 = take(arrived, sources.copies, artefact.name)
        try:
            identity = identify(artefact, copy, pin=known[0] if known else None)
        except NotAnArchiveError as problem:
            raise _wrong_download(artefact, sources, str(problem), known) from problem
        if known is None and sources.first_seen:
            # If another session has recorded the file meanwhile, this is its entry, and the bytes have to be the same.
            known = first_seen.remember(sources.first_seen, new_pin(artefact.path, identity)), "first seen"
            sources.tell(
                f"{artefact.name}: no pinned checksum; trusted on first download, and recorded in {sources.first_seen}"
            )
        if known is None or known[0].identity != identity:
            raise _wrong_download(artefact, sources, f"it is {identity}", known)
        into_cache(arrived, artefact, sources)
    return _fetched(artefact, copy, "upstream", sha256, identity, known[1])


def _from_mirror(artefact: Artefact, sources: Sources) -> Fetched | None:
    """Return the mirror's file, or ``None`` if it has none. The mirror is never changed."""
    file = _mirror_file(artefact, sources)
    if file is None or sources.mirror is None:
        return None
    copy, sha256 = take(file, sources.copies)
    listed = load_sums(sources.mirror / SUMS_FILE).get(artefact.path)
    if listed not in (None, sha256):
        raise ChecksumError(
            f"{artefact.name} in the mirror is not the file that the mirror's own {SUMS_FILE} lists",
            where=str(file),
            why=f"its sha256 is {sha256}, {SUMS_FILE} says {listed}",
            next_step="copy the file into the mirror again, or correct the list; the file was left as it is",
        )
    authority: Authority | None = "SHA256SUMS" if listed else None
    try:
        identity = identify(artefact, copy)
    except NotAnArchiveError:
        # Somebody's own tar of the sources. It has no commit, so it differs from any pin, which is said below.
        identity = Identity(sha256=sha256, size=copy.stat().st_size)
    known = sources.expected(artefact)
    # A mirror may have files of its own making. That one differs from what others get under its path is said, and with
    # --strict refused: the mirror's own list of checksums does not prove which release it is.
    if known and known[0].identity != identity:
        difference = _another(artefact, file, identity, known)
        if sources.first_seen is None:
            raise difference
        sources.tell(str(difference))
        return replace(_fetched(artefact, copy, "mirror", sha256, identity, authority), differs_from=known[1])
    authority = authority or (known[1] if known else None)
    if authority is None and sources.first_seen is None:
        raise ArtefactError(
            f"no checksum for {artefact.name} in the mirror",
            where=str(file),
            why=f"--strict takes only what {SUMS_FILE} of the mirror or pins.toml lists",
            next_step=f"run sha256sum in the mirror and keep its output there as {SUMS_FILE}, or leave --strict out",
        )
    return _fetched(artefact, copy, "mirror", sha256, identity, authority)


def _another(artefact: Artefact, file: Path, identity: Identity, known: tuple[Pin, Authority]) -> ChecksumError:
    pin, authority = known
    return ChecksumError(
        f"{artefact.name} in the mirror is another file than {authority} has",
        where=str(file),
        why=f"it is {identity}; on {pin.date} upstream's was {pin.identity}",
        next_step=f"put upstream's file into the mirror; results say that this one {DIFFERS} {authority}, and --strict "
        "refuses it",
    )


def _from_cache(artefact: Artefact, sources: Sources) -> Fetched | None:
    """Return the cache's file, or ``None`` if it has none with the right checksum."""
    file, known = sources.cache / artefact.path, sources.expected(artefact)
    # Without a checksum nothing shows that the file is complete, or whose it is.
    if known is None or not file.is_file():
        return None
    copy, sha256 = take(file, sources.copies)
    if problem := _cache_problem(artefact, sources, copy):
        sources.tell(f"{artefact.name} in the cache is not used: {problem} ({known[1]})")
        return None
    return _fetched(artefact, copy, "cache", sha256, known[0].identity, known[1])


def _fetched(
    artefact: Artefact, path: Path, source: Source, sha256: str, identity: Identity, authority: Authority | None
) -> Fetched:
    return Fetched(
        artefact=artefact,
        path=path,
        source=source,
        served=artefact.path,
        sha256=sha256,
        content=identity.sha256,
        commit=identity.commit,
        verified_against=authority,
    )


def _missing_one(artefact: Artefact, sources: Sources) -> dict[Artefact, str]:
    """Return why each address does not have the artefact; nothing if it is available."""
    # From the quickest answer to the slowest. One address that has a file is enough.
    if artefact.file or any(
        _mirror_file(place, sources) or not _cache_problem(place, sources) for place in artefact.places
    ):
        return {}
    problems: dict[Artefact, str] = {}
    for place in artefact.places:
        if not (problem := _upstream_problem(place, sources) or _untrusted(place, sources)):
            return {}
        problems[place] = problem
    return problems


def _mirror_file(artefact: Artefact, sources: Sources) -> Path | None:
    file = sources.mirror / artefact.path if sources.mirror else None
    return file if file and file.is_file() else None


def _cache_problem(artefact: Artefact, sources: Sources, copy: Path | None = None) -> str | None:
    """Return why the cache's file, or a copy of it, can't be used; ``None`` if it can."""
    file, known = copy or sources.cache / artefact.path, sources.expected(artefact)
    if not file.is_file():
        return "not found"
    if known is None:
        return "found, but no checksum is recorded for it"
    try:
        identity = identify(artefact, file, pin=known[0])
    except NotAnArchiveError as problem:
        return f"found, but {problem}"
    return None if identity == known[0].identity else f"found, but it is {identity}, and not {known[0].identity}"


def _untrusted(artefact: Artefact, sources: Sources) -> str | None:
    """Return why a file of upstream is refused without a download; ``None`` if it is not."""
    if sources.first_seen or sources.expected(artefact):
        return None
    return f"has it, but no checksum is pinned for it, and --strict refuses such files ({PIN_COMMAND} pins it)"


def _upstream_problem(artefact: Artefact, sources: Sources) -> str | None:
    """Return why upstream does not have a file; ``None`` if it does. Downloads nothing."""
    return unreachable(artefact.base or sources.upstream) or probe(sources.address(artefact))


def _wrong_download(
    artefact: Artefact, sources: Sources, found: str, known: tuple[Pin, Authority] | None
) -> ChecksumError:
    what = f"{artefact.name} from upstream is not the file that it should be"
    if known is None:
        return ChecksumError(
            what, where=sources.address(artefact), why=found, next_step="find out what upstream serves"
        )
    pin, authority = known
    if authority == "first seen":
        step = f"only then remove its entry from {sources.first_seen}"
    else:
        step = f"only then let `{PIN_COMMAND}` record it anew"
    return ChecksumError(
        what,
        where=sources.address(artefact),
        why=f"{found}; on {pin.date} it was {pin.identity} ({authority})",
        next_step=f"find out what changed before you trust it; {step}",
    )


def _looked(sources: Sources, problems: Mapping[Artefact, str]) -> list[str]:
    """Return for each source why its file was not used."""
    caches = [f"{_cache_problem(place, sources)}" for place in problems]
    return [
        "mirror: none is named" if sources.mirror is None else f"mirror {sources.mirror}: not found",
        f"cache {sources.cache}: {', '.join(dict.fromkeys(caches))}",
        *(f"upstream {sources.address(place)}: {problem}" for place, problem in problems.items()),
    ]


def _remedy(sources: Sources, problems: Mapping[Artefact, str]) -> str:
    if any(PIN_COMMAND in problem for problem in problems.values()):
        return f"record upstream's checksums with `{PIN_COMMAND}`, and commit containers/pins.toml"
    place = "it" if sources.mirror else f"a directory, named with --mirror DIR or {paths.MIRROR_VARIABLE}"
    either = " or ".join(f"{place.base or UPSTREAM}{place.path}" for place in problems)
    under = " or ".join(place.path for place in problems) if len(problems) > 1 else "that same path"
    return f"fetch {either} elsewhere and put it under {under} below {place}"
