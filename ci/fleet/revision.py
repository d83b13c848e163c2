"""What has changed since a revision of git, uncommitted and new files included."""

from pathlib import Path
import tempfile

from ci import paths
from ci.artefacts.checkout import git, last_words
from ci.artefacts.pins import pins_in
from ci.errors import MatrixError, SelectionError
from ci.fleet.affected import MATRIX, PINS, ChangeSet
from ci.matrix import loading
from ci.matrix.model import Matrix


def changes_since(revision: str, repository: Path = paths.REPOSITORY) -> ChangeSet:
    """Return what is different from where this checkout parted from a revision.

    :raises SelectionError: if there is no git, no such revision, or nothing that both have come from.
    """
    if (found := git(repository, "rev-parse", "--git-dir")).returncode:
        raise SelectionError(
            "changes can't be told: this is not a checkout of git",
            where=str(repository),
            why=last_words(found),
            next_step="leave --changed-since out, or run from a clone",
        )
    # After --end-of-options a revision that begins with a dash is not an option of git.
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    commit = git(repository, *verify).stdout.strip()
    if not commit:
        raise SelectionError(
            f"the revision {revision!r} was not found",
            where=str(repository),
            why="a shallow clone has few revisions, and a clone has the branches of others as origin/NAME",
            next_step="git fetch origin, in a shallow clone with --unshallow; in CI, check out with fetch-depth: 0",
        )
    # What others have changed on that branch meanwhile was not changed in this checkout.
    base = git(repository, "merge-base", "HEAD", commit).stdout.strip()
    if not base:
        raise SelectionError(
            f"this checkout and {revision!r} have nothing in common",
            where=str(repository),
            why="they have no common ancestor, or a shallow clone does not reach back to it",
            next_step="git fetch --unshallow; in CI, check out with fetch-depth: 0",
        )
    # Without renames a file that was moved counts by both names. With -z names may hold line breaks.
    changed = _names(repository, "diff", "--name-only", "--no-renames", "--relative", "-z", base, "--")
    files = sorted({*changed, *_names(repository, "ls-files", "--others", "--exclude-standard", "-z")})
    return ChangeSet(
        since=revision,
        files=tuple(files),
        before=_matrix(repository, base) if MATRIX in files else None,
        pins=_pins(repository, base) if PINS in files else frozenset(),
    )


def _names(repository: Path, *words: str) -> list[str]:
    done = git(repository, *words)
    if done.returncode:
        raise SelectionError("git does not say what has changed", where=str(repository), why=last_words(done))
    return [name for name in done.stdout.split("\0") if name]


def _before(repository: Path, commit: str, name: str) -> str:
    """Return a file as it was; empty if it was not there."""
    # With ./ the path begins at this folder, which may lie in a larger repository.
    return git(repository, "show", f"{commit}:./{name}").stdout


def _matrix(repository: Path, commit: str) -> Matrix | MatrixError:
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        file = Path(folder) / MATRIX
        # With the bytes that git has: a file that is not UTF-8 is then refused as the matrix of today would be.
        file.write_bytes(_before(repository, commit, MATRIX).encode(errors="surrogateescape"))
        try:
            return loading.load(file)
        except MatrixError as problem:
            return problem


def _pins(repository: Path, commit: str) -> frozenset[str]:
    """Return the paths and image names whose entries are different."""
    file = repository / PINS
    before, now = pins_in(_before(repository, commit, PINS)), pins_in(file.read_text("utf-8") if file.is_file() else "")
    return frozenset(name for name, _ in before.items() ^ now.items())
