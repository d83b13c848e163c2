"""Downloads, from a real https server on loopback that plays GitHub (`tests.component.github_stand_in`)."""

from dataclasses import replace
from datetime import date
import gzip
import hashlib
from pathlib import Path
import socket
import subprocess

import pytest

from ci import web
from ci.artefacts.identity import of_file, of_tag_archive
from ci.artefacts.pins import Pin
from ci.artefacts.releases import Artefact, artefacts_for
from ci.artefacts.sources import Sources, fetch, missing
from ci.errors import ArtefactError, ChecksumError
from ci.matrix.cells import SlurmSource, SlurmVersion
from tests.component.github_stand_in import DEB, ENROOT, PYXIS, TAR, GitHub
from tests.support.cells import REAL
from tests.support.tag_archives import COMMIT, tag_tar


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the seconds of each wait, in place of waiting."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


# -- the way of somebody new ----------------------------------------------------------------------------------------


def test_an_empty_cache_gets_all_files_of_a_real_cell_and_the_next_run_needs_no_network(
    upstream: GitHub, sources: Sources, told: list[str]
) -> None:
    assert missing(REAL, sources) is None
    assert {method for method, _path in upstream.asked} == {"HEAD"}

    first = [fetch(artefact, sources) for artefact in artefacts_for(REAL)]

    assert [(it.source, it.verified_against) for it in first] == [
        ("upstream", "first seen"),
        ("upstream", "first seen"),
        ("upstream", "pins.toml"),
    ]
    assert first[0].path.read_bytes() == DEB
    assert (first[2].commit, first[2].content) == (COMMIT, hashlib.sha256(TAR).hexdigest())
    assert [ENROOT.name in text and "no pinned checksum" in text for text in told] == [True, False]
    asked = len(upstream.asked)
    offline = replace(sources, upstream="https://127.0.0.1:9/")

    again = [fetch(artefact, offline) for artefact in artefacts_for(REAL)]

    assert missing(REAL, offline) is None
    assert [(it.source, it.path, it.verified_against) for it in again] == [
        ("cache", it.path, it.verified_against) for it in first
    ]
    assert len(upstream.asked) == asked


def test_a_cell_with_a_slurm_release_gets_its_archive_from_the_tag(upstream: GitHub, sources: Sources) -> None:
    cell = replace(REAL, slurm=SlurmVersion(version="25.11.7", source=SlurmSource.ARCHIVE))
    slurm = artefacts_for(cell)[0]
    tar = tag_tar("5" * 40, META=b"Name: slurm\n")
    upstream.publish(slurm.path, gzip.compress(tar))
    pin = replace(sources.pins[PYXIS.path], path=slurm.path, sha256=hashlib.sha256(tar).hexdigest(), size=len(tar))
    pinned = replace(sources, pins={**sources.pins, slurm.path: replace(pin, commit="5" * 40)})

    assert missing(cell, pinned) is None
    found = [fetch(artefact, pinned) for artefact in artefacts_for(cell)]

    assert (found[0].served, found[0].verified_against) == (slurm.path, "pins.toml")
    assert {it.source for it in found} == {"upstream"}
    assert not any("schedmd" in path for _method, path in upstream.asked)


def test_what_was_first_seen_holds_for_a_later_download(upstream: GitHub, sources: Sources) -> None:
    fetch(ENROOT, sources)
    (sources.cache / ENROOT.path).unlink()
    assert fetch(ENROOT, sources).verified_against == "first seen"
    fetch(ENROOT, sources)
    (sources.cache / ENROOT.path).unlink()
    upstream.publish(ENROOT.path, b"something else")

    with pytest.raises(ChecksumError) as caught:
        fetch(ENROOT, sources)

    text = str(caught.value)
    assert all(hashlib.sha256(content).hexdigest() in text for content in (b"something else", DEB))
    assert f"remove its entry from {sources.first_seen}" in text
    assert _files(sources.cache) == []


def test_a_pin_outranks_what_was_first_seen(upstream: GitHub, sources: Sources, tmp_path: Path) -> None:
    fetch(ENROOT, sources)
    upstream.publish(ENROOT.path, b"as the maintainers have it")
    pinned = replace(sources, pins=_pins(ENROOT, _file(tmp_path, b"as the maintainers have it")))

    found = fetch(ENROOT, pinned)

    assert (found.source, found.verified_against) == ("upstream", "pins.toml")


def test_strict_takes_nothing_at_first_sight_and_says_how_to_pin_it(upstream: GitHub, sources: Sources) -> None:
    fetch(ENROOT, sources)
    strict = replace(sources, first_seen=None)

    reason = missing(REAL, strict)
    with pytest.raises(ArtefactError, match="--strict refuses such files") as caught:
        fetch(ENROOT, strict)

    assert reason is not None
    assert reason.startswith(f"{ENROOT.path} (and 1 more) not found")
    assert "nox -s pins" in caught.value.next_step
    assert fetch(PYXIS, strict).verified_against == "pins.toml"
    assert upstream.gets(f"objects/{ENROOT.path}") == 1


