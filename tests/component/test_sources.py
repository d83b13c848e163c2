"""Downloads, against a real HTTP server on loopback that stands in for upstream."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import socket
import threading

from packaging.version import Version
import pytest

from ci.artefacts import download
from ci.artefacts.pins import Pin, load_pins, save_pins
from ci.artefacts.sources import Artefact, Sources, artefacts_for, fetch, missing, write_pins
from ci.errors import ArtefactError, ChecksumError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, OperatingSystem, Runtime, SlurmVersion

CELL = Cell(
    slurm=SlurmVersion(version="22.05"),
    os=OperatingSystem(name="debian12", suite="bookworm"),
    runtime=Runtime.NVIDIA,
    enroot=Version("3.4.1"),
    pyxis=Version("0.19.0"),
    arch=Arch.AMD64,
)
PYXIS = Artefact(path="NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz")


@dataclass(kw_only=True)
class Upstream:
    """A server whose files are set by the test."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    """Paths that redirect, as release files of GitHub do."""
    cut: set[str] = field(default_factory=set)
    """Paths whose connection breaks halfway."""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def pins(self) -> dict[str, Pin]:
        """Return the pins that fit the files."""
        return {path: _pin(path, content) for path, content in self.files.items()}


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """Serve until the test ends, with nothing remembered from the test before."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    download.probe.cache_clear()
    download.unreachable.cache_clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.upstream = Upstream(address=f"http://127.0.0.1:{server.server_address[1]}/")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.upstream  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        upstream: Upstream = self.server.upstream  # type: ignore[attr-defined]
        path = self.path.removeprefix("/")
        upstream.asked.append((self.command, path))
        if target := upstream.moved.get(path):
            self.send_response(302)
            self.send_header("Location", upstream.address + target)
            self.end_headers()
            return
        if path not in upstream.files:
            self.send_error(404)
            return
        content = upstream.files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if path in upstream.cut else content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' own word for it
        """Keep quiet."""


