"""A login node that is this machine: a real bash, with a home of its own; Slurm and enroot are small programs."""

import asyncio
import os
from pathlib import Path
import subprocess

import asyncssh

from ci.environment.ssh import RemoteAnswer

SLURM, ENROOT, PYXIS = "22.05.8", "3.4.1", "0.19.0"
_PROGRAMS = {
    # number, name, command, folder; a job that is cancelled is gone.
    "squeue": """case "$*" in *--jobs=*) grep "^${2#--jobs=}|" "$HOME/jobs";; *--format=%A) cut -d'|' -f1 "$HOME/jobs";;
*) cat "$HOME/jobs";; esac""",
    "scancel": 'for job in "$@"; do echo "$job" >> "$HOME/cancelled"; sed -i "/^$job|/d" "$HOME/jobs"; done',
    "srun": f"""case $1 in --help) echo --container-image; exit;; --version) echo slurm-wlm {SLURM}; exit;; esac
case " $*" in *" --container-image="*) echo "no such image" >&2; exit 1;; esac
while case $1 in --*) true;; *) false;; esac; do shift; done; exec "$@\"""",
    "enroot": f"""case $1 in version) echo {ENROOT};; list) cat "$HOME/containers";;
remove) sed -i "/^$3\\$/d" "$HOME/containers";; esac""",
    "sinfo": "echo n1 idle all*",
    "scontrol": f"""echo "SLURM_VERSION = {SLURM}"; echo "PlugStackConfig = $HOME/plugstack.conf\"""",
}


class LoginNode:
    """A connection to it, as `ci.environment.ssh` has them."""

    def __init__(self, home: Path) -> None:
        """Make home and programs."""
        self.home = home
        (home / "bin").mkdir(parents=True)
        for name, text in _PROGRAMS.items():
            (home / "bin" / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
            (home / "bin" / name).chmod(0o755)
        for name in ("jobs", "containers"):
            (home / name).touch()
        (home / "plugstack.conf").write_text(f"required {home}/spank_pyxis.so\n", encoding="utf-8")
        (home / "spank_pyxis.so").write_bytes(b"\x7fELF\0GCC 10.2.1\0version v" + PYXIS.encode() + b"\0\xff")

    def run(self, command: str, **_: object) -> RemoteAnswer:
        """Run it by bash."""
        variables = {"HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", command], env=variables, capture_output=True, text=True, check=False)
        return RemoteAnswer(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    async def answer(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """Answer a command of a real SSH connection; others may come meanwhile."""
        done = await asyncio.to_thread(self.run, process.command or "")
        process.stdout.write(done.stdout)
        process.stderr.write(done.stderr)
        process.exit(done.status)
