"""Pyxis' own bats suite as it stands in the source archive of a release: its tests, and what running one answered."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
import io
from pathlib import Path
import re
import shlex
import tarfile

from ci.artefacts.releases import CANDIDATES
from ci.environment_file import EnvironmentFile

_TEST = re.compile(r'^@test "(?P<name>(?:[^"\\]|\\.)*)" \{', re.MULTILINE)
# A name is text in bash's double quotes.
_QUOTED = re.compile(r'\\([$"\\`])')

# These submit batch jobs; upstream runs them on the login node, and all others within a job.
OUTSIDE_OF_JOBS = "sbatch/"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One bats test of the suite."""

    file: str
    """Its path below ``tests/``."""
    name: str

    @property
    def id(self) -> str:
        """Its name in reports and in the list of tests that are not applicable."""
        return f"{self.file}: {self.name}"

    def command(self) -> str:
        """Return the command line that runs this test alone, in a folder that holds ``tests/``."""
        bats = shlex.join(["bats", "--tap", "--filter", _filter(self.name), f"tests/{self.file}"])
        if self.file.startswith(OUTSIDE_OF_JOBS):
            return bats
        # As upstream's README has it; that a step may start beside another one is for Slurm to say, and by default it
        # does not in an allocation of a few CPUs.
        return f"SLURM_OVERLAP=1 salloc --quiet --overcommit --nodes 1 {bats}"


def _filter(name: str) -> str:
    """Return the extended regular expression that selects a test; later versions of bats compare with its source."""
    escaped = re.sub(r"([][(){}.*+?^|\\])", r"\\\1", name)
    return "^" + re.sub(r'([$"`])', r"[\\]?[\1]", escaped) + "$"


def source_archive(environment: EnvironmentFile) -> Path:
    """Return the archive that the cell's Pyxis was compiled from."""
    places = ("NVIDIA/pyxis/", f"{CANDIDATES}/pyxis/")
    found = [file for path, file in environment.artefacts.items() if path.startswith(places)]
    assert len(found) == 1, f"the environment names no source archive of Pyxis: {dict(environment.artefacts)}"
    return Path(found[0])


def cases(archive: Path) -> tuple[Case, ...]:
    """Return the tests of a release in the order of its files."""
    with tarfile.open(archive) as source:
        texts = {path: content.decode() for path, _, content in _members(source) if path.endswith(".bats")}
    return tuple(case for path, text in sorted(texts.items()) for case in parse(path.removeprefix("tests/"), text))


def parse(file: str, text: str) -> Iterator[Case]:
    """Yield the tests of one file."""
    for match in _TEST.finditer(text):
        yield Case(file=file, name=_QUOTED.sub(r"\1", match["name"]))


def packed_tests(archive: Path) -> bytes:
    """Return the release's folder ``tests`` as an archive of its own."""
    buffer = io.BytesIO()
    with tarfile.open(archive) as source, tarfile.open(fileobj=buffer, mode="w:gz") as target:
        for path, member, content in _members(source):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), member.mode
            target.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _members(source: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """Yield the files below ``tests/``, without the archive's own top folder."""
    for member in source:
        path = member.name.partition("/")[2]
        if member.isfile() and path.startswith("tests/"):
            content = source.extractfile(member)
            assert content
            yield path, member, content.read()


class State(StrEnum):
    """What bats says of a test."""

    OK = "ok"
    NOT_OK = "not ok"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one test."""

    state: State
    reason: str = ""
    """Why bats skipped it."""


def verdict(case: Case, tap: str) -> Verdict:
    """Read the answer of ``case.command()``; anything but exactly this one test's result is an error."""
    results = re.findall(r"^(ok|not ok) \d+ (.*)$", tap, re.MULTILINE)
    assert len(results) == 1, f"bats ran {len(results)} tests instead of {case.id!r}:\n{tap}"
    state, name = results[0]
    name, _, skipped = name.partition(" # skip")
    assert name == case.name, f"bats ran {name!r} instead of {case.name!r}"
    if skipped:
        return Verdict(state=State.SKIPPED, reason=skipped.strip())
    return Verdict(state=State.OK if state == "ok" else State.NOT_OK)


def failing_command(tap: str) -> str:
    """Return the line in which bats names the command that failed; the first line where it names none."""
    named = re.search(r"^# +(`.*' failed.*)$", tap, re.MULTILINE)
    return named[1] if named else tap.partition("\n")[0]
