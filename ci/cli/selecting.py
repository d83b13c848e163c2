"""The arguments of commands that say which cells and suites are meant."""

import argparse

from ci.errors import program
from ci.matrix.mentioned import GROUP_VARIABLE
from ci.options import values


def add_cell(parser: argparse.ArgumentParser) -> None:
    """Add the one cell that is meant."""
    parser.add_argument("cell", metavar="CELL", help=f"its id, as `{program()} cells` lists it")


def add_cells(parser: argparse.ArgumentParser) -> None:
    """Add the cells that are meant: by name, or those of a group."""
    parser.add_argument("cells", nargs="*", metavar="CELL", help="cells by name (default: those of the group)")
    parser.add_argument(
        "--group", metavar="GROUP", help=f"a group of matrix.toml (default: ${GROUP_VARIABLE}, then the matrix' own)"
    )


def add_arch(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves out cells of another architecture."""
    parser.add_argument("--arch", type=values.arch, metavar="ARCH", help="leave out other architectures")


def add_suites(parser: argparse.ArgumentParser) -> None:
    """Add the option that names suites."""
    parser.add_argument(
        "--suite",
        dest="suites",
        action="append",
        default=[],
        metavar="SUITE",
        help="a suite to run (repeatable; default: all that apply, but those that a group is not run with)",
    )
