"""The subject as a checkout on this machine: its state, and the two wheels that are built from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
import re
import shutil
import stat
import subprocess
import tempfile
from typing import Literal

import build
import build.env
from filelock import FileLock
import pyproject_hooks

from ci.errors import SubjectError
from ci.paths import make_directory

# Not part of a source tree: version control, environments, caches and what builds leave behind.
_LEFTOVER = re.compile(r"__pycache__|build|dist|node_modules|venv|.*\.egg-info")
_DISTRIBUTIONS: tuple[Literal["wheel"], Literal["editable"]] = ("wheel", "editable")
# Without a fixed time two builds of the same state would differ, and with them the tags of all images made from it.
_EPOCH = "315619200"


@dataclass(frozen=True, kw_only=True)
class BuiltCheckout:
    """The wheels of one state of a checkout."""

    checkout: Path
    wheel: Path
    """With the code in it, for images."""
    editable: Path
    """Points at the checkout's own absolute path (PEP 660), for nodes that have it mounted there."""


def build_checkout(checkout: Path, cache: Path) -> BuiltCheckout:
    """Build a checkout's wheels, or return those of the same state from the cache.

    Build requirements come from the user's package index. Raises ``SubjectError`` where it does not build.
    """
    checkout = checkout.expanduser().resolve()
    if not any((checkout / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise SubjectError(
            "The subject's checkout is no Python project.",
            where=str(checkout),
            why="it has neither pyproject.toml nor setup.py" if checkout.is_dir() else "there is no such directory",
            next_step="name the project's own folder with --subject PATH",
        )
    store = make_directory(cache / "checkouts", SubjectError)
    folder = store / state_of(checkout)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=store, prefix=".building-") as work:
                draft = Path(work) / "wheels"
                _build(checkout, draft)
                # A build may write into the tree; the state asked for next is the one after it.
                shutil.move(draft, folder)
    return BuiltCheckout(checkout=checkout, wheel=_only(folder / "wheel"), editable=_only(folder / "editable"))


def check_open_to_jobs(checkout: Path) -> None:
    """Refuse a checkout that jobs on the nodes could not read: Python would only say that there is no such module."""
    others = stat.S_IROTH | stat.S_IXOTH
    why = ""
    if checkout.is_relative_to("/root"):
        why = "nodes see it under its own path, and /root is closed to others there"
    elif checkout.stat().st_mode & others != others:
        why = "others than its owner may not read it"
    if why:
        raise SubjectError(
            "jobs on the nodes could not read the subject's checkout",
            where=str(checkout),
            why=f"jobs run as an ordinary user, and {why}",
            next_step="chmod -R o+rX the checkout, and have it elsewhere than below /root",
        )


def state_of(checkout: Path) -> str:
    """Return a sha256 over the path and content of a checkout, and over its commit: versions may be made from it."""
    digest = hashlib.sha256(f"{checkout}\0{_git(checkout, 'rev-parse', 'HEAD') or ''}\0".encode())
    for name in sorted(_files(checkout)):
        file = checkout / name
        if file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name}\0{file.stat().st_mode & 0o111:o}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(checkout: Path) -> list[str]:
    """Return the files that belong to the source tree, relative to it."""
    listed = _git(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed:
        return sorted(set(filter(None, listed.split("\0"))))
    return [str(file.relative_to(checkout)) for file in _walk(checkout)]


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink() and not entry.name.startswith(".") and not _LEFTOVER.fullmatch(entry.name):
            yield from _walk(entry)


def _git(checkout: Path, *arguments: str) -> str | None:
    """Return what git says about a checkout; ``None`` where it is no repository or there is no git."""
    # In CI a checkout often belongs to another user; here it is only read.
    command = ("git", "-c", "safe.directory=*", "-C", str(checkout), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout.decode(errors="surrogateescape").strip("\n") if done.returncode == 0 else None


def _build(checkout: Path, folder: Path) -> None:
    try:
        with build.env.DefaultIsolatedEnv() as isolated:
            builder = build.ProjectBuilder.from_isolated_env(isolated, checkout, runner=_run_hook)
            isolated.install(builder.build_system_requires)
            for distribution in _DISTRIBUTIONS:
                isolated.install(builder.get_requires_for_build(distribution))
                builder.build(distribution, folder / distribution)
    except (build.BuildException, build.BuildBackendException, build.FailedProcessError, OSError) as problem:
        raise SubjectError(
            "The subject's checkout does not build.",
            where=str(checkout),
            why=_last_lines(problem),
            next_step=f"python -m build --wheel {checkout} shows all of it",
        ) from problem


def _run_hook(cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
    environ = {"SOURCE_DATE_EPOCH": _EPOCH, **(extra_environ or {})}
    pyproject_hooks.quiet_subprocess_runner(cmd, cwd, environ)


def _last_lines(problem: BaseException, count: int = 12) -> str:
    cause = getattr(problem, "exception", problem)
    output = getattr(cause, "output", None) or getattr(cause, "stderr", None) or b""
    text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
    return "\n".join([str(problem), *[f"    {line}" for line in text.strip().splitlines()[-count:]]])


def _only(folder: Path) -> Path:
    return next(folder.glob("*.whl"))
