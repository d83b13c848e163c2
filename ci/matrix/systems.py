"""Operating systems, and their families: each is a file in ``containers/families``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
import re

from ci import paths
from ci.matrix.tables import TomlTable, read_table

OS_NAME = r"[a-z]+(?:\d+(?:\.\d+)*)?"
"""How the name of an operating system is written: ``debian12``, ``ubuntu24.04``, ``sid``. It is a part of ids."""

# By its version wheels are chosen: manylinux_2_36 needs glibc 2.36 or newer.
_GLIBC = re.compile(r"2\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Operating systems whose base image is made the same way, and whose packages have the same names."""

    name: str = ""
    """That of its file, for example ``debian``."""
    image: str = ""
    """What is pulled, with ``{codename}`` in it; empty if nothing is."""
    archive: str = ""
    """The address of its packages."""
    options: tuple[str, ...] = ()
    """More options of mmdebstrap, for example ``--components=main,universe``."""
    glibc: tuple[tuple[str, int], ...] = ()
    """By code name: the minor version of glibc 2, or an older one."""

    @property
    def mirror_variable(self) -> str:
        """The environment variable that names another place of its packages."""
        return f"PYXIS_MATRIX_{self.name.upper()}_MIRROR"


@dataclass(frozen=True, kw_only=True)
class OperatingSystem:
    """What a cell's nodes run on."""

    name: str
    """For example ``debian12``."""
    codename: str
    """For example ``bookworm``: its packages and base image are found by it."""
    family: Family = field(compare=False, repr=False)

    @property
    def glibc(self) -> int:
        """The minor version of its glibc 2, or an older one."""
        return dict(self.family.glibc)[self.codename]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def families(folder: Path | None = None) -> Mapping[str, Family]:
    """Return the families by the code names of their systems.

    :raises MatrixError: with all faults of a family's file.
    """
    return _families(folder or paths.FAMILIES)


@lru_cache(maxsize=8)
def _families(folder: Path) -> Mapping[str, Family]:
    """Read the files once: they are asked for with each cell."""
    found = [_read(file) for file in sorted(folder.glob("*.toml"))]
    return {codename: family for family in found for codename, _ in family.glibc}


def _read(file: Path) -> Family:
    root = read_table(file)
    # Without the table the reading goes on, so that all faults of the file are said at once.
    table = root.table("glibc") or TomlTable({}, "glibc", root.faults)
    found = {codename: _GLIBC.fullmatch(table.text(codename)) for codename in table.values}
    for codename in (codename for codename, version in found.items() if not version):
        table.fault(codename, 'glibc is written as "2.36"')
    if not found:
        root.fault("glibc", 'names no release; for example [glibc] with bookworm = "2.36"')
    family = Family(
        name=file.stem,
        image=root.text("image", ""),
        archive=root.text("archive"),
        options=root.texts("options"),
        glibc=tuple((codename, int(version[1])) for codename, version in found.items() if version),
    )
    root.finish()
    root.faults.raise_if_any()
    return family
