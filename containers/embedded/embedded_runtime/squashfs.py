"""Squashfs files from root file systems and back."""

from collections.abc import Callable
import os
from pathlib import Path
import secrets
import subprocess

from .failure import Failure
from .settings import Settings
from .system import die_with_parent

MAGIC = b"hsqs"


def _run(command: list[str], what: str, prepare: Callable[[], None] | None = None) -> None:
    def before() -> None:
        die_with_parent()
        if prepare is not None:
            prepare()

    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=before,
    )
    if done.returncode != 0:
        raise Failure(what, tuple((done.stderr or done.stdout).strip().splitlines()[-5:]))


def check(path: Path) -> None:
    """Raise Failure unless the path is a squashfs file."""
    try:
        if not path.is_file():
            raise Failure(f"No such file or directory: {path}")
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise Failure(f"Invalid image format: {path}")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


def unpack(image: Path, rootfs: Path) -> None:
    """Write a squashfs file's content to a folder that does not exist yet."""
    check(image)
    _run(["unsquashfs", "-no-progress", "-user-xattrs", "-d", str(rootfs), str(image)], f"could not unpack {image}")
    # The user must be able to enter and change what is his, and has no capability for it.
    for folder, _, _ in os.walk(rootfs):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                mode = entry.stat(follow_symlinks=False).st_mode & 0o7777
                if mode & 0o700 != 0o700:  # noqa: PLR2004
                    Path(entry.path).chmod(mode | 0o700)


def pack(settings: Settings, rootfs: Path, target: Path, prepare: Callable[[], None] | None = None) -> None:
    """Write a folder to a squashfs file, which appears under its name only when it is complete.

    `prepare` is called in the writing process, before it starts: it may mount what the folder is to show.
    """
    if target.is_dir():
        raise Failure(f"{target} is a directory")
    if not target.parent.is_dir():
        raise Failure(f"No such file or directory: {target.parent}")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
    command = ["mksquashfs", str(rootfs), str(partial), "-noappend", "-all-root", "-no-progress", "-exit-on-error"]
    # The node's devices are mounted there; what a running container shows below is not the image's.
    command += [*settings.squashfs_options, "-wildcards", "-e", "dev/*"]
    try:
        _run(command, f"could not write {target}", prepare)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
