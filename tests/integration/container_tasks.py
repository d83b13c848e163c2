"""What the container suites run inside images.

The file is copied into every test image and imported there under the same name, so it may need nothing but the standard
library, the SDK, and what a test puts into its image.
"""

import importlib
from pathlib import Path
import socket

from slurm import task


def _read(path: str) -> str | None:
    file = Path(path)
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


@task(time="00:10:00")
def add(first: int, second: int) -> dict[str, object]:
    """Add two numbers, and say where that was done."""
    return {
        "sum": first + second,
        "host": socket.gethostname(),
        "image": _read("/etc/pyxis-matrix-image"),
        "marker": _read("/etc/pyxis-matrix-test"),
    }


@task(time="00:10:00")
def invert(rows: list[list[float]]) -> dict[str, object]:
    """Invert a matrix with numpy, which only the image has."""
    numpy = importlib.import_module("numpy")  # it is nowhere but in the image
    return {"inverse": numpy.linalg.inv(numpy.array(rows)).tolist(), "where": str(Path(str(numpy.__file__)).parent)}
