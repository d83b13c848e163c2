"""The package under test, and other packages, as wheelhouses made on the host: no container needs the internet.

A wheelhouse is a folder of wheels that is complete for one Python and architecture. It is kept in the cache under the
hash of its requirements and its target, so that a second run needs no network.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import shutil
import tempfile

from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement

from ci import paths
from ci.artefacts.identity import combined, sha256_of, sums_of
from ci.errors import ChecksumError, SubjectError
from ci.images.subject_checkout import build_checkout
from ci.images.wheels import Target, check_pure, collect

_MANIFEST = "wheelhouse.json"
_EDITABLE = "editable"


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """A folder with all wheels that some requirements need on one target."""

    path: Path
    """The folder with the wheels; it has nothing else that pip would look at."""
    requirements: tuple[str, ...]
    """The arguments for ``pip install``: the requirements that the wheelhouse was made for."""
    fingerprint: str
    """sha256 over the names and contents of all files in the folder."""
    wheels: tuple[str, ...]
    reused: bool = False
    """Whether it came from the cache."""
    editable: Path | None = None
    """For a checkout: the wheel to install, in place of the requirements, where the checkout itself is mounted."""
    checkout: Path | None = None

    def copy_to(self, folder: Path) -> None:
        """Copy all files into a new folder.

        :raises ChecksumError: if they were changed after the fingerprint was taken.
        """
        shutil.copytree(self.path, folder)
        if combined(sums_of(folder)) != self.fingerprint:
            raise ChecksumError(
                "wheels were changed after they were checked",
                where=str(self.path),
                why="another process wrote there meanwhile",
                next_step=f"rm -r {self.path}, then run it again",
            )


def wheelhouse(requirements: Iterable[str], constraints: Iterable[str] = (), *, target: Target) -> Wheelhouse:
    """Return a wheelhouse for requirements (PEP 508), from the cache or else from the user's package index.

    :raises SubjectError: if the index is not reached or has nothing that fits.
    """
    wanted, limits = tuple(requirements), tuple(constraints)
    for text in wanted:
        try:
            Requirement(text)
        except InvalidRequirement as problem:
            raise SubjectError(
                "a requirement is invalid",
                where=text,
                why=str(problem).splitlines()[0],
                next_step='write it like "slurm-sdk==0.4.6"; for a folder there is --subject PATH',
            ) from problem
    # The empty parts keep the lists apart: a requirement that becomes a constraint is another wheelhouse.
    key = _key("index", *sorted(wanted), "", *sorted(limits), "", target.python, target.platform)
    return _cached(key, lambda draft: collect(wanted, limits, target, draft), requirements=wanted)


def checkout_wheelhouse(
    checkout: Path, constraints: Iterable[str] = (), *, beside: Iterable[str] = (), target: Target
) -> Wheelhouse:
    """Return a wheelhouse for a checkout: its own wheel, its editable wheel, and its requirements.

    The requirements have a wheelhouse of their own in the cache, so that an edit of the checkout costs no download.

    :param beside: more requirements, resolved together with those of the checkout.
    """
    built = build_checkout(checkout)
    check_pure(built.wheel, str(built.checkout), target)
    beside = tuple(beside)
    others = wheelhouse((*built.requires, *beside), constraints, target=target)

    def fill(draft: Path) -> None:
        # Without the other folder's record: this one gets its own.
        shutil.copytree(others.path, draft, copy_function=_link, ignore=lambda *_: [_MANIFEST])
        _link(built.wheel, draft / built.wheel.name)
        (draft / _EDITABLE).mkdir()
        _link(built.editable, draft / _EDITABLE / built.editable.name)

    wheels = (sha256_of(built.wheel), sha256_of(built.editable))
    key = _key("checkout", *wheels, others.fingerprint, str(built.checkout))
    return _cached(key, fill, requirements=(built.requirement, *beside), checkout=built.checkout)


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _cached(
    key: str, fill: Callable[[Path], None], *, requirements: tuple[str, ...], checkout: Path | None = None
) -> Wheelhouse:
    """Return the wheelhouse of a key if all its wheels are unchanged; otherwise ``fill`` makes its folder anew."""
    folder = paths.make_directory(paths.cache_dir() / "wheelhouses", SubjectError) / key
    with FileLock(f"{folder}.lock"):
        # A folder that does not exist has no files, and its record is None, which is not equal to that.
        sums = sums_of(folder)
        reused = _recorded(folder) == _wheels(sums)
        if not reused:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as work:
                draft = Path(work) / "wheels"
                fill(draft)
                (draft / _MANIFEST).write_text(json.dumps(_wheels(sums_of(draft)), indent=1) + "\n", encoding="utf-8")
                sums = sums_of(draft)
                # If the process ends between these two, the folder is missing, and is made again.
                shutil.rmtree(folder, ignore_errors=True)
                draft.rename(folder)
    return Wheelhouse(
        path=folder,
        requirements=requirements,
        fingerprint=combined(sums),
        wheels=tuple(name for name in _wheels(sums) if "/" not in name),
        reused=reused,
        editable=next(iter((folder / _EDITABLE).glob("*.whl")), None),
        checkout=checkout,
    )


def _wheels(sums: Mapping[str, str]) -> dict[str, str]:
    """Return the wheels among the files of a folder."""
    return {name: sha256 for name, sha256 in sums.items() if name.endswith(".whl")}


def _recorded(folder: Path) -> object:
    try:
        return json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _link(source: str | Path, target: str | Path) -> None:
    """Add a wheel to another folder of the cache, as a hard link: wheels are never changed, so links save space."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links
        shutil.copy2(source, target)
