"""What has changed since a revision of git, uncommitted and new files included."""

from pathlib import Path
import tempfile

from ci import paths
from ci.errors import MatrixError, SelectionError
from ci.fleet.affected import MATRIX, PINS, ChangeSet
from ci.fleet.parts import pins_in
from ci.matrix import loading
from ci.matrix.model import Matrix
from ci.terminal.processes import Command, Completed, run_logged


def changes_since(revision: str, repository: Path = paths.REPOSITORY) -> ChangeSet:
    """Return what is different from where this checkout parted from a revision.

    :raises SelectionError: if there is no git, no such revision, or nothing that both have come from.
    """
    git = _Git(repository)
    if not git.ask("rev-parse", "--git-dir").ok:
        raise SelectionError(
            "changes can't be told: this is no checkout of git",
            where=str(repository),
            why=git.last.tail(1),
            next_step="leave --changed-since out, or run from a clone",
        )
    commit = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").output.strip()
    if not commit:
        raise SelectionError(
            f"the revision {revision!r} was not found",
            where=str(repository),
            why="a shallow clone has few revisions, and a clone has the branches of others as origin/NAME",
            next_step="git fetch origin, in a shallow clone with --unshallow; in CI, check out with fetch-depth: 0",
        )
    base = git.ask("merge-base", "HEAD", commit).output.strip()
    if not base:
        raise SelectionError(
            f"this checkout and {revision!r} have nothing in common",
            where=str(repository),
            why="they have no common ancestor, or a shallow clone does not reach back to it",
            next_step="git fetch --unshallow; in CI, check out with fetch-depth: 0",
        )
    changed = git.names("diff", "--name-only", "--no-renames", "--relative", "-z", base, "--")
    files = sorted({*changed, *git.names("ls-files", "--others", "--exclude-standard", "-z")})
    return ChangeSet(
        since=revision,
        files=tuple(files),
        before=_matrix(git, base) if MATRIX in files else None,
        pins=_pins(git, base, repository) if PINS in files else frozenset(),
    )


class _Git:
    """git in one repository; `last` is what it answered last."""

    last: Completed

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def ask(self, *words: str) -> Completed:
        # In CI a checkout often belongs to another user; here it is only read.
        command = Command(words=("git", "-c", "safe.directory=*", "-C", str(self._repository), *words))
        self.last = run_logged(command, split=True)
        return self.last

    def names(self, *words: str) -> list[str]:
        done = self.ask(*words).check(SelectionError, "git does not say what has changed")
        return [name for name in done.output.split("\0") if name]

    def text(self, commit: str, name: str) -> str:
        """Return a file as it was; empty if it was not there."""
        done = self.ask("show", f"{commit}:./{name}")
        return done.output if done.ok else ""


def _matrix(git: _Git, commit: str) -> Matrix | MatrixError:
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        file = Path(folder) / MATRIX
        file.write_text(git.text(commit, MATRIX), encoding="utf-8")
        try:
            return loading.load(file)
        except MatrixError as problem:
            return problem


def _pins(git: _Git, commit: str, repository: Path) -> frozenset[str]:
    """Return the paths and image names whose entries are different."""
    file = repository / PINS
    before, now = pins_in(git.text(commit, PINS)), pins_in(file.read_text("utf-8") if file.is_file() else "")
    return frozenset(name for name, _ in before.items() ^ now.items())
