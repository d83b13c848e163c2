"""A whole Debian machine under qemu: made of Debian's packages, booted, reached over SSH, and gone at the end.

It has systemd, cgroup v2 and AppArmor, and neither Python nor an engine. What it has to know of this machine's network
is put into it: certificate authorities, and settings of apt and pip.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import os
from pathlib import Path
import shlex
import shutil
import subprocess

from ci.environment.wait import NotYet, Watched, wait_for
from ci.errors import BootstrapError, LaunchError
from ci.matrix.arch import Arch
from ci.terminal import console
from ci.terminal.processes import Completed, last_lines

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
"""What is started here, and Debian's package of it."""
BOOT_SECONDS = 900.0
"""Limit of a boot: without KVM, on a machine that others use, it takes minutes."""
_PACKAGES = (
    *("linux-image-cloud-amd64", "systemd-sysv", "libpam-systemd", "dbus", "apparmor", "openssh-server"),
    *("ca-certificates", "git", "systemd-resolved", "systemd-timesyncd"),
)
_AUTHORITIES = Path("/usr/local/share/ca-certificates")
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_KVM = Path("/dev/kvm")
_MODULES = Path("/sys/module")


def check_programs(path: str | None = None) -> None:
    """Check that this machine can make and boot another one.

    :raises BootstrapError: if not, with the command that installs what is missing.
    """
    if Arch.host() is not Arch.AMD64 or os.geteuid() != 0:
        raise BootstrapError(
            "no machine can be made here",
            why="making its disk takes root, and its packages are those of amd64",
            next_step="run it as root on an amd64 machine",
        )
    if missing := {package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)}:
        raise BootstrapError(
            "programs that make and boot a machine are missing",
            where=", ".join(program for program, package in PROGRAMS.items() if package in missing),
            next_step=f"apt-get install {' '.join(sorted(missing))}",
        )


