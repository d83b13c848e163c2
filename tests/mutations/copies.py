"""A copy of the repository in which one line is another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.errors import LaunchError
from tests.mutations.mutation import Source
from tests.support.copies import copied


@contextmanager
def changed(source: Source | None) -> Iterator[Path]:
    """Copy the repository, change it, and have it until the block ends; nothing is changed where there is no source."""
    with copied() as copy:
        if source:
            file = copy / source.path
            file.write_text(replaced(file.read_text(encoding="utf-8"), source), encoding="utf-8")
        yield copy


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
