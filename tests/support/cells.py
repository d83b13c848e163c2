"""Cells and what they are made of, for tests that need some and do not care which."""

from packaging.version import Version

from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmSource, SlurmVersion
from ci.matrix.systems import OperatingSystem, families

DEBIAN12 = OperatingSystem(name="debian12", codename="bookworm", family=families()["bookworm"])
DEBIAN13 = OperatingSystem(name="debian13", codename="trixie", family=families()["trixie"])
PACKAGES = SlurmVersion(version="22.05")
"""Debian 12's own Slurm."""
ARCHIVE = SlurmVersion(version="25.11.7", source=SlurmSource.ARCHIVE)
REAL = Cell(
    slurm=PACKAGES,
    os=DEBIAN12,
    runtime=Runtime.NVIDIA,
    enroot=Version("3.4.1"),
    pyxis=Version("0.19.0"),
    arch=Arch.AMD64,
)
EMBEDDED = Cell(slurm=PACKAGES, os=DEBIAN12, runtime=Runtime.EMBEDDED, arch=Arch.AMD64)
