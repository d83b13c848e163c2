"""What `nox -s pins` records, from a real https server on loopback that plays GitHub."""

from dataclasses import replace
from datetime import date
import gzip
import hashlib
from pathlib import Path

from ci.artefacts.pinning import write_pins
from ci.artefacts.pins import Pin, load_pins, save_pins
from ci.artefacts.releases import artefacts_for
from ci.artefacts.sources import Sources, fetch
from tests.component.github_stand_in import CAPS, DEB, ENROOT, PYXIS, TAR, GitHub
from tests.support.cells import REAL


def test_pins_record_what_upstream_serves_and_never_what_the_mirror_holds(
    upstream: GitHub, sources: Sources, tmp_path: Path
) -> None:
    del upstream.files[f"objects/{CAPS.path}"]
    mirror = tmp_path / "mirror"
    for artefact in (ENROOT, CAPS):
        (mirror / artefact.path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / artefact.path).write_bytes(b"own build")
    file = tmp_path / "pins.toml"
    old = Pin(path="some/other", sha256="0" * 64, size=1, date=date(2026, 11, 25))
    save_pins(file, [old, replace(sources.pins[PYXIS.path], commit="0" * 40)])

    written = write_pins([REAL], replace(sources, mirror=mirror), file)

    assert (written.added, written.changed, written.unchanged) == ([ENROOT.path], [PYXIS.path], [])
    assert written.unpinned == {CAPS.path: "HTTP 404 Not Found"}
    pins = load_pins(file)
    assert sorted(pins) == sorted([ENROOT.path, PYXIS.path, old.path])
    assert pins[ENROOT.path].sha256 == hashlib.sha256(DEB).hexdigest()
    assert pins[PYXIS.path].identity == sources.pins[PYXIS.path].identity


def test_pins_written_twice_are_the_same_file(upstream: GitHub, sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    write_pins([REAL], sources, file)
    first = file.read_bytes()
    upstream.publish(PYXIS.path, gzip.compress(TAR, compresslevel=1))

    again = write_pins([REAL], sources, file)

    assert file.read_bytes() == first
    assert sorted(again.unchanged) == sorted(it.path for it in artefacts_for(REAL))
    strict = replace(sources, pins=load_pins(file), first_seen=None)
    assert {fetch(it, strict).verified_against for it in artefacts_for(REAL)} == {"pins.toml"}


def test_pins_of_an_upstream_out_of_reach_stay_as_they_are(sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    save_pins(file, sources.pins.values())
    before = file.read_bytes()

    written = write_pins([REAL], replace(sources, upstream="https://nobody.invalid/"), file)

    assert list(written.kept) == [PYXIS.path]
    assert len(written.unpinned) == 2
    assert all("does not resolve" in why for why in written.unpinned.values())
    assert file.read_bytes() == before
