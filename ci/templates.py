"""Text that is made of templates: scripts, Markdown, the page of a report."""

from pathlib import Path
import shlex

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folder: Path, *, html: bool = False) -> Environment:
    """Return what renders the templates in a folder; an unknown variable is an error, never an empty text.

    :param html: whether values are escaped. Otherwise they stand as they are; the filter `quoted` makes of one what a
        shell takes for a single word.
    """
    found = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A script ends in a line break, which jinja would take away.
        keep_trailing_newline=not html,
        autoescape=html,  # noqa: S701 - what is not HTML is a script or Markdown
    )
    found.filters["quoted"] = shlex.quote
    return found
