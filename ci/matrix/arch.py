"""Architectures and all their spellings; no other module has any."""

from enum import StrEnum
import platform

_SYNONYMS = {
    "amd64": ("amd64", "x86_64", "x86-64", "x64", "linux/amd64"),
    # Image indexes name the variant as well: v8 is all of arm64.
    "arm64": ("arm64", "aarch64", "arm64/v8", "linux/arm64", "linux/arm64/v8"),
}


class Arch(StrEnum):
    """A processor architecture, valued by its Debian and OCI name."""

    AMD64 = "amd64"
    ARM64 = "arm64"

    @classmethod
    def parse(cls, text: str) -> "Arch":
        """Return the architecture for any common spelling; ``ValueError`` for an unknown one."""
        wanted = text.strip().lower()
        for name, spellings in _SYNONYMS.items():
            if wanted in spellings:
                return cls(name)
        known = ", ".join(spelling for spellings in _SYNONYMS.values() for spelling in spellings)
        raise ValueError(f"unknown architecture {text!r} (known: {known})")

    @classmethod
    def host(cls) -> "Arch":
        """Return this machine's architecture; ``ValueError`` on one the project does not know."""
        return cls.parse(platform.machine())

    @property
    def uname(self) -> str:
        """What ``uname -m`` prints, and what ``enroot import --arch`` takes."""
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.value]

    @property
    def platform(self) -> str:
        """The OCI platform, as ``docker build --platform`` takes it."""
        return f"linux/{self.value}"
