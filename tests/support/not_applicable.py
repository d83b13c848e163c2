"""Which of Pyxis' own tests are not applicable here, with reasons: what a list says of a release."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
import tomllib

from packaging.specifiers import SpecifierSet
from packaging.version import Version


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Tests that can't pass here, and why."""

    tests: tuple[str, ...]
    """Ids, with ``*`` and ``?``."""
    reason: str
    pyxis: SpecifierSet
    enroot: SpecifierSet
    slurm: SpecifierSet

    def matches(self, test: str) -> bool:
        """Tell whether a test is among them."""
        return any(matches(test, pattern) for pattern in self.tests)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for one release."""

    entries: tuple[Entry, ...]
    skips: dict[str, str]
    """What bats may say when it skips a test, and what is missing then."""
    alone: tuple[str, ...]
    """Tests that nothing else may run beside."""
    in_a_hurry: tuple[str, ...]
    """Tests that give another step a few seconds to start."""

    def entry(self, test: str) -> Entry | None:
        """Return the entry that names a test."""
        return next((entry for entry in self.entries if entry.matches(test)), None)

    def is_alone(self, test: str) -> bool:
        """Tell whether nothing else may run beside a test."""
        return any(matches(test, pattern) for pattern in (*self.alone, *self.in_a_hurry))

    def attempts(self, test: str) -> int:
        """Return how often a test is tried before its failure counts."""
        return 3 if any(matches(test, pattern) for pattern in self.in_a_hurry) and not self.entry(test) else 1


def load(path: Path, *, pyxis: Version, enroot: Version, slurm: Version) -> Rules:
    """Read from a list the rules for a release of Pyxis on one of enroot and one of Slurm."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    entries = (
        Entry(
            tests=tuple(row["tests"]),
            reason=row["reason"],
            pyxis=SpecifierSet(row.get("pyxis", "")),
            enroot=SpecifierSet(row.get("enroot", "")),
            slurm=SpecifierSet(row.get("slurm", "")),
        )
        for row in data["not-applicable"]
    )
    return Rules(
        entries=tuple(
            entry for entry in entries if pyxis in entry.pyxis and enroot in entry.enroot and slurm in entry.slurm
        ),
        skips=data["skips"],
        alone=tuple(data["alone"]["tests"]),
        in_a_hurry=tuple(data["in-a-hurry"]["tests"]),
    )


def matches(test: str, pattern: str) -> bool:
    """Match with ``*`` and ``?``; brackets stand for themselves."""
    return fnmatchcase(test, pattern.replace("[", "[[]"))
