"""Draws what a command prints on a terminal, as SVG: ``nox -s picture -- docs/terminal.svg -- report RUN``."""

from collections.abc import Sequence
from contextlib import suppress
import io
import os
from pathlib import Path
import pty
import re
import subprocess
import sys

from rich.console import Console
from rich.text import Text

from ci.errors import program
from tests.support.program import guarded, parser_of

WIDTH, LINES = 150, 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the picture; return an exit code."""
    own = [*(sys.argv[1:] if arguments is None else arguments), "--"]
    at = own.index("--")
    parser = parser_of("picture", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="where the picture goes")
    asked, words = parser.parse_args(own[:at]), own[at + 1 : -1]

    def draw() -> int:
        text = drawn(printed(words, WIDTH), " ".join([program(), *words]), WIDTH, LINES)
        asked.file.write_text(text, encoding="utf-8")
        return 0

    return guarded(draw, "what the command asked of it")


def printed(words: Sequence[str], width: int) -> str:
    """Return what ``python -m ci`` prints with these arguments, on a terminal of so many columns."""
    ours, its = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color"}
    said = bytearray()
    with subprocess.Popen([sys.executable, "-m", "ci", *words], stdin=its, stdout=its, env=environ):
        os.close(its)
        with suppress(OSError):  # the command has ended, and nobody has the terminal open
            while part := os.read(ours, 65536):
                said += part
        os.close(ours)
    return said.decode().replace("\r\n", "\n")


def drawn(said: str, title: str, width: int, lines: int) -> str:
    """Return the first lines as SVG, which asks no server for a font."""
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    shown = Text.from_ansi(said).split()
    more = [Text(f"… and {len(shown) - lines} more lines")] if shown[lines:] else []
    console.print(*shown[:lines], *more, sep="\n", no_wrap=True, overflow="ellipsis")
    picture = console.export_svg(title=title, unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