# -- archives of tags -----------------------------------------------------------------------------------------------


def test_another_compression_of_the_same_tag_is_taken(upstream: GitHub, sources: Sources) -> None:
    upstream.publish(PYXIS.path, gzip.compress(TAR, compresslevel=1))

    found = fetch(PYXIS, sources)

    assert (found.source, found.verified_against) == ("upstream", "pins.toml")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(tag_tar(Makefile=b"bad\n")), "it is a tar of commit"),
        (gzip.compress(tag_tar("0" * 40, Makefile=b"all:\n")), f"it is a tar of commit {'0' * 40}"),
        (gzip.compress(TAR + bytes(10**8)), f"unpacks to more than {len(TAR)} bytes"),
        (b"<html>a login page</html>", "not a tar made by git archive"),
    ],
    ids=["content", "commit", "bomb", "no archive"],
)
def test_what_is_not_the_tag_is_refused_and_not_kept(
    upstream: GitHub, sources: Sources, content: bytes, why: str
) -> None:
    upstream.publish(PYXIS.path, content)

    with pytest.raises(ChecksumError, match=why) as caught:
        fetch(PYXIS, sources)

    assert f"on 2026-11-25 it was a tar of commit {COMMIT}" in str(caught.value)
    assert "nox -s pins" in caught.value.next_step
    assert _files(sources.cache) == []


def test_an_archive_that_upstream_has_removed_is_had_from_the_second_address(
    upstream: GitHub, sources: Sources
) -> None:
    upstream.files["page/slurm-25.11.7.tar.bz2"] = b"bzip2"
    slurm = _slurm(upstream)

    found = fetch(slurm, sources)

    assert (found.artefact, found.served) == (slurm, "page/slurm-25.11.7.tar.bz2")
    assert (found.source, found.verified_against) == ("upstream", "first seen")
    assert fetch(slurm, sources).source == "cache"


def test_an_archive_that_is_removed_everywhere_names_release_and_addresses(upstream: GitHub, sources: Sources) -> None:
    with pytest.raises(ArtefactError) as caught:
        fetch(_slurm(upstream), sources)

    text = str(caught.value)
    assert "(Slurm 25.11.7)" in text
    assert f"upstream {upstream.address}slurm-25-11-7-1.tar.gz: HTTP 404 Not Found" in text
    assert f"upstream {upstream.other}page/slurm-25.11.7.tar.bz2: HTTP 404 Not Found" in text
    assert "--mirror DIR" in text


def test_what_git_itself_makes_of_a_tag_is_known_by_its_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        command = ["git", *identity, "-C", str(tmp_path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "Makefile").write_text("all:\n", encoding="utf-8")
    git("add", "Makefile")
    git("commit", "--quiet", "--message", "one")
    git("tag", "--annotate", "--message", "a release", "v1")
    file = tmp_path / "v1.tar.gz"
    git("archive", "--format=tar.gz", "--prefix=project-1/", f"--output={file}", "v1")

    found = of_tag_archive(file)

    assert found.commit == git("rev-parse", "v1^{commit}")
    assert found.sha256 == hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()


# -- what goes wrong on the way -------------------------------------------------------------------------------------


def test_a_connection_that_breaks_once_is_tried_again(upstream: GitHub, sources: Sources, told: list[str]) -> None:
    upstream.cut[f"objects/{ENROOT.path}"] = 1

    assert fetch(ENROOT, sources).path.read_bytes() == DEB
    assert "broken off after 3500 of 7000 bytes; trying again" in told[0]


@pytest.mark.parametrize(
    ("artefact", "why"), [(ENROOT, "broken off after 3500 of 7000 bytes"), (PYXIS, "broken off: ")], ids=str
)
def test_a_connection_that_always_breaks_leaves_nothing_behind(
    upstream: GitHub, sources: Sources, artefact: Artefact, why: str
) -> None:
    upstream.cut[f"objects/{artefact.path}"] = 99

    with pytest.raises(ArtefactError, match=f"{why}.*3 tries"):
        fetch(artefact, sources)

    assert _files(sources.cache) == []
    assert sources.first_seen is not None
    assert not sources.first_seen.exists()


def test_a_file_of_unknown_length_is_not_taken_for_whole(upstream: GitHub, sources: Sources) -> None:
    upstream.endless.add(f"objects/{ENROOT.path}")

    with pytest.raises(ArtefactError, match="does not say how long the file is"):
        fetch(ENROOT, sources)


def test_a_busy_server_is_asked_again_when_it_says(
    upstream: GitHub, sources: Sources, told: list[str], waits: list[float]
) -> None:
    upstream.busy[ENROOT.path] = [(429, "7"), (503, "")]

    assert fetch(ENROOT, sources).path.read_bytes() == DEB
    assert waits == [7.0, 5.0]
    assert told[0] == f"{upstream.address}{ENROOT.path}: HTTP 429 Too Many Requests; waiting 7 s"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (
            [(429, "3600")],
            "HTTP 429 Too Many Requests; it asks for a wait of 3600 s, and 120 s is",
        ),
        ([(429, "100"), (429, "100")], "it asks for a wait of 100 s"),
        ([(429, "0")] * 9, r"HTTP 429 Too Many Requests \(3 tries\)"),
    ],
)
def test_patience_with_a_busy_server_ends(
    upstream: GitHub,
    sources: Sources,
    waits: list[float],
    answers: list[tuple[int, str]],
    why: str,
) -> None:
    upstream.busy[ENROOT.path] = answers

    with pytest.raises(ArtefactError, match=why):
        fetch(ENROOT, sources)

    assert sum(waits) <= web.LONGEST_WAIT
    assert upstream.gets(ENROOT.path) <= 3


