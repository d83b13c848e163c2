"""New releases, from a real https server on loopback that plays GitHub: from its API to matrix.toml and pins.toml."""

from dataclasses import replace
import gzip
import hashlib
import json
from pathlib import Path

import pytest

from ci import paths
from ci.artefacts.pins import load_pins, save_pins
from ci.artefacts.sources import Sources
from ci.errors import ChecksumError, UpstreamError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.upstream.bump import BumpOutcome, take
from ci.upstream.github import GitHub as Api
from ci.upstream.news import look
from tests.component.github_stand_in import DEB, TAR, GitHub
from tests.support.tag_archives import COMMIT


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """Return a copy of the project's matrix, to be edited."""
    file = tmp_path / "matrix.toml"
    file.write_text(paths.MATRIX_FILE.read_text(encoding="utf-8"), encoding="utf-8")
    return file


@pytest.fixture
def pins(tmp_path: Path, sources: Sources) -> Path:
    """Return pins to be added to."""
    file = tmp_path / "pins.toml"
    save_pins(file, sources.pins.values())
    return file


@pytest.fixture
def published(upstream: GitHub) -> GitHub:
    """Have a new enroot, with checksums, a new Pyxis and a new patch of a Slurm series, with their tags."""
    names = [f"{package}_99.1.0-1_{arch}.deb" for arch in Arch for package in ("enroot", "enroot+caps")]
    digest = f"sha256:{hashlib.sha256(DEB).hexdigest()}"
    for name in names:
        upstream.publish(f"NVIDIA/enroot/releases/download/v99.1.0/{name}", DEB)
    upstream.publish("NVIDIA/pyxis/archive/refs/tags/v99.2.0.tar.gz", gzip.compress(TAR))
    assets = [{"name": name, "digest": digest} for name in names]
    _api(upstream, "NVIDIA/enroot/releases", [{"tag_name": "v99.1.0", "html_url": "https://e", "assets": assets}])
    _api(upstream, "NVIDIA/pyxis/releases", [{"tag_name": "v99.2.0"}, {"tag_name": "v99.3.0", "prerelease": True}])
    _api(upstream, "NVIDIA/pyxis/tags", [{"name": "v99.2.0", "commit": {"sha": COMMIT}}])
    upstream.publish("SchedMD/slurm/archive/refs/tags/slurm-25-11-99-1.tar.gz", gzip.compress(TAR))
    slurm = ("slurm-20-11-9-1", "slurm-25-11-99-1", "slurm-25-11-99-0rc1", "slurm-98-11-0-0rc1")
    _api(upstream, "SchedMD/slurm/tags", [{"name": name, "commit": {"sha": COMMIT}} for name in slurm])
    return upstream


def test_new_releases_are_in_the_matrix_and_pinned_and_then_nothing_is_new(
    published: GitHub, sources: Sources, matrix: Path, pins: Path
) -> None:
    before = matrix.read_text(encoding="utf-8")

    taken = _bump(published, sources, matrix, pins)

    assert [(new.axis, new.published.version) for new in taken.added] == [
        ("slurm", "25.11.99"),
        ("enroot", "99.1.0"),
        ("pyxis", "99.2.0"),
    ]
    assert taken.left == {}
    rows = loading.load(matrix)
    assert (rows.enroot[-1].name, rows.pyxis[-1].name) == ("99.1.0", "99.2.0")
    slurm = [row.name for row in rows.slurm]
    assert slurm[slurm.index("25.11.99") - 1].startswith("25.11.")
    assert set(before.splitlines()) <= set(matrix.read_text(encoding="utf-8").splitlines())
    recorded = load_pins(pins)
    assert recorded["NVIDIA/pyxis/archive/refs/tags/v99.2.0.tar.gz"].commit == COMMIT
    assert sum("v99.1.0" in path for path in recorded) == 2 * len(Arch)
    assert sources.pins.items() <= recorded.items()
    assert look(rows, Api(base=published.address)) == ()


def test_a_release_without_a_file_waits_and_the_others_are_taken(
    published: GitHub, sources: Sources, matrix: Path, pins: Path
) -> None:
    del published.files["objects/NVIDIA/enroot/releases/download/v99.1.0/enroot_99.1.0-1_arm64.deb"]

    taken = _bump(published, sources, matrix, pins)

    assert [new.axis for new in taken.added] == ["slurm", "pyxis"]
    ((new, why),) = taken.left.items()
    assert (new.axis, "enroot_99.1.0-1_arm64.deb: HTTP 404" in why) == ("enroot", True)
    assert "99.1.0" not in matrix.read_text(encoding="utf-8") + pins.read_text(encoding="utf-8")


@pytest.mark.parametrize("wrong", ["file", "commit"])
def test_a_file_unlike_what_the_api_says_is_refused_and_nothing_is_written(
    published: GitHub, sources: Sources, matrix: Path, pins: Path, wrong: str
) -> None:
    if wrong == "file":
        published.publish("NVIDIA/enroot/releases/download/v99.1.0/enroot+caps_99.1.0-1_amd64.deb", b"other")
    else:
        _api(published, "NVIDIA/pyxis/tags", [{"name": "v99.2.0", "commit": {"sha": "0" * 40}}])
    before = matrix.read_bytes(), pins.read_bytes()

    with pytest.raises(ChecksumError, match="is not what GitHub says of"):
        _bump(published, sources, matrix, pins)

    assert (matrix.read_bytes(), pins.read_bytes()) == before


def test_an_api_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(UpstreamError) as caught:
        look(loading.load(), Api(base="https://127.0.0.1:9/"))

    assert caught.value.where.startswith("https://127.0.0.1:9/repos/SchedMD/slurm/tags")
    assert "Connection refused" in caught.value.why
    assert "HTTPSConnection" not in caught.value.why


def _bump(upstream: GitHub, sources: Sources, matrix: Path, pins: Path) -> BumpOutcome:
    news = look(loading.load(matrix), Api(base=upstream.address))
    return take(news, replace(sources, first_seen=None), matrix=matrix, pins=pins)


def _api(upstream: GitHub, path: str, body: object) -> None:
    upstream.files[f"repos/{path}"] = json.dumps(body).encode()
