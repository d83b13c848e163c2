"""The subject as a checkout on this machine: its state, and the two wheels that are built from it."""

from collections.abc import Iterator
from dataclasses import dataclass
import hashlib
from pathlib import Path
import re
import shutil
import sys
import tempfile
import zipfile

from filelock import FileLock
from packaging.metadata import Metadata

from ci.artefacts.checkout import git
from ci.errors import SubjectError
from ci.images.wheels import BUILD_EPOCH
from ci.options.inputs import check_project
from ci.paths import REPOSITORY, cache_dir, make_directory
from ci.python import uv
from ci.terminal.console import call

# Not part of a source tree: version control, environments, caches, and files that builds leave behind.
_LEFTOVER = re.compile(r"__pycache__|build|dist|node_modules|venv|.*\.egg-info")


@dataclass(frozen=True, kw_only=True)
class BuiltCheckout:
    """The wheels of one state of a checkout."""

    checkout: Path
    wheel: Path
    """Contains the code; for images."""
    editable: Path
    """Refers to the checkout's absolute path (PEP 660); for nodes that have the checkout mounted there."""
    requirement: str
    """The checkout's name and version: ``slurm-sdk==0.4.6``."""
    requires: tuple[str, ...]
    """Its requirements (PEP 508, with markers)."""


def build_checkout(checkout: Path) -> BuiltCheckout:
    """Build a checkout's wheels, or return those of the same state from the cache.

    Build requirements come from the user's package index. Raises ``SubjectError`` if the build fails.
    """
    checkout = checkout.expanduser().resolve()
    check_project(checkout)
    store = make_directory(cache_dir() / "checkouts", SubjectError)
    folder = store / state_of(checkout)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=store, prefix=".building-") as work:
                draft = Path(work) / "wheels"
                call(
                    [sys.executable, "-m", "ci.images.wheel_build", checkout, draft],
                    cwd=REPOSITORY,
                    env={**uv.environment(), "SOURCE_DATE_EPOCH": BUILD_EPOCH},
                ).check(
                    SubjectError,
                    "building the subject's checkout failed",
                    where=str(checkout),
                    next_step=f"uv build --wheel {checkout} shows all of it",
                )
                # Under the state before the build. If the build wrote into the tree, the next call finds another state
                # and builds once more.
                shutil.move(draft, folder)
    return _read(checkout, folder)


def state_of(checkout: Path) -> str:
    """Return a sha256 over path, content and commit of a checkout; backends may derive the version from the commit."""
    # The path, because the editable wheel refers to it.
    digest = hashlib.sha256(f"{checkout}\0{_git(checkout, 'rev-parse', 'HEAD')}\0".encode())
    for name in sorted(files_of(checkout)):
        file = checkout / name
        # git also lists files that were removed, but whose removal is not committed, and submodules' folders.
        if file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name}\0{file.stat().st_mode & 0o111:o}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def files_of(checkout: Path) -> list[str]:
    """Return the files that belong to the source tree, relative to it."""
    if listed := _git(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        return sorted(set(filter(None, listed.split("\0"))))
    return [str(file.relative_to(checkout)) for file in _walk(checkout)]


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if not entry.is_dir():
            yield entry
        # A link may lead out of the tree, or round in a circle.
        elif not entry.is_symlink() and not entry.name.startswith(".") and not _LEFTOVER.fullmatch(entry.name):
            yield from _walk(entry)


def _git(checkout: Path, *arguments: str) -> str:
    """Return git's output for a checkout; empty if it is no repository or there is no git."""
    done = git(checkout, *arguments)
    return "" if done.returncode else done.stdout.strip("\n")


def _read(checkout: Path, folder: Path) -> BuiltCheckout:
    # A backend makes exactly one wheel per call (PEP 517); anything else fails here.
    (wheel,), (editable,) = (folder / "wheel").glob("*.whl"), (folder / "editable").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        # Not validated here: it is the installer that refuses invalid metadata.
        metadata = Metadata.from_email(archive.read(entry), validate=False)
    return BuiltCheckout(
        checkout=checkout,
        wheel=wheel,
        editable=editable,
        requirement=f"{metadata.name}=={metadata.version}",
        requires=tuple(map(str, metadata.requires_dist or ())),
    )