def test_a_redirect_to_plain_http_is_refused(upstream: GitHub, sources: Sources) -> None:
    upstream.moved[ENROOT.path] = upstream.other.replace("https:", "http:") + "objects/file?signature=secret"

    with pytest.raises(ArtefactError, match=r"redirects to http://localhost.*only https is allowed") as caught:
        fetch(ENROOT, sources)

    assert "secret" not in str(caught.value)
    assert "only https is allowed" in (missing(REAL, sources) or "")


def test_plain_http_is_not_even_asked(upstream: GitHub, sources: Sources) -> None:
    with pytest.raises(ArtefactError, match="only https is allowed"):
        fetch(ENROOT, replace(sources, upstream=upstream.address.replace("https:", "http:")))

    assert upstream.asked == []


def test_a_server_with_a_strangers_certificate_is_not_believed(
    upstream: GitHub, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(ArtefactError, match="its certificate is not trusted"):
        fetch(ENROOT, sources)

    assert upstream.asked == []


def test_a_file_that_upstream_lacks_is_reported_with_its_answer(upstream: GitHub, sources: Sources) -> None:
    del upstream.files[f"objects/{PYXIS.path}"]

    with pytest.raises(ArtefactError, match="HTTP 404 Not Found"):
        fetch(PYXIS, sources)

    reason = missing(REAL, sources)
    assert reason is not None
    assert reason.startswith(f"{PYXIS.path} not found: ")
    assert "HTTP 404" in reason
    assert _files(sources.cache) == []


def test_a_server_that_is_not_there_is_named_with_the_cause(sources: Sources) -> None:
    with socket.socket() as held:
        # Bound but not listening: nobody else can take the port, and connections are refused.
        held.bind(("127.0.0.1", 0))
        dead = replace(sources, upstream=f"https://127.0.0.1:{held.getsockname()[1]}/")

        with pytest.raises(ArtefactError, match=f"upstream {dead.upstream}{PYXIS.path}: Connection refused"):
            fetch(PYXIS, dead)

        assert "Connection refused" in (missing(REAL, dead) or "")


def test_a_damaged_cache_entry_is_had_anew(sources: Sources) -> None:
    for artefact in (ENROOT, PYXIS):
        fetch(artefact, sources)
        (sources.cache / artefact.path).write_bytes(b"damaged")

        assert fetch(artefact, sources).source == "upstream"
        assert fetch(artefact, sources).source == "cache"


def test_a_cache_that_cannot_be_written_is_reported(sources: Sources) -> None:
    sources.cache.write_text("a file, no folder")

    with pytest.raises(ArtefactError, match="PYXIS_MATRIX_CACHE"):
        fetch(PYXIS, sources)


def test_missing_asks_for_headers_once(upstream: GitHub, sources: Sources) -> None:
    assert missing(REAL, sources) is None
    asked = len(upstream.asked)

    assert missing(REAL, sources) is None
    assert len(upstream.asked) == asked
    assert _files(sources.cache) == []


def _slurm(upstream: GitHub) -> Artefact:
    page = Artefact(path="page/slurm-25.11.7.tar.bz2", base=upstream.other, release="Slurm 25.11.7")
    return Artefact(path="slurm-25-11-7-1.tar.gz", release="Slurm 25.11.7", instead=(page,))


def _pins(artefact: Artefact, file: Path) -> dict[str, Pin]:
    return {artefact.path: Pin(path=artefact.path, **vars(of_file(file)), date=date(2026, 11, 25))}


def _file(folder: Path, content: bytes) -> Path:
    file = folder / "content"
    file.write_bytes(content)
    return file


def _files(folder: Path) -> list[Path]:
    return [entry for entry in folder.rglob("*") if entry.is_file()]
