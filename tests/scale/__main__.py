"""How the report grows: makes synthetic results of so many cells, merges them, opens the page, and prints what it took.

``nox -s scale -- 50 500 5000``.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
import sys
import tempfile

from tests.support.results import SUITES
from tests.support.scale import Figures, measure

SIZES = (50, 500, 5_000)


def show(figures: Sequence[Figures]) -> str:
    """Return a table in Markdown."""
    names = [it.name for it in fields(Figures)]
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    for each in figures:
        values = [getattr(each, name) for name in names]
        texts = ["-" if it is None else f"{it:,}" if isinstance(it, int) else f"{it:.2f}" for it in values]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure the sizes that are asked for."""
    parser = ArgumentParser(prog="python -m tests.scale", description="How the report grows with the number of cells.")
    parser.add_argument("cells", nargs="*", type=int, default=SIZES, help="numbers of cells, up to 5000")
    parser.add_argument("--without-browser", action="store_true", help="without the page's first paint")
    asked = parser.parse_args()
    found = []
    for cells in asked.cells:
        with tempfile.TemporaryDirectory(prefix="pyxis-matrix-scale-") as folder:
            found.append(measure(cells, Path(folder), browser=not asked.without_browser))
        sys.stderr.write(f"{cells} cells: done\n")
    sys.stdout.write(f"{', '.join(f'{count} tests of {name}' for name, count in SUITES.items())} per cell\n\n")
    sys.stdout.write(show(found) + "\n")


if __name__ == "__main__":
    main()
