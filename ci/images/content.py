"""The content of an image, and the tag made from its hash.

The hash is of everything that an image is built from: the files of its folder, its build arguments, the files added to
its build context, and the tags of its parents. An image whose tag the engine already has is not built again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
import hashlib
from pathlib import Path
import shutil

from ci import paths
from ci.artefacts.identity import combined, sha256_of, sums_of
from ci.errors import ChecksumError
from ci.images.plan import REPOSITORY, ImagePlan
from ci.matrix.cells import engine_name

# Part of every hash. Increased when the way of building changes, but no file of the images' folders.
_RECIPE = "2"
SHARED = "shared"
"""A folder below ``containers/`` that is in every build context under this name."""
# What Python leaves beside scripts when tests import them; whether it is there changes nothing of an image.
_NOT_PART = "__pycache__"


@dataclass(frozen=True, kw_only=True)
class ContextFile:
    """A file or folder added to an image's build context beside its folder's own files."""

    source: Path | bytes
    """A path of this machine, or a file's content."""
    target: str
    """Path in the context."""
    sha256: str
    """The hash that is part of the tag; for a folder that of all its files (`ci.artefacts.identity.combined`)."""
    copied: str = ""
    """The sha256 of the file's bytes, if ``sha256`` is that of the tar archive which is compressed in them."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """An image plan, and all that the image is built from."""

    plan: ImagePlan
    parents: Mapping[str, str]
    """The parents' tags, by the name of the build argument that takes them."""
    context: tuple[ContextFile, ...] = ()
    pulled: str = ""
    """The reference, with tag or digest, of an image that is pulled instead; its local tag is not a built one's."""

    @property
    def fingerprint(self) -> str:
        """The first 12 digits of the hash, for tags."""
        return self.digest[:12]

    @cached_property
    def digest(self) -> str:
        """The hash of everything that the image is built from, computed once."""
        plan = self.plan
        digest = hashlib.sha256(f"{_RECIPE} {plan.folder} {plan.variant} {plan.arch}\n".encode())
        for name, sha256 in self.own_files:
            digest.update(f"{name} {sha256}\n".encode())
        if self.pulled:
            digest.update(f"pulled {self.pulled}\n".encode())
        for name, value in sorted(plan.build_args.items()):
            digest.update(f"{name}={value}\n".encode())
        for name, tag in sorted(self.parents.items()):
            digest.update(f"{name}<{tag}\n".encode())
        for file in sorted(self.context, key=lambda file: file.target):
            digest.update(f"{file.target} {file.sha256}\n".encode())
        return digest.hexdigest()

    @cached_property
    def own_files(self) -> tuple[tuple[str, str], ...]:
        """Name and sha256 of the files of the image's folder and of those beside it, read once."""
        parts = (self.plan.folder, SHARED, *self.plan.beside)
        return tuple(file for part in parts for file in _files(paths.CONTAINERS / part, self._prefix(part)))

    @property
    def tag(self) -> str:
        """The local image name: project/folder:variant-fingerprint."""
        return f"{REPOSITORY}/{self.plan.folder}:{engine_name(self.plan.variant)}-{self.fingerprint}"

    def write(self, folder: Path) -> None:
        """Write the build context into a new folder.

        Somebody may have edited a file since its hash went into the tag. So the copies are hashed once more: the tag
        belongs to exactly the files that are built.

        :raises ChecksumError: if a file has changed.
        """
        copied: list[tuple[str, str]] = []
        for part in (self.plan.folder, SHARED, *self.plan.beside):
            target = folder / self._prefix(part)
            shutil.copytree(paths.CONTAINERS / part, target, ignore=shutil.ignore_patterns(_NOT_PART))
            copied += _files(target, self._prefix(part))
        # What only one of the two has: files that were changed, added or removed meanwhile.
        if changed := sorted({name for name, _ in {*copied} ^ {*self.own_files}}):
            raise self._changed(f"containers: {', '.join(changed)}")
        for extra in self.context:
            target = folder / extra.target
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(extra.source, bytes):
                target.write_bytes(extra.source)
            elif extra.source.is_dir():
                shutil.copytree(extra.source, target)
            else:
                shutil.copyfile(extra.source, target)
            # What was written, because its source may have changed since. Of an archive all bytes count (`copied`).
            found = combined(sums_of(target)) if target.is_dir() else sha256_of(target)
            if found != (extra.copied or extra.sha256):
                raise self._changed(str(extra.source) if isinstance(extra.source, Path) else extra.target)

    def _prefix(self, part: str) -> str:
        """Return the path in the context of a folder below ``containers/``; the image's own folder is the context."""
        return "" if part == self.plan.folder else part

    def _changed(self, where: str) -> ChecksumError:
        return ChecksumError(
            f"files of the image {self.plan.name} were changed after its tag was made from them",
            where=where,
            why=f"it would be called {self.tag}, and have other content",
            next_step="run it again, and do not edit these files meanwhile",
        )


def _files(root: Path, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield name and sha256 of all files in a folder, in a fixed order.

    A ``*`` after the name means the execute bit, the only part of a mode that git keeps.
    """
    # `rglob` has the order of the file system, which differs between machines.
    for file in sorted(root.rglob("*")):
        if file.is_file() and _NOT_PART not in file.parts:
            mark = "*" if file.stat().st_mode & 0o100 else ""
            yield (Path(prefix) / file.relative_to(root)).as_posix() + mark, sha256_of(file)
