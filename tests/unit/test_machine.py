"""The whole machine that is booted: with which accelerator, which cells run in it, and what is said of its steps."""

from dataclasses import replace
import os
from pathlib import Path

import pytest

from ci.errors import BootstrapError, LaunchError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.terminal.processes import Completed
from tests.machine import __main__ as program
from tests.machine import virtual
from tests.machine.virtual import Size, Virtual
from tests.support.program import CheckFailedError

MACHINE = Virtual(suite="bookworm", size=Size(cpus=2, memory_mb=2048, disk="1G"), folder=Path("/made"), port=4711)


@pytest.mark.parametrize(
    ("device", "modules", "expected"),
    [
        (True, ["kvm", "kvm_intel"], "kvm"),
        (True, ["kvm", "kvm_amd"], "kvm"),
        (True, ["kvm", "kvm_pvm"], "tcg"),  # of a guest: it opens, and stock kernels die in it
        (False, ["kvm", "kvm_amd"], "tcg"),
        (False, [], "tcg"),
    ],
)
def test_kvm_is_taken_only_where_it_is_the_processors_own(
    tmp_path: Path, modules: list[str], expected: str, *, device: bool
) -> None:
    if device:
        (tmp_path / "kvm-device").touch()
    for name in modules:
        (tmp_path / "module" / name).mkdir(parents=True)
    assert virtual.accelerator(tmp_path / "kvm-device", tmp_path / "module") == expected


def test_the_machine_is_reached_on_loopback_only_and_carried_images_can_not_be_written_to() -> None:
    words = MACHINE.qemu(Path("/images.tar"))
    assert "user,id=n,hostfwd=tcp:127.0.0.1:4711-:22" in words
    assert "file=/images.tar,format=raw,if=virtio,readonly=on" in words
    assert next(words[place + 1] for place, word in enumerate(words) if word == "-drive").startswith("file=/made/disk")


def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(BootstrapError) as caught:
        virtual.check_programs(path="/nonexistent")
    assert caught.value.next_step == "apt-get install e2fsprogs mmdebstrap openssh-client qemu-system-x86"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BootstrapError, match="no machine can be made here"):
        virtual.check_programs()


@pytest.mark.parametrize("system", ["debian12", "debian13"])
def test_the_oldest_and_the_newest_slurm_of_a_system_run_there_embedded_and_legacy(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    matrix = loading.load()
    cells = program.chosen(matrix, system)
    assert {it.os.name for it in cells} == {system}
    assert {it.arch for it in cells} == {Arch.AMD64}
    for runtime in program.SUITES:
        there = {it.slurm.parsed for it in matrix.all_cells(None) if (it.os.name, it.runtime) == (system, runtime)}
        assert [it.slurm.parsed for it in cells if it.runtime is runtime] == sorted({min(there), max(there)})
    assert {it.runtime for it in cells} == {Runtime.EMBEDDED, Runtime.LEGACY}


def test_every_step_has_a_row_also_the_one_that_failed_or_was_broken_off(tmp_path: Path) -> None:
    steps = program.Steps(folder=tmp_path)

    def refuse(log: Path) -> str:
        raise CheckFailedError(f"exit code 1; see {log.name}")

    def break_off(_log: Path) -> str:
        raise KeyboardInterrupt

    def die(_log: Path) -> str:
        raise LaunchError("boot: died", where="somewhere")

    assert steps.take("make", lambda _log: "11 passed")
    assert not steps.take('nox -s "x(y)"', refuse)
    with pytest.raises(LaunchError):
        steps.take("boot", die)
    with pytest.raises(KeyboardInterrupt):
        steps.take("last", break_off)
    lines = steps.summary().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["make", 'nox -s "x(y)"', "boot", "last"]
    assert [line.rpartition(" s  ")[2] for line in lines] == [
        "11 passed",
        "FAILED: exit code 1; see 2-nox-s-x-y-.log",
        "FAILED: boot: died",
        "interrupted",
    ]


@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_a_suite_counted_is_in_its_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exit_code: int) -> None:
    output = "bootstrap: engine\n======= 1 failed, 10 passed in 324.10s (0:05:24) =======\nnox > done\n"
    done = Completed(command=("ssh",), exit_code=exit_code, output=output, log=tmp_path / "log")
    monkeypatch.setattr(Virtual, "run", lambda _self, _command, _log: done)
    machine = replace(MACHINE, folder=tmp_path)
    if exit_code == 0:
        assert program.in_clone(machine, "nox", tmp_path / "log") == "1 failed, 10 passed"
    else:
        with pytest.raises(CheckFailedError, match=r"exit code 1; 1 failed, 10 passed"):
            program.in_clone(machine, "nox", tmp_path / "log")
