"""Building in bad weather: the real client's own words, told apart into full disk, fault and lack of material."""

from collections.abc import Callable
from dataclasses import replace
import hashlib
from pathlib import Path

import pytest

from ci import paths
from ci.artefacts import sources
from ci.artefacts.releases import artefacts_for
from ci.artefacts.sources import Sources
from ci.cli.main import main
from ci.engine.connection import Engine
from ci.errors import ArtefactError, BuildError, ChecksumError, DiskFullError, LaunchError, NotRunError
from ci.images.building import Builder, BuiltCell
from ci.images.content import Content
from ci.images.plan import ImagePlan
from ci.matrix.cells import Cell
from ci.matrix.loading import load
from ci.record import store
from ci.record.outcomes import Outcome
from tests.component.weather import LEGACY

REAL = LEGACY.replace("legacy", "enroot3.4.1-pyxis0.19.0")


@pytest.fixture
def build(
    engine: Engine, images: BuiltCell, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Return a function that builds an image with one instruction of the test's own, and returns the log's path."""

    def built(instruction: str) -> Path:
        folder = tmp_path / "containers" / "weather"
        folder.mkdir(parents=True)
        (folder / "Containerfile").write_text(f"ARG NODE\nFROM $NODE\n{instruction}\n", encoding="utf-8")
        (folder.parent / "shared").mkdir()
        monkeypatch.setattr(paths, "CONTAINERS", folder.parent)
        wanted = ImagePlan(
            folder="weather", variant=tmp_path.name, arch=cell.arch, build_args={"NODE": images.node.tag}
        )
        try:
            Builder(engine, Sources.from_environment(), logs=tmp_path).ensure(wanted)
        finally:
            assert not engine.image_exists(Content(plan=wanted, parents={}).tag)
        return tmp_path

    return built


def test_a_disk_that_fills_up_during_a_build_is_told_apart(build: Callable[[str], Path]) -> None:
    with pytest.raises(DiskFullError) as caught:
        build("RUN dd if=/dev/zero of=/dev/full count=1")  # writing to that device always fails, with these very words
    assert "docker system df" in caught.value.next_step


def test_a_build_that_fails_names_the_log_and_shows_its_end(build: Callable[[str], Path]) -> None:
    with pytest.raises(BuildError) as caught:
        build("RUN echo what went wrong >&2; exit 9")
    assert "what went wrong" in str(caught.value)
    assert "what went wrong" in Path(caught.value.where).read_text(encoding="utf-8")


def test_an_image_larger_than_what_is_free_is_not_begun(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine.api
    monkeypatch.setattr("ci.engine.host.free_bytes", lambda _path: 10**8)
    arguments = ["run", LEGACY, "--run", run, "--results", str(tmp_path), "--", "true"]
    assert main(arguments) == DiskFullError.exit_code
    assert "only 0.1 GiB are free" in capsys.readouterr().err


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(("tar: write error: No space left on device", DiskFullError), id="disk full"),
        pytest.param(("E: Failed to fetch http://127.0.0.1:9/dists: connection refused", BuildError), id="no network"),
    ],
)
def test_a_base_image_that_can_not_be_made_is_one_error_and_stands_in_the_result(
    *,
    run: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nothing_left: Callable[[], None],
    failure: tuple[str, type[LaunchError]],
) -> None:
    words, kind = failure
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 25\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("PYXIS_MATRIX_DEBIAN_MIRROR", f"http://127.0.0.1:9/{tmp_path.name}")

    assert main(["run", LEGACY, "--run", run, "--results", str(tmp_path), "--", "true"]) == kind.exit_code

    assert capsys.readouterr().err.count("] error: ") == 1
    nothing_left()
    result = store.load(tmp_path / run / LEGACY / "command" / store.RESULT_FILE)
    assert (result.outcome, result.exit_code) == (Outcome.ERROR, kind.exit_code)
    assert "bookworm" in result.reason


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Sources]:
    """Have a machine without network, with an empty cache and an empty mirror; return what looks for artefacts."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    there = replace(
        Sources.from_environment(mirror), cache=tmp_path / "artefacts", upstream="https://127.0.0.1:9/", mirror=mirror
    )
    monkeypatch.setattr(Sources, "from_environment", lambda *_given, **_more: there)
    return lambda: there


def test_artefacts_that_no_place_has_are_named_with_the_remedy(
    offline: Callable[[], Sources], run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", REAL, "--run", run, "--results", str(tmp_path), "--", "true"]) == ArtefactError.exit_code
    error = capsys.readouterr().err
    assert "NVIDIA/enroot/releases/download/v3.4.1/enroot_3.4.1-1" in error
    assert f"mirror {offline().mirror}: not found" in error
    assert "connection refused" in error.lower()
    assert sources.missing(load().cell(REAL), offline()) is not None


@pytest.mark.parametrize(("words", "outcome"), [([], Outcome.SKIPPED), (["--strict"], Outcome.ERROR)])
def test_a_group_skips_what_has_no_artefacts_and_strictly_it_is_an_error(
    offline: Callable[[], Sources], run: str, tmp_path: Path, words: list[str], outcome: Outcome
) -> None:
    assert sources.missing(load().cell(REAL), offline()) is not None

    code = main(["matrix", REAL, "--suite", "pyxis_basic", *words, "--run", run, "--results", str(tmp_path)])

    result = store.load(tmp_path / run / REAL / "pyxis_basic" / store.RESULT_FILE)
    assert (code, result.outcome, "not found: mirror" in result.reason) == (NotRunError.exit_code, outcome, True)


def test_an_artefact_with_another_checksum_is_refused(
    offline: Callable[[], Sources], run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = offline().mirror
    assert mirror
    listed = hashlib.sha256(b"as released").hexdigest()
    for artefact in artefacts_for(load().cell(REAL)):
        file = mirror / artefact.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"changed on the way")
        with (mirror / sources.SUMS_FILE).open("a", encoding="utf-8") as sums:
            sums.write(f"{listed}  {artefact.path}\n")
    assert main(["run", REAL, "--run", run, "--results", str(tmp_path), "--", "true"]) == ChecksumError.exit_code
    error = capsys.readouterr().err
    assert listed in error
    assert hashlib.sha256(b"changed on the way").hexdigest() in error