def accelerator(device: Path = _KVM, modules: Path = _MODULES) -> str:
    """Return ``kvm`` where the processor's own is there, else ``tcg``. A device alone says nothing.

    Other modules make one as well, that of a guest for example, and stock kernels die in it.
    """
    genuine = any((modules / name).is_dir() for name in ("kvm_intel", "kvm_amd"))
    return "kvm" if genuine and os.access(device, os.R_OK | os.W_OK) else "tcg"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a machine is."""

    cpus: int
    memory_mb: int
    disk: str
    """As truncate takes it; the file is sparse."""


@dataclass(frozen=True, kw_only=True)
class Virtual:
    """A machine; ``folder`` holds all that it is made of."""

    suite: str
    size: Size
    folder: Path
    port: int
    """Of this machine's loopback; leads to its sshd."""

    @property
    def log(self) -> Path:
        """What it wrote to its serial console."""
        return self.folder / "console.log"

    def make(self) -> None:
        """Make its disk, kernel and keys."""
        root = self.folder / "root"
        # What it mounts below the root only it sees: whatever ends it, nobody clears away a folder with /proc in it.
        alone = ("unshare", "--mount", "--propagation", "private")
        include = f"--include={','.join(_PACKAGES)}"
        options = ("--quiet", "--variant=important", *_apt_options("--aptopt="), include)
        _call(*alone, "mmdebstrap", *options, self.suite, root)
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "key")
        for path, text in self._files().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        (root / "root/.ssh").chmod(0o700)  # sshd takes no key from a folder that others may write to
        for certificate in _AUTHORITIES.glob("*.crt"):
            shutil.copy(certificate, root / _AUTHORITIES.relative_to("/"))
        _call("chroot", root, "update-ca-certificates")
        _call("chroot", root, "systemctl", "--quiet", "enable", "systemd-networkd", "ssh")
        host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="utf-8")
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}", encoding="utf-8")
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(next((root / "boot").glob(f"{name}-*")), self.folder / name)
        _call("truncate", "--size", self.size.disk, self.folder / "disk")
        _call("mkfs.ext4", "-q", "-d", root, self.folder / "disk")
        shutil.rmtree(root)

    def _files(self) -> dict[str, str]:
        """Return the files that make it reachable, and what it has to know of this machine's network."""
        variables = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
        pip = Path("/etc/pip.conf")
        return {
            "etc/systemd/network/80-dhcp.network": "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
            "etc/hostname": "debian\n",
            "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 debian\n",
            "etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n",
            "root/.ssh/authorized_keys": (self.folder / "key.pub").read_text(encoding="utf-8"),
            "etc/apt/apt.conf.d/90-network": "".join(f"{it};\n" for it in _apt_options()),
            "etc/environment": "".join(f"{name}={_BUNDLE}\n" for name in variables),
            **({"etc/pip.conf": pip.read_text(encoding="utf-8")} if pip.is_file() else {}),
        }

    def qemu(self, *disks: Path) -> list[str]:
        """Return the command that runs it; further ``disks`` are read-only."""
        kind = accelerator()
        drives = [f"file={self.folder / 'disk'},format=raw,if=virtio,cache=unsafe,discard=unmap"]
        drives += [f"file={disk},format=raw,if=virtio,readonly=on" for disk in disks]
        return [
            *("nice", "qemu-system-x86_64", "-accel", kind, "-cpu", "host" if kind == "kvm" else "max"),
            *("-smp", str(self.size.cpus), "-m", str(self.size.memory_mb)),
            *("-nodefaults", "-no-reboot", "-display", "none", "-serial", f"file:{self.log}"),
            *("-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd.img")),
            *("-append", "root=/dev/vda rw console=ttyS0"),
            *(word for drive in drives for word in ("-drive", drive)),
            *("-device", "virtio-rng-pci", "-device", "virtio-net-pci,netdev=n"),
            *("-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
        ]

    @contextmanager
    def booted(self, *disks: Path) -> Iterator[None]:
        """Have it running, and reachable; at the end it is switched off as by its plug, for nobody needs its disk."""
        with (self.folder / "qemu.log").open("wb") as output:
            # In a session of its own: Ctrl-C is for what goes on inside it, and it is ended here.
            process = subprocess.Popen(self.qemu(*disks), stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for(
                "boot",
                self._answers,
                limit=BOOT_SECONDS,
                poll=1.0,
                watched=Watched(
                    alive=lambda: process.poll() is None or f"qemu ended with status {process.returncode}",
                    diagnose=lambda: "\n".join(last_lines(self.log, 15) or last_lines(self.folder / "qemu.log", 15)),
                    hint="a machine without KVM boots in minutes; is there memory for it (--memory)?",
                ),
            )
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def _answers(self) -> bool | NotYet:
        done = subprocess.run(self._ssh("true"), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        return True if done.returncode == 0 else NotYet(done.stderr.strip() or "sshd does not answer")

    def _ssh(self, command: str) -> list[str]:
        # Emulated, on a machine that others use, its sshd has been seen to take half a minute to greet.
        options = ("BatchMode=yes", "ConnectTimeout=60", "LogLevel=ERROR")
        known = f"UserKnownHostsFile={self.folder / 'known_hosts'}"
        words = [word for option in (*options, known) for word in ("-o", option)]
        return ["ssh", "-i", str(self.folder / "key"), *words, "-p", str(self.port), "root@127.0.0.1", command]

    def run(self, command: str, log: Path) -> Completed:
        """Run a command line on it, by a login shell; what it writes is appended to ``log``."""
        return console.call(self._ssh(f"bash -lc {shlex.quote(command)}"), log=log)

    def put(self, folder: Path, destination: str) -> None:
        """Copy a folder's content into a new folder on it."""
        there = f"mkdir -p {destination} && tar -C {destination} -xf -"
        pipe = f"tar -C {shlex.quote(str(folder))} -cf - . | {shlex.join(self._ssh(there))}"
        _call("bash", "-o", "pipefail", "-c", pipe)


def _apt_options(prefix: str = "") -> list[str]:
    """Return this machine's settings of apt that concern the network and the dates of a mirror's lists."""
    wanted = ("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries")
    settings = _call("apt-config", "dump").output.splitlines()
    return [f"{prefix}{line.removesuffix(';')}" for line in settings if line.startswith(wanted)]


def _call(*words: str | Path) -> Completed:
    return console.call(words).check(LaunchError)
