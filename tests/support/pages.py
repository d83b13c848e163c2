"""The page of the documentation that programs write their figures into, between marks."""

from pathlib import Path

from ci import paths
from ci.errors import ResultsError
from tests.support.figures import put_between

PERFORMANCE = paths.REPOSITORY / "docs" / "performance.md"


def put(mark: str, text: str, page: Path = PERFORMANCE) -> None:
    """Put figures between the marks of that name.

    :raises ResultsError: if the page does not have them.
    """
    try:
        page.write_text(put_between(page.read_text(encoding="utf-8"), mark, text), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ResultsError(
            "the figures were not written",
            where=str(page),
            why=str(error),
            next_step=f"git checkout {page.relative_to(paths.REPOSITORY)}",
        ) from error
