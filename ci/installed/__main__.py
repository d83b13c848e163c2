"""``pyxis-matrix`` and ``python -m pyxis_matrix``: the commands of ``python -m ci``, where that is installed.

``ci`` and ``tests`` can be imported in this process and in those that it starts in the tree, and nowhere else.
"""

import os
from pathlib import Path
import sys

# Not by the package's `tree()`: the environment of tests has no such package, and starts this file.
_TREE = Path(__file__).resolve().parent / "tree"


def main() -> int:
    """Run a command; return its exit code."""
    # In place of what Python put there: the folder of the script, or the current one, which may have a `ci` of its own.
    sys.path[: not sys.flags.safe_path] = [str(_TREE)]
    os.environ.pop("PYTHONSAFEPATH", None)  # what is started with -m is found in its current folder, the tree
    unwritten, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    from ci import errors, paths  # noqa: PLC0415 - found from here on

    try:
        paths.settle()
    except errors.PyxisMatrixError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.dont_write_bytecode = unwritten
    from ci.cli.main import main as run  # noqa: PLC0415 - its bytecode has a place now

    return run()


if __name__ == "__main__":
    sys.exit(main())
