"""Which release files a cell needs, and the order in which they are looked for."""

from datetime import date
import hashlib
from pathlib import Path

from packaging.version import Version
import pytest

from ci.artefacts import sources as module
from ci.artefacts.pins import Pin
from ci.artefacts.sources import Artefact, Sources, artefacts_for, fetch, missing
from ci.errors import ArtefactError, ChecksumError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, OperatingSystem, Runtime, SlurmVersion

DEBIAN12 = OperatingSystem(name="debian12", suite="bookworm")
PACKAGES = SlurmVersion(version="22.05")
CELL = Cell(
    slurm=PACKAGES,
    os=DEBIAN12,
    runtime=Runtime.NVIDIA,
    enroot=Version("3.4.1"),
    pyxis=Version("0.19.0"),
    arch=Arch.AMD64,
)
PYXIS = Artefact(path="NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz")
CONTENT = b"content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Empty places, and an upstream that does not answer."""
    monkeypatch.setattr(module, "unreachable", lambda _base: "the name does not resolve")
    return Sources(cache=tmp_path / "cache", mirror=tmp_path / "mirror", pins={PYXIS.path: _pin(PYXIS, SHA256)})


def test_a_cell_needs_both_enroot_packages_and_the_source_of_pyxis() -> None:
    assert [artefact.path for artefact in artefacts_for(CELL)] == [
        "NVIDIA/enroot/releases/download/v3.4.1/enroot_3.4.1-1_amd64.deb",
        "NVIDIA/enroot/releases/download/v3.4.1/enroot+caps_3.4.1-1_amd64.deb",
        "NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz",
    ]


def test_the_architecture_is_spelled_as_upstream_spells_it() -> None:
    arm = Cell(
        slurm=PACKAGES,
        os=DEBIAN12,
        runtime=Runtime.NVIDIA,
        enroot=Version("4.1.2"),
        pyxis=Version("0.24.0"),
        arch=Arch.ARM64,
    )

    assert artefacts_for(arm)[0].name == "enroot_4.1.2-1_arm64.deb"


def test_an_embedded_cell_needs_nothing_and_lacks_nothing(sources: Sources) -> None:
    embedded = Cell(slurm=PACKAGES, os=DEBIAN12, runtime=Runtime.EMBEDDED, arch=Arch.AMD64)

    assert artefacts_for(embedded) == ()
    assert missing(embedded, sources) is None


def test_the_mirror_comes_before_the_cache(sources: Sources) -> None:
    _put(sources.mirror, PYXIS, b"the mirror's own")
    _put(sources.cache, PYXIS, CONTENT)

    found = fetch(PYXIS, sources)

    assert (found.source, found.path) == ("mirror", sources.mirror and sources.mirror / PYXIS.path)


def test_a_mirror_file_is_held_against_the_mirrors_own_list(sources: Sources) -> None:
    _put(sources.mirror, PYXIS, b"own build")
    own = hashlib.sha256(b"own build").hexdigest()
    _put(sources.mirror, Artefact(path="SHA256SUMS"), f"{own}  {PYXIS.path}\n".encode())

    found = fetch(PYXIS, sources)

    assert (found.sha256, found.verified_against) == (own, "SHA256SUMS")


def test_a_mirror_file_unlike_its_list_is_refused_and_left_alone(sources: Sources) -> None:
    file = _put(sources.mirror, PYXIS, CONTENT)
    _put(sources.mirror, Artefact(path="SHA256SUMS"), f"{'0' * 64}  {PYXIS.path}\n".encode())

    with pytest.raises(ChecksumError) as caught:
        fetch(PYXIS, sources)

    assert all(part in str(caught.value) for part in (SHA256, "0" * 64, str(file)))
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(("content", "authority"), [(CONTENT, "pins.toml"), (b"own build", None)])
def test_without_a_list_the_result_says_what_vouches_for_a_mirror_file(
    sources: Sources, content: bytes, authority: str | None
) -> None:
    _put(sources.mirror, PYXIS, content)

    assert fetch(PYXIS, sources).verified_against == authority


def test_a_cache_entry_with_the_pinned_content_is_used(sources: Sources) -> None:
    file = _put(sources.cache, PYXIS, CONTENT)

    found = fetch(PYXIS, sources)

    assert (found.source, found.path, found.verified_against) == ("cache", file, "pins.toml")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_cache_entry_that_nothing_vouches_for_is_not_used(sources: Sources, *, pinned: bool) -> None:
    _put(sources.cache, PYXIS, b"damaged")
    places = Sources(cache=sources.cache, mirror=sources.mirror, pins=sources.pins if pinned else {})

    with pytest.raises(ArtefactError, match="found, but its sha256 is" if pinned else "found, but no checksum"):
        fetch(PYXIS, places)


def test_what_no_place_has_is_reported_with_all_places_and_the_remedy(sources: Sources) -> None:
    unpinned = artefacts_for(CELL)[0]

    with pytest.raises(ArtefactError) as caught:
        fetch(unpinned, sources)

    text = str(caught.value)
    assert f"mirror {sources.mirror}: not found" in text
    assert f"cache {sources.cache}: not found" in text
    assert "upstream https://github.com/: the name does not resolve" in text
    assert f"fetch https://github.com/{unpinned.path} elsewhere" in text


def test_missing_says_in_one_line_what_is_lacking_and_what_helps(sources: Sources) -> None:
    reason = missing(CELL, Sources(cache=sources.cache))

    assert reason is not None
    assert "\n" not in reason
    assert "enroot_3.4.1-1_amd64.deb (and 2 more) not found: mirror none was named" in reason
    assert "the name does not resolve" in reason
    assert "--mirror DIR or PYXIS_MATRIX_MIRROR" in reason


def test_nothing_is_missing_when_mirror_and_cache_have_it_together(sources: Sources) -> None:
    for artefact in artefacts_for(CELL)[:2]:
        _put(sources.mirror, artefact, b"any")
    _put(sources.cache, PYXIS, CONTENT)

    assert missing(CELL, sources) is None


def test_an_upstream_file_without_a_pin_is_missing_until_it_is_pinned(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "unreachable", lambda _base: None)
    monkeypatch.setattr(module, "probe", lambda _url: None)

    reason = missing(CELL, sources)

    assert reason is not None
    assert "(and 1 more)" in reason, "the third one is pinned"
    assert reason.endswith("record upstream's checksums with `nox -s pins`, and commit containers/pins.toml")


def test_places_come_from_the_environment_and_the_option_wins(tmp_path: Path) -> None:
    environ = {"PYXIS_MATRIX_MIRROR": str(tmp_path / "m"), "PYXIS_MATRIX_CACHE": str(tmp_path / "c")}
    for name in ("m", "option"):
        (tmp_path / name).mkdir()

    assert Sources.from_environment(environ=environ).mirror == tmp_path / "m"
    assert Sources.from_environment(environ=environ).cache == tmp_path / "c" / "artefacts"
    assert Sources.from_environment(tmp_path / "option", environ).mirror == tmp_path / "option"
    assert Sources.from_environment(environ={"HOME": "/h"}).mirror is None


@pytest.mark.parametrize(("named", "why"), [("nowhere", "no such folder"), ("file", "not a folder")])
def test_a_mirror_that_is_named_has_to_be_there(tmp_path: Path, named: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="the mirror is not found") as caught:
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
