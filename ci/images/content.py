"""What goes into an image, and the tag made from it.

The tag has a hash of everything that goes in: the files of the image's folder, its build arguments, the files added to
its build context, and the tags of its parents. An image whose tag the engine already has is not built again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
import hashlib
from pathlib import Path
import shutil

from ci import paths
from ci.images.plan import REPOSITORY, ImagePlan
from ci.matrix.cells import engine_name

# Increased when the way of building changes but no file of the folders does.
_RECIPE = "2"
_SHARED = "shared"
"""A folder below ``containers/`` that is in every build context under this name."""


@dataclass(frozen=True, kw_only=True)
class ContextFile:
    """A file or folder added to an image's build context beside its folder's own files."""

    source: Path | bytes
    """A path of this machine, or a file's content."""
    target: str
    """Path in the context."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """An image plan, and the content of everything that goes in."""

    plan: ImagePlan
    parents: Mapping[str, str]
    """The parents' tags, by the name of the build argument that takes them."""
    context: tuple[ContextFile, ...] = ()
    pulled: str = ""
    """What is pulled in place of building it: a reference with tag or digest. Its tag is not that of a built one."""

    @property
    def fingerprint(self) -> str:
        """The first 12 digits of the hash: what tags have of it."""
        return self.digest[:12]

    @cached_property
    def digest(self) -> str:
        """The hash of everything that goes in, computed once."""
        plan = self.plan
        digest = hashlib.sha256(f"{_RECIPE} {plan.folder} {plan.variant} {plan.arch}\n".encode())
        for name, content in _files(plan):
            digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        if self.pulled:
            digest.update(f"pulled {self.pulled}\n".encode())
        for name, value in sorted(plan.build_args.items()):
            digest.update(f"{name}={value}\n".encode())
        for name, tag in sorted(self.parents.items()):
            digest.update(f"{name}<{tag}\n".encode())
        for file in sorted(self.context, key=lambda file: file.target):
            digest.update(f"{file.target} {file.sha256}\n".encode())
        return digest.hexdigest()

    @property
    def tag(self) -> str:
        """The local image name: project/folder:variant-fingerprint."""
        return f"{REPOSITORY}/{self.plan.folder}:{engine_name(self.plan.variant)}-{self.fingerprint}"

    def write(self, folder: Path) -> None:
        """Write the build context into a new folder."""
        shutil.copytree(paths.CONTAINERS / self.plan.folder, folder)
        for name in (_SHARED, *self.plan.beside):
            shutil.copytree(paths.CONTAINERS / name, folder / name)
        for extra in self.context:
            target = folder / extra.target
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(extra.source, bytes):
                target.write_bytes(extra.source)
            elif extra.source.is_dir():
                shutil.copytree(extra.source, target)
            else:
                shutil.copyfile(extra.source, target)


def _files(plan: ImagePlan) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of all files of an image's folder and of those beside it, in a fixed order.

    A ``*`` after the name stands for the execute bit, the only part of a mode that git keeps.
    """
    for part in (plan.folder, _SHARED, *plan.beside):
        root = paths.CONTAINERS / part
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                mark = "*" if file.stat().st_mode & 0o100 else ""
                name = file.relative_to(root).as_posix()
                yield (name if part == plan.folder else f"{part}/{name}") + mark, file.read_bytes()
