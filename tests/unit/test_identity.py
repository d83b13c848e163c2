"""What a release file is: its bytes, or the tar inside it and the commit that stands there."""

import bz2
from collections.abc import Callable
import gzip
import hashlib
import io
import lzma
from pathlib import Path
import re
import tarfile

import pytest

from ci import paths
from ci.artefacts.identity import Identity, NotAnArchiveError, of_file, of_tag_archive, sha256_of
from ci.artefacts.pins import load_pins
from ci.artefacts.releases import artefacts_for, slurm_source
from ci.errors import ArtefactError
from ci.matrix import loading
from ci.matrix.arch import Arch
from tests.support.tag_archives import COMMIT, tag_tar

TAR = tag_tar()
CONTENT = Identity(sha256=hashlib.sha256(TAR).hexdigest(), size=len(TAR), commit=COMMIT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "v1.0.tar.gz"


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        lambda tar: gzip.compress(tar, compresslevel=1),
        lambda tar: gzip.compress(tar[:700]) + gzip.compress(tar[700:]),
        bz2.compress,
        lzma.compress,
        bytes,
    ],
    ids=["gzip", "gzip -1", "two members", "bzip2", "xz", "none"],
)
def test_a_tags_archive_is_known_by_its_content_however_it_is_compressed(
    file: Path, compress: Callable[[bytes], bytes]
) -> None:
    file.write_bytes(compress(TAR))

    assert of_tag_archive(file) == CONTENT


def test_another_file_inside_makes_another_archive(file: Path) -> None:
    file.write_bytes(gzip.compress(tag_tar(README=b"hallo\n")))

    found = of_tag_archive(file)

    assert (found.commit, found.size) == (COMMIT, len(TAR))
    assert found.sha256 != CONTENT.sha256


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(TAR)[:-20], "damaged or cut off"),
        (gzip.compress(TAR)[:40] + b"\xff" * 40 + gzip.compress(TAR)[80:], "damaged or cut off"),
        (bz2.compress(TAR)[:-20], "damaged or cut off"),
        (b"BZh9 is no bzip2 at all", "damaged or cut off"),
        (lzma.compress(TAR)[:-20], "damaged or cut off"),
        (b"", "no commit"),
        (b"<html>Not Found</html>", "no commit"),
        (gzip.compress(b"no tar"), "no commit"),
    ],
    ids=["cut gzip", "damaged gzip", "cut bzip2", "no bzip2", "cut xz", "empty", "page", "no tar"],
)
def test_what_is_no_such_archive_is_refused_with_the_cause(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)

    with pytest.raises(NotAnArchiveError, match=why):
        of_tag_archive(file)


def test_a_tar_that_git_has_not_made_is_refused(file: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("project-1.0/52 comment"))
    file.write_bytes(plain.getvalue())

    with pytest.raises(NotAnArchiveError, match="its header has no commit id"):
        of_tag_archive(file)


def test_no_more_is_unpacked_than_is_asked_for(file: Path) -> None:
    file.write_bytes(gzip.compress(TAR + bytes(50_000_000)))

    with pytest.raises(NotAnArchiveError, match=f"more than {len(TAR)} bytes"):
        of_tag_archive(file, largest=len(TAR))


def test_other_files_are_known_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "a.deb"
    file.write_bytes(b"deb")

    assert of_file(file) == Identity(sha256=hashlib.sha256(b"deb").hexdigest(), size=3)
    assert sha256_of(file) == of_file(file).sha256


@pytest.mark.parametrize("read", [of_file, of_tag_archive])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, read: Callable[[Path], Identity]) -> None:
    with pytest.raises(ArtefactError, match=re.escape(str(tmp_path / "gone"))):
        read(tmp_path / "gone")


@pytest.mark.project_matrix
def test_every_source_that_a_release_is_checked_with_is_pinned() -> None:
    """A release is checked with --strict (`.github/workflows/release.yml`); a new row may wait for its pins."""
    pins = load_pins(paths.PINS_FILE)
    cells = loading.load().cells("reference", Arch.AMD64)
    needed = {it.path for cell in cells for it in artefacts_for(cell) if it.is_tag_archive}

    assert needed
    assert sorted(needed - pins.keys()) == []


def test_the_pin_of_a_source_names_its_commit() -> None:
    pins = load_pins(paths.PINS_FILE)

    assert [path for path, pin in pins.items() if "/archive/refs/tags/" in path and not pin.commit] == []
    assert pins[slurm_source("25.11.7").path].commit == "f56e676bbd3e7cccbdd7c505c030c62bb983ebee"
