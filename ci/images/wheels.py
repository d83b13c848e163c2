"""Wheels for a machine that is not this one: which tags fit it, and whether a set of wheels is complete for it.

Pure apart from reading wheels. It exists because ``pip download --platform`` picks wheels for the target but evaluates
environment markers on the machine it runs on, so a dependency that only the target needs can be left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import Parser
import hashlib
from pathlib import Path
from typing import Self
import zipfile

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from ci.artefacts.download import sha256_of
from ci.errors import SubjectError
from ci.matrix.arch import Arch

# glibc of Debian 12, the oldest suite of the matrix; wheels for it run on the newer ones as well.
_GLIBC_MINOR = 36
_OLDEST_MINOR = {Arch.AMD64: 5, Arch.ARM64: 17}
_LEGACY = {Arch.AMD64: ("manylinux2014", "manylinux2010", "manylinux1"), Arch.ARM64: ("manylinux2014",)}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where wheels are to be installed: CPython on Debian."""

    python: str
    """Major and minor version, for example ``3.11``."""
    arch: Arch

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that fit, best first, as pip's ``--platform`` takes them."""
        minors = range(_GLIBC_MINOR, _OLDEST_MINOR[self.arch] - 1, -1)
        names = [*(f"manylinux_2_{minor}" for minor in minors), *_LEGACY[self.arch], "linux"]
        return tuple(f"{name}_{self.arch.uname}" for name in names)

    @property
    def markers(self) -> dict[str, str]:
        """The values that environment markers (PEP 508) have there."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.arch.uname,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def __str__(self) -> str:
        """Return it as shown to a person."""
        return f"Python {self.python} on Linux {self.arch}"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """What a wheel says about itself."""

    name: NormalizedName
    version: Version
    requires: tuple[Requirement, ...] = ()

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the metadata of a wheel; ``SubjectError`` where the file is none."""
        try:
            with zipfile.ZipFile(file) as archive:
                entry = next(
                    name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1
                )
                metadata = Parser().parsestr(archive.read(entry).decode(), headersonly=True)
            return cls(
                name=canonicalize_name(metadata["Name"]),
                version=Version(metadata["Version"]),
                requires=tuple(Requirement(text) for text in metadata.get_all("Requires-Dist", [])),
            )
        except (OSError, zipfile.BadZipFile, StopIteration, TypeError, InvalidVersion, InvalidRequirement) as problem:
            why = f"{type(problem).__name__}: {problem}"
            raise SubjectError("A wheel can't be read.", where=str(file), why=why) from problem

    def needs(self, extras: Iterable[str], target: Target) -> list[Requirement]:
        """Return what it requires on the target, with these extras; markers are evaluated and removed."""
        environments = [{**target.markers, "extra": extra} for extra in ("", *extras)]
        return [
            _without_marker(requirement)
            for requirement in self.requires
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments)
        ]


def unmet(roots: Iterable[Requirement], wheels: Iterable[Wheel], target: Target) -> list[str]:
    """Return the requirements, direct or not, that a set of wheels leaves open on the target; sorted."""
    offered: dict[NormalizedName, Wheel] = {wheel.name: wheel for wheel in wheels}
    pending = [_without_marker(root) for root in roots if root.marker is None or root.marker.evaluate(target.markers)]
    seen: set[str] = set()
    lacking: set[str] = set()
    while pending:
        requirement = pending.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        wheel = offered.get(canonicalize_name(requirement.name))
        if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
            lacking.add(str(requirement))
            continue
        pending += wheel.needs(requirement.extras, target)
    return sorted(lacking)


def checksums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each wheel in a folder, by file name; sorted."""
    return {file.name: sha256_of(file) for file in sorted(folder.glob("*.whl"))}


def fingerprint(sums: Mapping[str, str]) -> str:
    """Return one sha256 over names and checksums, whatever their order."""
    lines = "".join(f"{checksum}  {name}\n" for name, checksum in sorted(sums.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _without_marker(requirement: Requirement) -> Requirement:
    bare = Requirement(str(requirement))
    bare.marker = None
    return bare
