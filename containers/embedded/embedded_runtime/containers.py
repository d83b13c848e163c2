"""Making containers: from registries and squashfs files, as a layer over a stored image or as a copy of it."""

import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import re
import subprocess

from . import fetch, image, layers, reference, squashfs, store
from .failure import Failure
from .settings import Settings
from .system import enter_user_namespace, mount

OVERLAY = ".embedded-overlay"
IMAGES = ".images"
STORED = re.compile(r"sha256-[0-9a-f]{64}")
"""How a stored image is called: after its digest."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A container whose folder holds only what differs from a stored image, which many of them share."""

    base: Path
    """Holds `upper`, `work`, and `merged`, where the container appears in its own mount namespace."""
    lower: Path

    def mount(self, name: str, flags: int) -> Path:
        """Show the container's files, to be changed; for the caller's mount namespace only."""
        os.chdir(self.base)  # so that no path of ours has to be escaped in the options
        options = f"userxattr,lowerdir={self.lower},upperdir=upper,workdir=work"
        mount(f"{store.OVERLAY_SOURCE}{name}", "merged", "overlay", flags, options)
        return self.base / "merged"

    def mount_for_reading(self) -> None:
        """Show the container's files; it may be running meanwhile."""
        os.chdir(self.base)
        mount("overlay", "merged", "overlay", 0, f"userxattr,lowerdir=upper:{self.lower}")


def overlay(rootfs: Path) -> Overlay | None:
    """How the container in this folder is layered; None for a plain copy. Raises Failure when its image is gone."""
    base = rootfs / OVERLAY
    if base.is_symlink() or not base.is_dir():
        return None
    name = (base / "lower").read_text(encoding="utf-8")
    if not STORED.fullmatch(name):
        raise Failure(f"{rootfs.name}: {base / 'lower'} names no stored image")
    lower = rootfs.parent / IMAGES / name
    if not lower.is_dir():
        raise Failure(f"{rootfs.name} was made from an image that is no longer stored: {lower}")
    return Overlay(base=base, lower=lower)


def stored_image(settings: Settings, uri: str, uname_architecture: str | None) -> Path:
    """Fetch an image and return the folder that holds its root file system. Nobody may write there."""
    wanted_reference = reference.parse(uri)
    wanted = fetch.architecture(uname_architecture)
    images = settings.data / IMAGES
    images.mkdir(mode=0o700, exist_ok=True)
    with store.scratch(settings.temporary) as work:
        found = fetch.fetch(settings, wanted_reference, wanted, work)
    target = images / found.digest.replace(":", "-")
    # Steps that start together wait for the one that unpacks; without the lock each would do it.
    with store.locked(settings, target.name):
        if not target.is_dir():
            with store.scratch(images) as work:
                rootfs = work / "rootfs"
                rootfs.mkdir(mode=0o755)
                layers.unpack(rootfs, found.layers, lambda: image.write(found.config, wanted_reference.docker))
                rootfs.rename(target)
    return target


def create_from_image(settings: Settings, name: str, uri: str) -> None:
    """Make a container from a registry's image."""
    target = store.rootfs(settings, name)
    source = stored_image(settings, uri, None)
    with store.scratch(settings.data) as work:
        rootfs = work / "rootfs"
        layered = _layer(rootfs, source) if settings.overlay else None
        if layered is None or not _works(layered):
            store.remove_tree(rootfs)
            _copy(source, rootfs)
            _check_copy(rootfs)
        _publish(rootfs, target)


def _layer(rootfs: Path, lower: Path) -> Overlay:
    base = rootfs / OVERLAY
    for folder in ("upper", "work", "merged"):
        (base / folder).mkdir(parents=True)
    (base / "upper").chmod(0o755)  # it is the container's / from now on
    (base / "lower").write_text(lower.name, encoding="utf-8")
    return Overlay(base=base, lower=lower)


def _works(layered: Overlay) -> bool:
    """Try it out: kernels and file systems differ in what they let an overlay do in a user namespace."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            enter_user_namespace(as_root=False)
            layered.mount("trial", 0)
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _copy(source: Path, target: Path) -> None:
    command = ["cp", "-a", "--reflink=auto", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"could not copy the image to {target}", tuple(done.stderr.splitlines()[-5:]))


def create_from_squashfs(settings: Settings, name: str, path: Path) -> None:
    """Make a container from a squashfs file."""
    target = store.rootfs(settings, name)
    with store.scratch(settings.data) as work:
        rootfs = work / "rootfs"
        squashfs.unpack(path, rootfs)
        _check_copy(rootfs)
        _publish(rootfs, target)


def _check_copy(rootfs: Path) -> None:
    """Refuse an image that would pass for a layered container, and so could choose which folders it is made of."""
    if os.path.lexists(rootfs / OVERLAY):
        raise Failure(f"Invalid image: it has /{OVERLAY}, which only the runtime makes")


def _publish(rootfs: Path, target: Path) -> None:
    try:
        rootfs.rename(target)
    except OSError as error:
        raise Failure(f"could not make the container {target}: {os.strerror(error.errno or 0)}") from error


def export(settings: Settings, name: str, target: Path) -> None:
    """Write a container to a squashfs file."""
    rootfs = store.existing(settings, name)
    layered = overlay(rootfs)
    if layered is None:
        squashfs.pack(settings, rootfs, target)
        return

    def prepare() -> None:
        enter_user_namespace(as_root=True)
        layered.mount_for_reading()

    squashfs.pack(settings, layered.base / "merged", target, prepare)
