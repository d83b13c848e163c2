"""pyxis-matrix as a package that is installed elsewhere; see docs/install.md.

A wheel has these modules as the package ``pyxis_matrix``, and the repository's files in its folder ``tree``. Programs
start ``[sys.executable, "-m", "pyxis_matrix", …]``, in a checkout ``python -m ci``: both have the same commands.
"""

from pathlib import Path


def tree() -> Path:
    """Return the folder with this project's files: that within the package, or the checkout that this module is of."""
    own = Path(__file__).resolve().parent
    inside = own / "tree"
    return inside if inside.is_dir() else own.parents[1]
