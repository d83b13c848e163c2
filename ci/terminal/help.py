"""The layout of ``--help``: every text is wrapped to the width of the terminal."""

import argparse
import textwrap
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser, also for its subcommands: paragraphs and usages are wrapped, and no option is split at a dash."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - those of argparse
        """Take the arguments of `argparse.ArgumentParser`; the formatter is ours."""
        super().__init__(**{"formatter_class": _Formatter, **given})


# Python documents none of these methods, and offers no other way to lay help out.
class _Formatter(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        # argparse would fill all paragraphs as one.
        return "\n\n".join([fill(paragraph, width, indent) for paragraph in text.split("\n\n")])

    def _split_lines(self, text: str, width: int) -> list[str]:
        # argparse breaks words at dashes, and what a person copies of `--container-name` has to be whole.
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_usage(self, usage: str | None, *more: Any) -> str:  # noqa: ANN401 - those of argparse
        text = super()._format_usage(usage, *more)
        if not usage:
            return text  # argparse breaks its own
        # A command may have several usages, each on a line of its own: `profile check` and `profile import`.
        first, *others = (line.strip() for line in text.strip().splitlines())
        indent = " " * len("usage: ")
        wrapper = textwrap.TextWrapper(self._width, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
        return "\n".join([wrapper.fill(line) for line in (first, *(f"{indent}{line}" for line in others))]) + "\n\n"
