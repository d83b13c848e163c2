"""Layers into a root file system, with whiteouts, opaque directories, gzip, zstd or no compression.

umoci 0.4.7, which Debian 12 and 13 have, knows no zstd and hashes every file it wrote; this module does neither. A
child process does the work: root of its own user namespace (so that a directory's mode does not stop it) and chrooted
(so that no symbolic link of the image leads outside).
"""

# A layer has ten thousand members, and Path objects would double the time they take.
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH112, PTH114, PTH118, PTH120, PTH208, PTH211

from collections.abc import Callable, Iterable, Iterator
import contextlib
import os
from pathlib import Path
import shutil
import stat
import subprocess
import tarfile
import traceback
from typing import IO

from .failure import Failure
from .system import die_with_parent, enter_user_namespace

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
CHUNK = 1 << 20


def in_rootfs(rootfs: Path, work: Callable[[], None]) -> None:
    """Call `work` in a child process that sees `rootfs` as / and may do there what root may; raises Failure."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            die_with_parent()
            enter_user_namespace(as_root=True)
            os.chroot(rootfs)
            os.chdir("/")
            os.umask(0)
            work()
            status = 0
        except (OSError, EOFError, tarfile.TarError, Failure) as error:
            os.write(writer, str(error).encode()[:4000])
        except BaseException:  # noqa: BLE001 - nothing may run past os._exit
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        message = stream.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise Failure(message or f"unpacking ended with status {status}")


def unpack(rootfs: Path, layers: Iterable[Path], finish: Callable[[], None]) -> None:
    """Apply layers, lowest first, to an empty folder, then call `finish` inside it."""
    for layer in layers:
        with _decompressed(layer) as stream:
            in_rootfs(rootfs, lambda stream=stream: apply(stream))  # type: ignore[misc]
    in_rootfs(rootfs, finish)


@contextlib.contextmanager
def _decompressed(layer: Path) -> Iterator[IO[bytes]]:
    """Open a layer as plain tar; the first bytes say how it is compressed, whatever its media type claims."""
    with layer.open("rb", buffering=0) as stream:  # the decompressor gets the descriptor, not the buffer
        magic = stream.read(4)
        stream.seek(0)
        if magic[:2] == b"\x1f\x8b":
            command = ["pigz" if shutil.which("pigz") else "gzip", "-dc"]
        elif magic == b"\x28\xb5\x2f\xfd":
            command = ["zstd", "-dcq"]
        else:
            yield stream
            return
        with subprocess.Popen(
            command,
            stdin=stream,
            stdout=subprocess.PIPE,
            pipesize=CHUNK,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - this program has no threads
        ) as process:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            yield process.stdout
            # tar's end marker comes before the stream's end; what is left must be read for the checksum to be seen.
            while process.stdout.read(CHUNK):
                pass
            if process.wait() != 0:
                raise Failure(f"{command[0]} could not decompress the layer {layer.name}")


def apply(stream: IO[bytes]) -> None:
    """Apply one layer to the root directory /."""
    changes = _Layer()
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2, bufsize=1 << 16) as archive:
        for member in archive:
            changes.add(archive, member)
    changes.finish()


class _Layer:
    """What one layer has brought so far; its whiteouts spare that."""

    def __init__(self) -> None:
        self._new: set[str] = {"/"}
        self._directories: list[tuple[str, int, float]] = []

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = os.path.normpath("/" + member.name.lstrip("/"))
        parent, name = os.path.split(path)
        if name == OPAQUE:
            self._clear(parent)
        elif name.startswith(WHITEOUT):
            if not name.startswith(WHITEOUT * 2):  # the others are aufs' own bookkeeping
                hidden = name.removeprefix(WHITEOUT)
                if hidden in ("", ".", ".."):  # it would remove its own folder, or the one above
                    raise Failure(f"invalid whiteout in the layer: {member.name}")
                self._remove(os.path.join(parent, hidden))
        elif parent == "/dev" or parent.startswith("/dev/"):
            return  # the node's own /dev is mounted there
        else:
            self._parents(parent)
            self._write(archive, member, path)

    def finish(self) -> None:
        """Set what later members of the layer would have changed again: modes and times of directories."""
        for path, mode, when in reversed(self._directories):
            # The user must be able to remove and read what is his, and has no capability for it outside.
            os.chmod(path, mode | 0o700)
            os.utime(path, (when, when))

    def _parents(self, parent: str) -> None:
        if parent in self._new:
            return
        real = os.path.realpath(parent)
        with contextlib.suppress(NotADirectoryError, FileExistsError):
            os.makedirs(real, 0o755, exist_ok=True)
        if not os.path.isdir(real):
            os.unlink(real)
            os.makedirs(real, 0o755)
        while parent not in self._new:
            self._new.add(parent)
            parent = os.path.dirname(parent)

    def _clear(self, directory: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if path in self._new:
                    if os.path.isdir(path) and not os.path.islink(path):
                        self._clear(path)
                else:
                    _delete(path)

    def _remove(self, path: str) -> None:
        if path in self._new:
            self._clear(path)
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _delete(path)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        self._new.add(path)
        if member.isdir():
            self._directories.append((path, member.mode, member.mtime))
        try:
            self._make(archive, member, path)
        except FileExistsError:
            if member.isdir() and stat.S_ISDIR(os.lstat(path).st_mode):
                return  # a lower layer's directory, which this one only describes anew
            _delete(path)
            self._make(archive, member, path)

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        """Create one file; raises FileExistsError when there is something under its name."""
        if member.isdir():
            os.mkdir(path, 0o700)
        elif member.islnk():
            os.link("/" + member.linkname.lstrip("/"), path, follow_symlinks=False)
        elif member.issym():
            os.symlink(member.linkname, path)
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
        elif member.isfifo():
            os.mkfifo(path, member.mode)
        elif member.isreg():
            self._copy(archive, member, path)
        # else a device node: not for users to make, and not usable on a nodev mount

    @staticmethod
    def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 - it is a regular file
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            while chunk := content.read(CHUNK):
                rest = memoryview(chunk)
                while rest:  # a disk that fills up takes a part first, and only then refuses
                    rest = rest[os.write(target, rest) :]
            os.fchmod(target, member.mode | 0o400)
            os.utime(target, (member.mtime, member.mtime))
        finally:
            os.close(target)


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
