"""Code of another architecture: whether this machine's kernel runs it through an emulator (qemu-user, binfmt_misc).

With an emulator, images are built, clusters start, plugins load and imports work. A container does not start: that
takes a user namespace, which only a process with one thread can make, and an emulated process always has more.
"""

from pathlib import Path

from ci.engine.finding import read_text
from ci.errors import EngineError, set_up
from ci.matrix.arch import Arch

NO_CONTAINERS = "starting a container takes a process with one thread, and an emulated one has always more"
"""Why, in one sentence."""

BINFMT = Path("/proc/sys/fs/binfmt_misc")
# By the number in the header of a program (ELF's e_machine), as the kernel prints it.
_MACHINES = {Arch.AMD64: "3e00", Arch.ARM64: "b700"}
# Hexadecimal digits, two a byte: e_machine stands at byte 18.
_ELF, _MACHINE_AT = "7f454c46", 36
_FLAGS = {
    "F": "the emulator is looked for inside each container, where it is not",
    "C": "the file capabilities of enroot's helpers have no effect",
}
_FIX = f"{set_up()} --emulate (as root), or docker run --privileged --rm tonistiigi/binfmt --install {{}}"


def obstacle(arch: Arch) -> EngineError | None:
    """Return why this machine can't run code of another architecture in containers; None if it can."""
    there = sorted(entry.name for entry in BINFMT.iterdir()) if BINFMT.is_dir() else []
    # The kernel has this file wherever it is mounted; the folder is there without.
    if "register" not in there:
        return EngineError(
            f"this kernel cannot run code of {arch}",
            where=str(BINFMT),
            why="binfmt_misc, where emulators are registered, is not mounted",
            next_step=f"mount -t binfmt_misc binfmt_misc {BINFMT}, then {_FIX.format(arch)}",
        )
    what, where, why = f"this machine cannot run code of {arch}", BINFMT, "no emulator for it is registered"
    for name in there:
        # Lines are "enabled", "interpreter PATH", "flags: OCF", "magic 7f454c46…".
        said = dict(line.partition(" ")[::2] for line in (read_text(BINFMT / name) or "").splitlines())
        magic = said.get("magic", "")
        if magic.startswith(_ELF) and magic[_MACHINE_AT : _MACHINE_AT + 4] == _MACHINES[arch]:
            missing = [flag for flag in _FLAGS if flag not in said.get("flags:", "")]
            if not missing and "enabled" in said:
                return None
            what, where = f"the emulator for {arch} is registered with the wrong flags", BINFMT / name
            why = "; ".join(f"without the flag {flag} {_FLAGS[flag]}" for flag in missing) or "it is disabled"
            break
    return EngineError(what, where=str(where), why=why, next_step=_FIX.format(arch))


def needed(arch: Arch) -> str:
    """Return in one line why no part of a cell of another architecture runs here; empty if a part does."""
    found = obstacle(arch) if arch is not Arch.host() else None
    if not found:
        return ""
    return f"it needs {arch} hardware, or an emulator for a part of it ({found.what}: {found.why}): {found.next_step}"


def check(arch: Arch) -> None:
    """Refuse to build for another architecture if this machine can't run the programs in the images.

    :raises EngineError: with the command that registers an emulator.
    """
    if found := obstacle(arch):
        raise found
