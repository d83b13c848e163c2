"""A copy of the repository in which one line is another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil
import tempfile

from ci import paths
from ci.errors import LaunchError
from tests.mutations.mutation import Source

_LEFT_OUT = (".git", ".nox", ".venv", "results")
"""Of the repository's root."""


@contextmanager
def changed(source: Source | None) -> Iterator[Path]:
    """Copy the repository, change it, and have it until the block ends; nothing is changed where there is no source."""
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(paths.REPOSITORY, copy, ignore=_ignored, symlinks=True)
        if source:
            file = copy / source.path
            file.write_text(replaced(file.read_text(encoding="utf-8"), source), encoding="utf-8")
        yield copy


def _ignored(folder: str, names: list[str]) -> list[str]:
    return [it for it in names if it == "__pycache__" or (it in _LEFT_OUT and Path(folder) == paths.REPOSITORY)]


def replaced(text: str, source: Source) -> str:
    """Return a file's text with the change made."""
    if (times := text.count(source.old)) != 1:
        raise LaunchError(
            "a mutation could not be made",
            where=source.path,
            why=f"{source.old!r} occurs {times} times there, and has to once",
            next_step="correct it in tests/mutations/details.py",
        )
    return text.replace(source.old, source.new)
