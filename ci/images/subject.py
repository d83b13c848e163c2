"""The package under test, and other packages, as wheelhouses made on the host: no container needs the internet.

A wheelhouse is a folder of wheels that is complete for one Python and architecture. It is kept in the cache under a key
made of what was asked for, so that a second run needs no network. pip's settings (index, proxies, certificates) are the
user's own.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import hashlib
import importlib.util
import json
import os
from pathlib import Path
import re
import shutil
import sys
import tempfile

from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement

from ci import paths
from ci.errors import DiskFullError, PyxisMatrixError, SubjectError, disk_is_full
from ci.images.checkout import build_checkout
from ci.images.wheels import Target, Wheel, checksums, fingerprint, unmet
from ci.matrix.arch import Arch
from ci.terminal.console import call
from ci.terminal.processes import Completed

_MANIFEST = "wheelhouse.json"
_EDITABLE = "editable"
_LINES = 8
# Each round adds what the one before found missing; three are already unusual.
_ROUNDS = 10
_NO_WHEEL = re.compile(r"No matching distribution found for (.+?)(?: \(from .*)?$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """A folder with all wheels that some requirements need on one target."""

    path: Path
    """Holds the wheels, and nothing else that pip would look at."""
    requirements: tuple[str, ...]
    """What to name to pip; each is exactly what the wheelhouse was made for."""
    fingerprint: str
    """sha256 over the names and contents of the wheels."""
    wheels: tuple[str, ...]
    size: int
    """Of all wheels, in bytes."""
    reused: bool = False
    """Whether it came from the cache."""
    editable: Path | None = None
    """For a checkout: the wheel to install, in place of the requirements, where the checkout itself is mounted."""
    checkout: Path | None = None

    def install_arguments(self, folder: str | None = None) -> tuple[str, ...]:
        """Return what follows ``pip install`` where the wheelhouse is mounted at ``folder``."""
        return ("--no-index", "--find-links", folder or str(self.path), *self.requirements)


def wheelhouse(
    requirements: Iterable[str],
    constraints: Iterable[str] = (),
    *,
    python: str,
    arch: Arch,
    cache: Path | None = None,
    log: Path | None = None,
) -> Wheelhouse:
    """Return a wheelhouse for requirements (PEP 508), from the cache or else from the user's package index.

    :param python: major and minor version of the target's CPython, for example ``3.11``.
    :param log: file to which pip's output is appended.
    :raises SubjectError: where the index can't be reached or has nothing that fits.
    """
    target = Target(python=python, arch=arch)
    wanted, limits = tuple(requirements), tuple(constraints)
    roots = [_requirement(text) for text in wanted]
    key = _key("index", *sorted(wanted), "", *sorted(limits), "", python, arch.value)
    folder = _store(cache) / key
    with FileLock(f"{folder}.lock"):
        if found := _load(folder, wanted):
            return found
        with _draft(folder) as draft:
            _collect(roots, limits, target, draft, log)
            return _keep(draft, folder, wanted)


def checkout_wheelhouse(
    checkout: Path,
    constraints: Iterable[str] = (),
    *,
    python: str,
    arch: Arch,
    cache: Path | None = None,
    log: Path | None = None,
) -> Wheelhouse:
    """Return a wheelhouse for a checkout: its own wheel, its editable wheel, and what it requires.

    What it requires is kept apart in the cache, so that an edit costs a build of the checkout and no download.
    """
    target = Target(python=python, arch=arch)
    built = build_checkout(checkout, cache or paths.cache_dir())
    wheel = Wheel.read(built.wheel)
    if not built.wheel.stem.endswith("-none-any"):
        raise SubjectError(
            "The subject's checkout is not pure Python.",
            where=str(built.checkout),
            why=f"{built.wheel.name} was compiled on this machine and may not run on {target}",
            next_step="release wheels for the target to an index and name that release as the requirement",
        )
    needed = [str(requirement) for requirement in wheel.needs((), target)]
    others = wheelhouse(needed, constraints, python=python, arch=arch, cache=cache, log=log)
    named = (f"{wheel.name}=={wheel.version}",)
    key = _key("checkout", fingerprint(checksums(built.wheel.parent)), others.fingerprint, str(built.checkout))
    folder = _store(cache) / key
    with FileLock(f"{folder}.lock"):
        if found := _load(folder, named, built.checkout):
            return found
        with _draft(folder) as draft:
            shutil.copytree(others.path, draft, copy_function=_link, ignore=lambda *_: [_MANIFEST])
            _link(built.wheel, draft / built.wheel.name)
            (draft / _EDITABLE).mkdir()
            _link(built.editable, draft / _EDITABLE / built.editable.name)
            return _keep(draft, folder, named, built.checkout)


@dataclass(frozen=True, kw_only=True)
class _Pip:
    """The host's pip, working for one target."""

    target: Target
    constraints: Path
    """A file."""
    built: Path
    """A folder for wheels that were made here."""
    log: Path | None

    def download(self, wanted: list[str], folder: Path) -> Completed:
        """Download wheels for the target.

        pip evaluates markers on this machine, so that some may be left out, and some may come that only it needs.
        """
        # Some thirty platforms: in the environment they do not drown the command line that is shown.
        env = {**os.environ, "PIP_PLATFORM": " ".join(self.target.platforms)}
        command = [*self._command("download"), "--dest", str(folder), "--find-links", str(self.built)]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.target.python]
        return call([*command, "--", *wanted], env=env, log=self.log)

    def build(self, requirement: str) -> bool:
        """Try to make a wheel for every platform out of a source distribution, and tell whether that gave a new one."""
        before = set(self.built.iterdir())
        command = [*self._command("wheel"), "--no-deps", "--wheel-dir", str(self.built)]
        call([*command, "--", requirement], log=self.log)
        new = set(self.built.iterdir()) - before
        for file in new:
            if not file.stem.endswith("-none-any"):
                file.unlink()
        return any(file.exists() for file in new)

    def failed(self, wanted: list[str], done: Completed) -> PyxisMatrixError:
        """Return the error that tells what pip said."""
        kind = DiskFullError if disk_is_full(done.output) else SubjectError
        lines = [line for line in done.output.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
        # pip's verdict; what comes before it are hundreds of lines about packages that were found.
        verdict = [line for line in lines if line.startswith("ERROR:")] or lines
        return kind(
            "A wheelhouse can't be made.",
            where=f"{', '.join(wanted)} for {self.target}" + (f"; log: {self.log}" if self.log else ""),
            why="\n    ".join(["pip says:", *verdict[-_LINES:]]),
            next_step="`python -m pip config list` shows which index pip asks (PIP_INDEX_URL, HTTPS_PROXY)",
        )

    def _command(self, verb: str) -> list[str]:
        if importlib.util.find_spec("pip") is None:
            raise SubjectError(
                "There is no pip to make wheelhouses with.",
                where=sys.executable,
                why="its environment was made without pip",
                next_step=f"{sys.executable} -m ensurepip, or run it through nox",
            )
        return [sys.executable, "-m", "pip", "--no-input", verb, "--constraint", str(self.constraints)]


def _collect(
    roots: list[Requirement], constraints: tuple[str, ...], target: Target, draft: Path, log: Path | None
) -> None:
    """Fill ``draft`` with all wheels that the roots need on the target."""
    pip = _Pip(target=target, constraints=draft.with_name("constraints.txt"), built=draft.with_name("built"), log=log)
    pip.constraints.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    pip.built.mkdir()
    wanted = [str(root) for root in roots]
    for _ in range(_ROUNDS):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        done = pip.download(wanted, draft) if wanted else None
        if done and not done.ok:
            # Something has no wheel that fits; where it is pure Python, one can be made of its source.
            match = _NO_WHEEL.search(done.output)
            if match is None or not pip.build(match[1]):
                raise pip.failed(wanted, done)
            continue
        lacking = unmet(roots, [Wheel.read(file) for file in draft.glob("*.whl")], target)
        if not lacking:
            return
        wanted = list(dict.fromkeys([*wanted, *lacking]))
    raise SubjectError(
        "A wheelhouse can't be completed.",
        where=f"{', '.join(str(root) for root in roots)} for {target}",
        why=f"after {_ROUNDS} rounds it still lacks something: {', '.join(wanted)}",
        next_step="name what is missing as requirements, with versions that have wheels",
    )


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as problem:
        raise SubjectError(
            "A requirement can't be understood.",
            where=text,
            why=str(problem).splitlines()[0],
            next_step='write it like "slurm-sdk==0.4.6"; for a folder there is --subject PATH',
        ) from problem


def _store(cache: Path | None) -> Path:
    return paths.make_directory((cache or paths.cache_dir()) / "wheelhouses", SubjectError)


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Offer a place, not made yet, from which the finished folder can be renamed to its own."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as work:
        yield Path(work) / "wheels"


def _load(folder: Path, requirements: tuple[str, ...], checkout: Path | None = None) -> Wheelhouse | None:
    """Return the wheelhouse in the cache if it still holds what was once put there."""
    try:
        recorded = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    sums = checksums(folder)
    return _wheelhouse(folder, sums, requirements, checkout, reused=True) if sums == recorded else None


def _keep(draft: Path, folder: Path, requirements: tuple[str, ...], checkout: Path | None = None) -> Wheelhouse:
    """Put a finished draft into its place; what was there did not hold what it should."""
    sums = checksums(draft)
    (draft / _MANIFEST).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return _wheelhouse(folder, sums, requirements, checkout, reused=False)


def _wheelhouse(
    folder: Path, sums: dict[str, str], requirements: tuple[str, ...], checkout: Path | None, *, reused: bool
) -> Wheelhouse:
    return Wheelhouse(
        path=folder,
        requirements=requirements,
        fingerprint=fingerprint(sums),
        wheels=tuple(sums),
        size=sum((folder / name).stat().st_size for name in sums),
        reused=reused,
        editable=next(iter((folder / _EDITABLE).glob("*.whl")), None),
        checkout=checkout,
    )


def _link(source: str | Path, target: str | Path) -> None:
    """Put a wheel of the cache into another folder of it; they are never changed, so they may share the space."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
