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
    says: str
    """What bats writes then; a failure without these words is another one."""
    pyxis: SpecifierSet
    enroot: SpecifierSet
    slurm: SpecifierSet

    def matches(self, test: str) -> bool:
        """Tell whether a test is among them."""
        return any(matches(test, pattern) for pattern in self.tests)


@dataclass(frozen=True, kw_only=True)
class SecondTry:
    """Tests whose failure says nothing of Pyxis if it has certain words: they are tried again."""

    tests: tuple[str, ...]
    says: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for one release."""

    entries: tuple[Entry, ...]
    skips: dict[str, str]
    """What bats may say when it skips a test, and what is missing then."""
    alone: tuple[str, ...]
    """Tests that nothing else may run beside."""
    second_tries: tuple[SecondTry, ...]

    def entry(self, test: str) -> Entry | None:
        """Return the entry that names a test."""
        return next((entry for entry in self.entries if entry.matches(test)), None)

    def is_alone(self, test: str) -> bool:
        """Tell whether nothing else may run beside a test."""
        return any(matches(test, pattern) for pattern in self.alone)

    def why_again(self, test: str, answer: str) -> str:
        """Return why a failure with this answer of bats says nothing of Pyxis, nor why the test is not applicable.

        Empty where it does.
        """
        entry = self.entry(test)
        if entry and entry.says in answer:
            return ""
        found = (it for it in self.second_tries if it.says in answer and any(matches(test, each) for each in it.tests))
        return next((f"{it.says}: {it.reason}" for it in found), "")


def load(path: Path, *, pyxis: Version, enroot: Version, slurm: Version) -> Rules:
    """Read from a list the rules for a release of Pyxis on one of enroot and one of Slurm."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    entries = (
        Entry(
            tests=tuple(row["tests"]),
            reason=row["reason"],
            says=row["says"],
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
        second_tries=tuple(
            SecondTry(tests=tuple(row["tests"]), says=row["says"], reason=row["reason"]) for row in data["second-try"]
        ),
    )


def matches(test: str, pattern: str) -> bool:
    """Match with ``*`` and ``?``; brackets stand for themselves."""
    return fnmatchcase(test, pattern.replace("[", "[[]"))
