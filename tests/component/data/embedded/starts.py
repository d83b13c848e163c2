"""Start steps of one container name at once, on a node, as the plugin does, and count the containers that come of it.

python3 starts.py ROUNDS    prints a line per round: how many steps started, in how many mount namespaces
"""

import os
from pathlib import Path
import signal
import subprocess
import sys

AT_ONCE = 8
FOLDER = Path("/var/lib/enroot-data/tmp/starts")
LOG_FD, REPLY_FD = 3, 4


def image() -> Path:
    """Make an image of the node's static busybox."""
    rootfs, target = FOLDER / "rootfs", FOLDER / "image.sqsh"
    (rootfs / "bin").mkdir(parents=True)
    (rootfs / "etc").mkdir()
    (rootfs / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    (rootfs / "bin/sh").chmod(0o755)
    subprocess.run(["mksquashfs", str(rootfs), str(target), "-quiet", "-no-progress"], check=True)
    return target


def start(number: int, name: str, image_path: Path, log: int) -> int:
    """Fork one start; the container's first process has its number in the end."""
    child = os.fork()
    if child == 0:
        os.dup2(log, 20)
        os.dup2(20, LOG_FD)
        os.dup2(20, REPLY_FD)
        options = [f"container-image={image_path}", f"container-name={name}"]
        words = ["enroot", "step", "start", f"id={number}.0", "tasks=1", "--", *options, "--"]
        os.execv("/usr/bin/enroot", words)  # noqa: S606 - as the plugin does
    return child


def main() -> int:
    FOLDER.mkdir()
    path = image()
    log = os.open(FOLDER / "log", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    for number in range(int(sys.argv[1])):
        children = [start(number * AT_ONCE + index, f"round-{number}", path, log) for index in range(AT_ONCE)]
        statuses = [os.waitpid(child, os.WUNTRACED)[1] for child in children]
        namespaces = {
            Path(f"/proc/{child}/ns/mnt").readlink()
            for child, status in zip(children, statuses, strict=True)
            if os.WIFSTOPPED(status)
        }
        sys.stdout.write(f"{sum(map(os.WIFSTOPPED, statuses))} started in {len(namespaces)}\n")
        for child, status in zip(children, statuses, strict=True):
            if os.WIFSTOPPED(status):  # ours, and not yet waited for
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
