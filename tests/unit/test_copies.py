"""What is hashed is what is built: a release file that is swapped meanwhile is one file from its check to the build."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
import gzip
import hashlib
from pathlib import Path

import pytest

from ci.artefacts import sources as module
from ci.artefacts.copies import take
from ci.artefacts.pins import Pin
from ci.artefacts.releases import Artefact, artefacts_for
from ci.artefacts.sources import Sources, fetch
from ci.errors import ArtefactError, ChecksumError
from tests.support.cells import REAL
from tests.support.tag_archives import COMMIT, tag_tar

PYXIS = artefacts_for(REAL)[2]
CONTENT = b"content"
TAR = tag_tar()
TAR_SHA256 = hashlib.sha256(TAR).hexdigest()
SWAPPED = gzip.compress(tag_tar(README=b"another version\n"))


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Return places that have nothing yet, and what is pinned."""
    pin = Pin(path=PYXIS.path, sha256=TAR_SHA256, size=len(TAR), date=date(2026, 11, 25), commit=COMMIT)
    return Sources(cache=tmp_path / "cache", mirror=tmp_path / "mirror", pins={PYXIS.path: pin})


def put(place: Path | None, artefact: Artefact, content: bytes) -> Path:
    assert place
    file = place / artefact.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.fixture(params=["mirror", "cache", "upstream", "candidate"])
def served(request: pytest.FixtureRequest, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> tuple[Artefact, Path]:
    """Return a release file of each source, and the file that somebody may change."""
    packed = gzip.compress(TAR, mtime=0)
    match request.param:
        case "mirror":
            return PYXIS, put(sources.mirror, PYXIS, packed)
        case "cache":
            return PYXIS, put(sources.cache, PYXIS, packed)
        case "candidate":
            file = put(sources.cache.parent / "mine", PYXIS, packed)
            return replace(PYXIS, path="candidates/pyxis/v.tar.gz", file=file), file
    arrived = put(sources.cache, Artefact(path=PYXIS.path.replace(PYXIS.name, ".download-1")), packed)

    @contextmanager
    def download(*_arguments: object) -> Iterator[Path]:
        yield arrived

    monkeypatch.setattr(module, "unreachable", lambda _base: None)
    monkeypatch.setattr(module, "downloaded", download)
    return PYXIS, arrived


def test_a_file_that_is_swapped_after_its_check_is_not_what_is_built(
    sources: Sources, served: tuple[Artefact, Path]
) -> None:
    artefact, file = served
    found = fetch(artefact, sources)
    (file if file.exists() else sources.cache / artefact.path).write_bytes(SWAPPED)

    assert found.path.read_bytes() == gzip.compress(TAR, mtime=0)
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256


@pytest.mark.parametrize("asks", ["identify", "of_tag_archive", "load_sums"])
def test_a_file_that_is_swapped_during_its_check_is_one_file_all_the_same(
    sources: Sources, served: tuple[Artefact, Path], asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checksum, content and commit are of one reading, at whatever step of the check the file is swapped."""
    artefact, file = served
    real = getattr(module, asks)

    def swapping(*given: object, **named: object) -> object:
        file.write_bytes(SWAPPED)
        return real(*given, **named)

    monkeypatch.setattr(module, asks, swapping)
    found = fetch(artefact, sources)

    packed = found.path.read_bytes()
    assert found.sha256 == hashlib.sha256(packed).hexdigest()
    assert found.content == hashlib.sha256(gzip.decompress(packed)).hexdigest() == TAR_SHA256


def test_a_copy_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    copy, sha256 = take(file, tmp_path / "copies")
    assert take(copy, tmp_path / "copies") == (copy, sha256)
    copy.chmod(0o600)
    copy.write_bytes(b"another")

    with pytest.raises(ChecksumError, match="was changed after it was copied"):
        take(copy, tmp_path / "copies")
    assert take(file, tmp_path / "copies") == (copy, sha256), "the file itself is taken anew"
    assert copy.read_bytes() == CONTENT


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="failed to copy gone"):
        take(tmp_path / "gone", tmp_path / "copies")
