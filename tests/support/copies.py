"""Copies of the repository, for what has to change files of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil
import tempfile

from ci import paths

_LEFT_OUT = (".git", ".nox", ".venv", "results")
"""Of the repository's root."""


@contextmanager
def copied() -> Iterator[Path]:
    """Copy the repository, without what git, nox and runs keep in it, and have the copy until the block ends."""
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(paths.REPOSITORY, copy, ignore=_ignored, symlinks=True)
        yield copy


def _ignored(folder: str, names: list[str]) -> list[str]:
    return [it for it in names if it == "__pycache__" or (it in _LEFT_OUT and Path(folder) == paths.REPOSITORY)]
