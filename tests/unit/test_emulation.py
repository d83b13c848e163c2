"""Emulators: what the kernel says of them, what is refused without one, and what does not count with one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ci import environment_file, paths
from ci.artefacts import sources
from ci.artefacts.sources import Sources
from ci.cli import commands
from ci.cli.main import main
from ci.engine import emulation
from ci.engine.build_client import BuildClient
from ci.engine.connection import Engine
from ci.environment.launching import Environment
from ci.environment.plan import plan_environment
from ci.errors import BootstrapError, EngineError, NotRunError
from ci.images import base
from ci.images.building import COMPILE_EMULATED_VARIABLE, Builder
from ci.images.content import Content
from ci.images.plan import CellImages, ImagePlan
from ci.machine import emulation as setting_up
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import SlurmSource
from ci.options import Options
from ci.record import store
from ci.record.outcomes import Outcome
from ci.session import running
from ci.session.record import Record
from tests.support.emulation import MARKER, pytest_collection_modifyitems
from tests.support.report_logs import BEGIN, END, selection
from tests.unit.test_bootstrap import FEDORA, READY
from tests.unit.test_environment_file import FILE
from tests.unit.test_session import SKIPPED

QEMU = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: {flags}
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
# Another one: of a 32-bit ARM.
OTHER = QEMU.replace("b700", "2800")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that has the kernel know emulators, by name."""

    def known(**entries: str) -> Path:
        folder = tmp_path / "binfmt_misc"
        folder.mkdir(exist_ok=True)
        for name, text in {"register": "", "status": "enabled\n", **entries}.items():
            (folder / name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(emulation, "BINFMT", folder)
        return folder

    return known


@pytest.mark.parametrize("flags", ["OCF", "POCF", "POC F"])
def test_an_emulator_with_both_flags_is_found_by_what_it_runs_whatever_its_name(
    kernel: Callable[..., Path], flags: str
) -> None:
    kernel(arm=OTHER.format(flags="OCF"), anything=QEMU.format(flags=flags))
    assert emulation.obstacle(Arch.ARM64) is None
    found = emulation.obstacle(Arch.AMD64)
    assert found
    assert found.why == "no emulator for it is registered"


@pytest.mark.parametrize(
    ("flags", "why"), [("PF", "without the flag C the file capabilities"), ("OC", "without the flag F the emulator")]
)
def test_an_emulator_without_a_flag_does_not_do(kernel: Callable[..., Path], flags: str, why: str) -> None:
    kernel(qemu=QEMU.format(flags=flags))
    with pytest.raises(EngineError) as caught:
        emulation.check(Arch.ARM64)
    assert why in caught.value.why
    assert caught.value.next_step.startswith("ci/bootstrap --emulate")


def test_an_emulator_that_is_disabled_does_not_do(kernel: Callable[..., Path]) -> None:
    kernel(qemu=QEMU.format(flags="OCF").replace("enabled", "disabled"))
    found = emulation.obstacle(Arch.ARM64)
    assert found
    assert found.why == "it is disabled"


def test_a_kernel_where_nothing_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        monkeypatch.setattr(emulation, "BINFMT", folder)
        found = emulation.obstacle(Arch.ARM64)
        assert found
        assert found.next_step.startswith(f"mount -t binfmt_misc binfmt_misc {folder}")
        assert "arm64 hardware" in emulation.needed(Arch.ARM64)


# -- setting one up -------------------------------------------------------------------------------------------------


def test_bootstrap_installs_mounts_and_registers_with_the_flags() -> None:
    *packages, mount, register = setting_up.plan(READY, Arch.ARM64)
    assert packages[-1].command[-2:] == ("qemu-user-static", "arch-test")
    assert "mount -t binfmt_misc" in mount.command[-1]
    script = register.command[-1]
    # What its sed makes of the line that Debian's package brings.
    pattern, replacement = re.findall(r"sed 's/(.*)/(.*)/'", script)[0]
    line = ":qemu-aarch64:M::\\x7f:\\xff:/usr/libexec/qemu-binfmt/aarch64-binfmt-P:OPF"
    made = re.sub(pattern.replace("\\(", "(").replace("\\)", ")"), replacement, line)
    assert made == line + "CF"
    assert "qemu-aarch64" in script
    assert "qemu-x86_64" in setting_up.plan(READY, Arch.AMD64)[-1].command[-1]


@pytest.mark.parametrize(
    "facts", [replace(READY, root=False), replace(READY, distro=FEDORA), replace(READY, platform="darwin")]
)
def test_bootstrap_sets_none_up_elsewhere(facts: Any) -> None:  # noqa: ANN401 - see Facts
    with pytest.raises(BootstrapError) as caught:
        setting_up.plan(facts, Arch.ARM64)
    assert "tonistiigi/binfmt --install arm64" in caught.value.next_step


# -- building -------------------------------------------------------------------------------------------------------


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    """Return what builds on an amd64 engine."""
    api = SimpleNamespace(version=lambda: {"Arch": "amd64"})
    client = BuildClient(path=Path("/usr/bin/docker"), kind="docker", version="1")
    engine = Engine(api=cast("Any", api), found=cast("Any", SimpleNamespace(kind="docker")), build_client=client)
    return Builder(engine, Sources(cache=tmp_path), logs=tmp_path)


def test_without_an_emulator_a_cell_is_refused_before_anything_is_fetched_or_built(
    builder: Builder, kernel: Callable[..., Path]
) -> None:
    kernel()
    planned = cast("CellImages", SimpleNamespace(cell=SimpleNamespace(arch=Arch.ARM64)))
    with pytest.raises(EngineError, match="cannot run code of arm64"):
        builder.build(planned)


def test_no_slurm_is_compiled_under_emulation_unless_somebody_has_the_time(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    monkeypatch.setattr(builder, "_build", lambda content, *_more: built.append(content.plan.name))
    content = Content(
        plan=ImagePlan(folder="slurm-build", variant="25.11.7-debian12-arm64", arch=Arch.ARM64), parents={}
    )
    with pytest.raises(NotRunError) as caught:
        builder._make(content)
    assert "PYXIS_MATRIX_IMAGE_CACHE" in caught.value.next_step
    assert f"{COMPILE_EMULATED_VARIABLE}=1" in caught.value.next_step
    assert built == []
    native = Content(plan=replace(content.plan, arch=Arch.AMD64), parents={})
    builder._make(native)
    monkeypatch.setenv(COMPILE_EMULATED_VARIABLE, "1")
    builder._make(content)
    assert built == [content.plan.name] * 2


def test_a_slurm_that_is_not_compiled_keeps_no_other_cell_from_its_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def build(_builder: Builder, planned: CellImages) -> None:
        asked.append(planned.cell.id)
        if planned.cell.slurm.source is SlurmSource.ARCHIVE:
            raise NotRunError(f"{planned.slurm.name} is not compiled under emulation", why="it takes an hour")

    monkeypatch.setattr(commands, "connect", lambda: None)
    monkeypatch.setattr(sources, "missing", lambda *_: None)
    monkeypatch.setattr(Builder, "build", build)
    cells = ["slurm25.11.7-embedded-debian12-arm64", "slurm22.05-embedded-debian12-arm64"]
    words = ["--run", "run", "--results", str(tmp_path)]
    assert main(["images", *words, *cells]) == NotRunError.exit_code
    assert asked == cells
    said = capsys.readouterr().err
    assert "1 of 2 cells could not be built" in said
    assert f"{cells[0]}: slurm-archive 25.11.7-debian12-arm64 is not compiled" in said
    assert main(["images", *words, *cells[1:]]) == 0


def test_the_root_of_another_architecture_is_added_by_a_build(tmp_path: Path) -> None:
    root, context = tmp_path / "base.tar", tmp_path / "context"
    root.write_bytes(b"tar")
    base.as_context(root, context)
    assert (context / "base.tar").read_bytes() == b"tar"
    lines = (context / "Containerfile").read_text(encoding="utf-8").splitlines()
    assert lines == ["FROM scratch", "ADD base.tar /", 'CMD ["/bin/bash"]']


# -- tests that start a container -----------------------------------------------------------------------------------


class Item:
    """A test, as far as the plugin looks at it."""

    def __init__(self, *markers: str) -> None:
        """Have markers."""
        self.markers = list(markers)
        self.reasons: list[str] = []

    def get_closest_marker(self, name: str) -> str | None:
        """Return a marker."""
        return name if name in self.markers else None

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        """Add a marker."""
        assert marker.name == "skip"
        self.reasons.append(marker.kwargs["reason"])


@pytest.mark.parametrize("emulated", [True, False])
def test_only_tests_that_say_that_they_start_no_container_run_under_emulation(
    *, emulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "environment.json"
    environment_file.save(path, replace(FILE, arch="arm64", emulated=emulated))
    monkeypatch.setenv(environment_file.VARIABLE, str(path))
    starts, starts_none = Item("container_packaging"), Item("container_packaging", MARKER)
    pytest_collection_modifyitems(cast("Any", [starts, starts_none]))
    assert starts_none.reasons == []
    assert len(starts.reasons) == emulated
    assert all("arm64 is emulated" in it and "Run it on arm64 hardware" in it for it in starts.reasons)


# -- what a result says ---------------------------------------------------------------------------------------------

LEGACY, REAL = "slurm22.05-legacy-debian12-amd64", "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"


@pytest.mark.parametrize(
    ("cell", "ended", "command", "outcome", "exit_code"),
    [
        (REAL, 0, ("make",), Outcome.SKIPPED, NotRunError.exit_code),
        (REAL, 0, (), Outcome.SUCCEEDED, 0),  # a cluster for a person; no result is written
        (REAL, 1, ("make",), Outcome.FAILED, 1),
        (LEGACY, 0, ("make",), Outcome.SUCCEEDED, 0),  # it starts no containers
    ],
)
def test_what_passes_under_emulation_is_no_answer_for_a_cell_with_containers(
    tmp_path: Path, cell: str, ended: int, command: tuple[str, ...], outcome: Outcome, exit_code: int
) -> None:
    rows = loading.load()
    plan = plan_environment(rows.cell(cell), rows, Options(run="run", name="suite", results=tmp_path))
    record = Record(plan=plan, command=command)
    file = replace(FILE, emulated=True)
    record.environment = Environment(plan=plan, file=file, path=tmp_path, cluster=cast("Any", None))
    code, result = running.recorded(record, lambda: ended)
    assert (code, result.exit_code, result.outcome) == (exit_code, exit_code, outcome)
    assert ("was emulated" in result.reason) is (outcome is Outcome.SKIPPED)


def test_a_suite_whose_every_test_starts_a_container_is_not_run_under_emulation(tmp_path: Path) -> None:
    rows = loading.load()
    plan = plan_environment(rows.cell(REAL), rows, Options(run="run", name="registry", results=tmp_path, pytest=True))
    record = Record(plan=plan, command=("pytest",), command_started=True)
    file = replace(FILE, emulated=True)
    record.environment = Environment(plan=plan, file=file, path=tmp_path, cluster=cast("Any", None))

    def act() -> int:
        log = paths.make_directory(plan.options.folder(plan.cell)) / store.REPORT_LOG_FILE
        log.write_text(BEGIN + SKIPPED + selection(SKIPPED) + END, encoding="utf-8")
        return 0

    code, result = running.recorded(record, act)
    assert (code, result.outcome) == (NotRunError.exit_code, Outcome.SKIPPED)
    assert "was emulated" in result.reason
