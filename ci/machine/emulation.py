"""The steps behind ``ci/bootstrap --emulate``: let this machine run code of the other architecture.

Debian's packages register the emulator without the flag C. Then file capabilities have no effect, and enroot's helpers
need theirs. So the emulator is registered once more, with that flag; by a file below /etc systemd does the same at the
next boot.
"""

from ci.engine.emulation import BINFMT
from ci.errors import BootstrapError, set_up
from ci.machine.steps import Facts, SetupStep, StepKind, install
from ci.matrix.arch import Arch

_PACKAGES = ("qemu-user-static", "arch-test")  # mmdebstrap asks the second one whether the first one works


def plan(facts: Facts, arch: Arch) -> list[SetupStep]:
    """Return the steps, in order.

    :raises BootstrapError: if they can't be taken on this machine, with what to do instead.
    """
    if not (facts.root and facts.distro.installable and facts.platform == "linux"):
        raise BootstrapError(
            f"an emulator for {arch} is not set up here",
            why="that takes root, on Debian or Ubuntu",
            next_step=f"docker run --privileged --rm tonistiigi/binfmt --install {arch}, or {set_up()} as root",
        )
    name = f"qemu-{arch.uname}"
    # A file of the same name below /etc takes the place of the package's (binfmt.d(5)).
    known, kept, entry = f"/usr/lib/binfmt.d/{name}.conf", f"/etc/binfmt.d/{name}.conf", BINFMT / name
    register = (
        # The package's line ends in its flags: ":qemu-aarch64:M::…/aarch64-binfmt-P:OPF".
        f"mkdir -p /etc/binfmt.d && sed 's/:\\([A-Z]*\\)$/:\\1CF/' {known} > {kept}",
        # -1 removes an entry; one of the same name can't be added beside it. The next line adds it anew.
        # https://docs.kernel.org/admin-guide/binfmt-misc.html
        f"if [ -e {entry} ]; then echo -1 > {entry}; fi",
        f"cat {kept} > {BINFMT / 'register'}",
    )
    # systemd mounts it by itself; where none runs, nobody does.
    mount = f"[ -e {BINFMT / 'register'} ] || mount -t binfmt_misc binfmt_misc {BINFMT}"
    return [
        *install(_PACKAGES, facts.distro),
        _shell(f"have {BINFMT}, by which the kernel knows emulators", mount),
        _shell(f"register the emulator for {arch}", " && ".join(register)),
    ]


def _shell(title: str, script: str) -> SetupStep:
    return SetupStep(kind=StepKind.RUN, title=title, command=("/bin/sh", "-ec", script))
