"""Which release files a cell needs, and the order in which they are looked for."""

from dataclasses import replace
from datetime import date
import gzip
import hashlib
from pathlib import Path
from typing import NoReturn

from packaging.version import Version
import pytest

from ci import paths
from ci.artefacts import first_seen
from ci.artefacts import sources as module
from ci.artefacts.pins import Pin, load_pins
from ci.artefacts.releases import Artefact, artefacts_for, slurm_source
from ci.artefacts.sources import Sources, fetch, missing
from ci.errors import ArtefactError, ChecksumError
from ci.matrix.arch import Arch
from ci.web import WebError
from tests.support.cells import EMBEDDED, REAL
from tests.support.tag_archives import COMMIT, tag_tar

ENROOT, CAPS, PYXIS = artefacts_for(REAL)
CONTENT = b"content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TAR = tag_tar()
TAR_SHA256 = hashlib.sha256(TAR).hexdigest()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Empty places, and an upstream that does not answer."""
    monkeypatch.setattr(module, "unreachable", lambda _base: "the name does not resolve")
    return Sources(
        cache=tmp_path / "cache",
        mirror=tmp_path / "mirror",
        pins={ENROOT.path: _pin(ENROOT, SHA256), PYXIS.path: _tar_pin(PYXIS, TAR)},
    )


def test_a_cell_needs_both_enroot_packages_and_the_source_of_pyxis() -> None:
    assert [artefact.path for artefact in artefacts_for(REAL)] == [
        "NVIDIA/enroot/releases/download/v3.4.1/enroot_3.4.1-1_amd64.deb",
        "NVIDIA/enroot/releases/download/v3.4.1/enroot+caps_3.4.1-1_amd64.deb",
        "NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz",
    ]


def test_the_architecture_is_spelled_as_upstream_spells_it() -> None:
    arm = replace(REAL, enroot=Version("4.1.2"), pyxis=Version("0.24.0"), arch=Arch.ARM64)

    assert artefacts_for(arm)[0].name == "enroot_4.1.2-1_arm64.deb"


def test_an_embedded_cell_needs_nothing_and_lacks_nothing(sources: Sources) -> None:
    assert artefacts_for(EMBEDDED) == ()
    assert missing(EMBEDDED, sources) is None


def test_the_mirror_comes_before_the_cache(sources: Sources) -> None:
    _put(sources.mirror, ENROOT, b"the mirror's own")
    _put(sources.cache, ENROOT, CONTENT)

    found = fetch(ENROOT, _trusting(sources))

    assert (found.source, found.path.read_bytes()) == ("mirror", b"the mirror's own")


def test_a_mirror_file_is_held_against_the_mirrors_own_list(sources: Sources) -> None:
    _put(sources.mirror, CAPS, b"own build")
    own = hashlib.sha256(b"own build").hexdigest()
    _put(sources.mirror, Artefact(path="SHA256SUMS"), f"{own}  {CAPS.path}\n".encode())

    found = fetch(CAPS, sources)

    assert (found.sha256, found.verified_against) == (own, "SHA256SUMS")


def test_a_mirror_file_unlike_its_list_is_refused_and_left_alone(sources: Sources) -> None:
    file = _put(sources.mirror, ENROOT, CONTENT)
    _put(sources.mirror, Artefact(path="SHA256SUMS"), f"{'0' * 64}  {ENROOT.path}\n".encode())

    with pytest.raises(ChecksumError) as caught:
        fetch(ENROOT, sources)

    assert all(part in str(caught.value) for part in (SHA256, "0" * 64, str(file)))
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(("content", "authority"), [(CONTENT, "pins.toml"), (b"own build", None)])
def test_without_a_list_the_result_says_what_vouches_for_a_mirror_file(
    sources: Sources, content: bytes, authority: str | None
) -> None:
    _put(sources.mirror, ENROOT, content)

    assert fetch(ENROOT, _trusting(sources)).verified_against == authority


def test_a_cache_entry_with_the_pinned_content_is_used(sources: Sources) -> None:
    _put(sources.cache, ENROOT, CONTENT)

    found = fetch(ENROOT, sources)

    assert (found.source, found.path.read_bytes(), found.verified_against) == ("cache", CONTENT, "pins.toml")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_cache_entry_that_nothing_vouches_for_is_not_used(sources: Sources, *, pinned: bool) -> None:
    _put(sources.cache, ENROOT, b"damaged")
    places = replace(sources, pins=sources.pins if pinned else {})

    with pytest.raises(
        ArtefactError, match="found, but it is sha256" if pinned else "found, but no checksum is recorded"
    ):
        fetch(ENROOT, places)


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("place", ["mirror", "cache"])
def test_a_tags_archive_is_the_pinned_one_whatever_its_compression(sources: Sources, place: str, level: int) -> None:
    packed = gzip.compress(TAR, compresslevel=level)
    _put(sources.mirror if place == "mirror" else sources.cache, PYXIS, packed)

    found = fetch(PYXIS, sources)

    assert (found.source, found.verified_against, found.commit) == (place, "pins.toml", COMMIT)
    assert (found.sha256, found.content) == (hashlib.sha256(packed).hexdigest(), TAR_SHA256)


OTHERS = {
    "another commit": gzip.compress(tag_tar(commit="0" * 40)),
    "another content": gzip.compress(tag_tar(README=b"hallo\n")),
    "no archive": b"no archive",
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("listed", [False, True])
def test_a_mirror_file_that_is_not_the_pinned_one_is_named_and_strictly_refused(
    sources: Sources, content: bytes, *, listed: bool
) -> None:
    """The mirror's own list can't say which release a file is."""
    file = _put(sources.mirror, PYXIS, content)
    own = hashlib.sha256(content).hexdigest()
    if listed:
        _put(sources.mirror, Artefact(path="SHA256SUMS"), f"{own}  {PYXIS.path}\n".encode())
    told: list[str] = []

    found = fetch(PYXIS, replace(_trusting(sources), tell=told.append))

    assert (found.sha256, found.differs_from) == (own, "pins.toml")
    assert found.vouched_for == ("SHA256SUMS, differs from pins.toml" if listed else "differs from pins.toml")
    (said,) = told
    assert all(part in said for part in (PYXIS.name, str(file), "pins.toml", TAR_SHA256, COMMIT))
    with pytest.raises(ChecksumError, match=r"in the mirror is another file than pins\.toml has"):
        fetch(PYXIS, sources)


def test_a_mirror_file_that_is_not_the_one_that_was_first_seen_is_named(sources: Sources) -> None:
    _put(sources.mirror, CAPS, b"own build")
    trusting = _trusting(sources)
    assert trusting.first_seen
    first_seen.remember(trusting.first_seen, _pin(CAPS, SHA256))

    found = fetch(CAPS, trusting)

    assert (found.verified_against, found.vouched_for) == (None, "differs from first seen")


def test_a_mirror_file_that_is_the_pinned_one_differs_from_nothing(sources: Sources) -> None:
    packed = gzip.compress(TAR)
    _put(sources.mirror, PYXIS, packed)
    sums = f"{hashlib.sha256(packed).hexdigest()}  {PYXIS.path}\n"
    _put(sources.mirror, Artefact(path="SHA256SUMS"), sums.encode())

    assert fetch(PYXIS, sources).vouched_for == "SHA256SUMS"


def test_a_cache_file_that_is_not_the_pinned_one_is_named(sources: Sources) -> None:
    _put(sources.cache, PYXIS, OTHERS["another commit"])
    told: list[str] = []

    with pytest.raises(ArtefactError, match="found, but it is a tar of commit 000"):
        fetch(PYXIS, replace(sources, tell=told.append))

    (said,) = told
    assert all(part in said for part in (PYXIS.name, "in the cache is not used", TAR_SHA256, "pins.toml"))


def test_the_commit_counts_as_well_as_the_tar(sources: Sources) -> None:
    _put(sources.cache, PYXIS, gzip.compress(TAR))
    other = replace(sources, pins={PYXIS.path: replace(sources.pins[PYXIS.path], commit="0" * 40)})

    with pytest.raises(ArtefactError, match=f"a tar of commit {COMMIT}.*and not a tar of commit 0000"):
        fetch(PYXIS, other)


def test_strict_takes_a_mirror_file_that_its_list_has(sources: Sources) -> None:
    _put(sources.mirror, CAPS, CONTENT)
    with pytest.raises(ArtefactError, match="no checksum for") as caught:
        fetch(CAPS, sources)
    assert "SHA256SUMS" in caught.value.next_step

    _put(sources.mirror, Artefact(path="SHA256SUMS"), f"{SHA256}  {CAPS.path}\n".encode())
    assert fetch(CAPS, sources).verified_against == "SHA256SUMS"


def test_the_page_of_slurms_archives_serves_in_place_of_the_tag(sources: Sources) -> None:
    slurm = slurm_source("25.11.7")
    assert slurm.path == "SchedMD/slurm/archive/refs/tags/slurm-25-11-7-1.tar.gz"
    (page,) = slurm.instead
    assert sources.address(page) == "https://download.schedmd.com/slurm/slurm-25.11.7.tar.bz2"
    _put(sources.mirror, page, b"bzip2")

    found = fetch(slurm, _trusting(sources))

    assert (found.artefact, found.path.read_bytes(), found.served) == (slurm, b"bzip2", page.path)


def test_a_slurm_that_is_nowhere_names_release_and_addresses(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "unreachable", lambda _base: None)
    monkeypatch.setattr(module, "probe", lambda _url: "HTTP 404 Not Found")
    monkeypatch.setattr(module, "downloaded", _not_there)

    with pytest.raises(ArtefactError) as caught:
        fetch(slurm_source("25.11.7"), _trusting(sources))

    text = str(caught.value)
    assert "slurm-25-11-7-1.tar.gz (Slurm 25.11.7)" in text
    for address in (
        "https://github.com/SchedMD/slurm/archive/refs/tags/slurm-25-11-7-1.tar.gz",
        "https://download.schedmd.com/slurm/slurm-25.11.7.tar.bz2",
    ):
        assert f"upstream {address}: HTTP 404 Not Found" in text
        assert address in caught.value.next_step


def test_what_no_place_has_is_reported_with_all_places_and_the_remedy(sources: Sources) -> None:
    with pytest.raises(ArtefactError) as caught:
        fetch(CAPS, _trusting(sources))

    text = str(caught.value)
    assert f"mirror {sources.mirror}: not found" in text
    assert f"cache {sources.cache}: not found" in text
    assert f"upstream https://github.com/{CAPS.path}: the name does not resolve" in text
    assert f"fetch https://github.com/{CAPS.path} elsewhere" in text


def test_missing_says_in_one_line_what_is_lacking_and_what_helps(sources: Sources) -> None:
    reason = missing(REAL, Sources(cache=sources.cache))

    assert reason is not None
    assert "\n" not in reason
    assert "enroot_3.4.1-1_amd64.deb (and 2 more) not found: mirror: none is named" in reason
    assert "the name does not resolve" in reason
    assert "--mirror DIR or PYXIS_MATRIX_MIRROR" in reason


def test_nothing_is_missing_when_mirror_and_cache_have_it_together(sources: Sources) -> None:
    for artefact in artefacts_for(REAL)[:2]:
        _put(sources.mirror, artefact, b"any")
    _put(sources.cache, PYXIS, gzip.compress(TAR))

    assert missing(REAL, sources) is None


def test_strict_misses_an_upstream_file_until_it_is_pinned(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "unreachable", lambda _base: None)
    monkeypatch.setattr(module, "probe", lambda _url: None)

    reason = missing(REAL, sources)

    assert reason is not None
    assert reason.startswith(f"{CAPS.path} not found"), "the others are pinned"
    assert reason.endswith("record upstream's checksums with `nox -s pins`, and commit containers/pins.toml")
    assert missing(REAL, _trusting(sources)) is None


def test_places_come_from_the_environment_and_the_option_wins(tmp_path: Path) -> None:
    environ = {"PYXIS_MATRIX_MIRROR": str(tmp_path / "m"), "PYXIS_MATRIX_CACHE": str(tmp_path / "c")}
    for name in ("m", "option"):
        (tmp_path / name).mkdir()

    assert Sources.from_environment(environ=environ).mirror == tmp_path / "m"
    assert Sources.from_environment(environ=environ).cache == tmp_path / "c" / "artefacts"
    assert Sources.from_environment(tmp_path / "option", environ).mirror == tmp_path / "option"
    assert Sources.from_environment(environ={"HOME": "/h"}).mirror is None


def test_what_is_first_seen_outlives_the_cache_and_strict_has_none_of_it(tmp_path: Path) -> None:
    environ = {"PYXIS_MATRIX_CACHE": str(tmp_path / "c"), "PYXIS_MATRIX_FIRST_SEEN": str(tmp_path / "seen.toml")}

    assert Sources.from_environment(environ=environ).first_seen == tmp_path / "seen.toml"
    assert Sources.from_environment(environ=environ, strict=True).first_seen is None
    by_itself = Sources.from_environment(environ={}).first_seen
    assert by_itself is not None
    assert by_itself.name == "first-seen.toml"
    assert not by_itself.is_relative_to(paths.cache_dir({}))


def test_two_sessions_that_see_a_file_first_agree_on_the_faster_one(tmp_path: Path) -> None:
    lock = tmp_path / "config" / "seen.toml"

    first = first_seen.remember(lock, _pin(CAPS, SHA256))
    second = first_seen.remember(lock, _pin(CAPS, "0" * 64))

    assert first == second == load_pins(lock)[CAPS.path]
    assert lock.read_text(encoding="utf-8").startswith("# Release files that containers/pins.toml does not list")


def test_a_lock_file_that_cannot_be_written_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "config").touch()

    with pytest.raises(ArtefactError) as caught:
        first_seen.remember(tmp_path / "config" / "seen.toml", _pin(CAPS, SHA256))

    assert str(tmp_path / "config") in str(caught.value)


@pytest.mark.parametrize(("named", "why"), [("nowhere", "no such folder"), ("file", "not a folder")])
def test_a_mirror_that_is_named_has_to_be_there(tmp_path: Path, named: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="the mirror was not found") as caught:
        Sources.from_environment(tmp_path / named, {"HOME": "/h"})
    assert f"{tmp_path / named} (from --mirror)" in caught.value.where
    assert why in caught.value.why
    with pytest.raises(ArtefactError, match="from PYXIS_MATRIX_MIRROR"):
        Sources.from_environment(None, {"HOME": "/h", "PYXIS_MATRIX_MIRROR": str(tmp_path / named)})


def _put(place: Path | None, artefact: Artefact, content: bytes) -> Path:
    assert place is not None
    file = place / artefact.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def _pin(artefact: Artefact, sha256: str) -> Pin:
    return Pin(path=artefact.path, sha256=sha256, size=len(CONTENT), date=date(2026, 11, 25))


def _tar_pin(artefact: Artefact, tar: bytes) -> Pin:
    sha256 = hashlib.sha256(tar).hexdigest()
    return Pin(path=artefact.path, sha256=sha256, size=len(tar), date=date(2026, 11, 25), commit=COMMIT)


def _trusting(sources: Sources) -> Sources:
    """Return sources that take at first sight what nobody vouches for."""
    return replace(sources, first_seen=sources.cache.parent / "first-seen.toml")


def _not_there(*_arguments: object) -> NoReturn:
    raise WebError("HTTP 404 Not Found")