def test_a_download_is_verified_and_then_served_by_the_cache(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files[PYXIS.path] = b"source" * 1000
    sources = _sources(upstream, tmp_path)

    first, second = fetch(PYXIS, sources), fetch(PYXIS, sources)

    assert (first.source, first.verified_against) == ("upstream", "pins.toml")
    assert first.path.read_bytes() == b"source" * 1000
    assert (second.source, second.path, second.sha256) == ("cache", first.path, first.sha256)
    assert [method for method, path in upstream.asked if path == PYXIS.path] == ["GET"]


def test_redirects_are_followed(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files["elsewhere/file"] = b"source"
    upstream.moved[PYXIS.path] = "elsewhere/file"
    sources = _sources(upstream, tmp_path, pins={PYXIS.path: _pin(PYXIS.path, b"source")})

    assert fetch(PYXIS, sources).path.read_bytes() == b"source"


def test_other_content_than_pinned_is_refused_and_not_kept(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files[PYXIS.path] = b"tampered"
    sources = _sources(upstream, tmp_path, pins={PYXIS.path: _pin(PYXIS.path, b"source")})

    with pytest.raises(ChecksumError) as caught:
        fetch(PYXIS, sources)

    text = str(caught.value)
    assert all(hashlib.sha256(content).hexdigest() in text for content in (b"tampered", b"source"))
    assert "archives of tags are made on demand" in text
    assert "nox -s pins" in text
    assert _files(sources.cache) == []


def test_a_file_that_upstream_lacks_is_reported_with_its_answer(upstream: Upstream, tmp_path: Path) -> None:
    sources = _sources(upstream, tmp_path, pins={PYXIS.path: _pin(PYXIS.path, b"source")})

    with pytest.raises(ArtefactError, match="HTTP 404 Not Found"):
        fetch(PYXIS, sources)

    assert _files(sources.cache) == []


def test_a_connection_that_breaks_leaves_nothing_behind(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files[PYXIS.path] = b"source" * 1000
    upstream.cut.add(PYXIS.path)
    sources = _sources(upstream, tmp_path)

    with pytest.raises(ArtefactError, match="broken off after 3000 of 6000 bytes"):
        fetch(PYXIS, sources)

    assert _files(sources.cache) == []


def test_a_server_that_is_not_there_is_named_with_the_cause(upstream: Upstream, tmp_path: Path) -> None:
    with socket.socket() as held:
        # Bound but not listening: nobody else can take the port, and connections are refused.
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}/"
        sources = Sources(cache=tmp_path, upstream=address, pins={PYXIS.path: _pin(PYXIS.path, b"source")})

        with pytest.raises(ArtefactError, match=f"upstream {address}: Connection refused"):
            fetch(PYXIS, sources)

        reason = missing(CELL, sources)

    assert reason is not None
    assert "Connection refused" in reason
    assert upstream.asked == []


def test_a_damaged_cache_entry_is_had_anew(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files[PYXIS.path] = b"source"
    sources = _sources(upstream, tmp_path)
    fetch(PYXIS, sources).path.write_bytes(b"damaged")

    found = fetch(PYXIS, sources)

    assert (found.source, found.path.read_bytes()) == ("upstream", b"source")


def test_a_cache_that_cannot_be_written_is_reported(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files[PYXIS.path] = b"source"
    sources = _sources(upstream, tmp_path)
    sources.cache.write_text("a file, no folder")

    with pytest.raises(ArtefactError, match="PYXIS_MATRIX_CACHE"):
        fetch(PYXIS, sources)


def test_missing_asks_for_headers_once_and_downloads_nothing(upstream: Upstream, tmp_path: Path) -> None:
    for artefact in artefacts_for(CELL):
        upstream.files[artefact.path] = b"content"
    sources = _sources(upstream, tmp_path)

    assert missing(CELL, sources) is None
    assert missing(CELL, sources) is None
    assert {method for method, _path in upstream.asked} == {"HEAD"}
    assert len(upstream.asked) == 1 + len(artefacts_for(CELL))
    assert _files(sources.cache) == []


def test_missing_names_a_file_that_upstream_lacks(upstream: Upstream, tmp_path: Path) -> None:
    for artefact in artefacts_for(CELL)[:2]:
        upstream.files[artefact.path] = b"content"

    reason = missing(CELL, _sources(upstream, tmp_path))

    assert reason is not None
    assert reason.startswith(f"{PYXIS.path} not found: ")
    assert "HTTP 404" in reason


def test_pins_record_what_upstream_serves_and_never_what_the_mirror_holds(upstream: Upstream, tmp_path: Path) -> None:
    enroot, caps, pyxis = artefacts_for(CELL)
    upstream.files = {enroot.path: b"new", pyxis.path: b"changed"}
    mirror = tmp_path / "mirror"
    for artefact in (enroot, caps):
        (mirror / artefact.path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / artefact.path).write_bytes(b"own build")
    file = tmp_path / "pins.toml"
    old = _pin("some/other", b"of an earlier run")
    save_pins(file, [old, _pin(pyxis.path, b"as it was")])

    written = write_pins([CELL], _sources(upstream, tmp_path, mirror=mirror), file)

    assert (written.added, written.changed, written.unchanged) == ([enroot.path], [pyxis.path], [])
    assert written.unpinned == {caps.path: "HTTP 404 Not Found"}
    pins = load_pins(file)
    assert sorted(pins) == sorted([enroot.path, pyxis.path, old.path])
    assert pins[enroot.path].sha256 == hashlib.sha256(b"new").hexdigest()
    assert pins[pyxis.path].sha256 == hashlib.sha256(b"changed").hexdigest()


def test_pins_written_twice_are_the_same_file(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files = {artefact.path: artefact.path.encode() for artefact in artefacts_for(CELL)}
    file = tmp_path / "pins.toml"
    write_pins([CELL], _sources(upstream, tmp_path), file)
    first = file.read_bytes()

    again = write_pins([CELL], _sources(upstream, tmp_path), file)

    assert file.read_bytes() == first
    assert sorted(again.unchanged) == sorted(upstream.files)


def test_pins_of_an_upstream_out_of_reach_stay_as_they_are(upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    save_pins(file, [_pin(PYXIS.path, b"source")])
    before = file.read_bytes()

    written = write_pins([CELL], Sources(cache=tmp_path, upstream="http://nobody.invalid/"), file)

    assert list(written.kept) == [PYXIS.path]
    assert len(written.unpinned) == 2
    assert all("does not resolve" in why for why in written.unpinned.values())
    assert file.read_bytes() == before
    assert upstream.asked == []


def _sources(
    upstream: Upstream, tmp_path: Path, *, pins: dict[str, Pin] | None = None, mirror: Path | None = None
) -> Sources:
    pins = upstream.pins() if pins is None else pins
    return Sources(cache=tmp_path / "cache", mirror=mirror, upstream=upstream.address, pins=pins)


def _pin(path: str, content: bytes) -> Pin:
    return Pin(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content), date=date(2026, 11, 25))


def _files(folder: Path) -> list[Path]:
    return [entry for entry in folder.rglob("*") if entry.is_file()]
