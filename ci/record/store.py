"""The result of a suite on a cell, as a file: ``results/RUN/CELL/SUITE/result.json``.

Beside it lie ``reportlog.jsonl`` and ``junit.xml``, written by pytest, and ``logs/``. The file is deterministic (sorted
keys, rounded seconds), so that two results can be compared with ``diff``, and is written in one stroke, so that it is
never seen half.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec

from ci.artefacts.sources import DIFFERS
from ci.errors import ResultsError, as_here, suite_session
from ci.matrix.cells import Cell
from ci.record import files
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState

SCHEMA = 4
RESULT_FILE = "result.json"
REPORT_LOG_FILE = "reportlog.jsonl"
"""What pytest said of its tests while they ran; results are made from it."""
JUNIT_FILE = "junit.xml"
"""For other tools, which know this format; nothing here reads it."""
LOGS_FOLDER = "logs"

# A time without a zone would be another moment on each machine.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class CellRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cell that was asked for."""

    id: str
    runtime: str
    axes: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    os: str = ""
    arch: str = ""
    tags: tuple[str, ...] = ()
    profile: str = ""
    """The profile that is laid over its nodes; empty for none."""
    site: str = ""
    """The name of the cluster that exists, where this is one; empty for a cell of the matrix."""

    @property
    def apart(self) -> str:
        """Why it is counted and shown apart from cells of the same versions; empty for a plain cell."""
        return f"site {self.site}" if self.site else f"profile {self.profile}" if self.profile else ""

    @classmethod
    def of(cls, cell: Cell) -> Self:
        """Return the record of a cell of the matrix."""
        return msgspec.convert(cell.as_json(), cls)


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A container image that took part."""

    name: str
    tag: str
    digest: str
    """Digest or, for an image that was never pushed, the engine's id."""
    built: bool = False
    """Built by this run; False means reused, or pulled."""
    seconds: float = 0.0
    size: int = 0
    """Bytes."""
    origin: str = ""
    """For a base image and one that was pulled: which digest, or made when and of which packages."""


class ArtefactRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file from outside that went into an image, and why it was trusted."""

    path: str
    """Relative path, the same as upstream's URL."""
    source: str
    """Where it was taken from: the mirror, the cache or upstream."""
    sha256: str
    verified_against: str
    """What its checksum was compared with; empty if with nothing. "first seen": with what was first downloaded here.

    "differs from pins.toml", alone or after a comma: that list has another file under this path.
    """
    commit: str = ""
    """For the source archive of a tag: the commit that stands in it."""

    @property
    def differs(self) -> str:
        """What is said where it is not the file that a list has under its path; empty where it is."""
        return next((part for part in self.verified_against.split(", ") if part.startswith(DIFFERS)), "")


def shared_fields(record: msgspec.Struct, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return what a record has of the fields of another kind of record, by name."""
    return {field.name: getattr(record, field.name) for field in msgspec.structs.fields(kind)}


class SuiteRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One time that a suite was run on a cell."""

    run: str
    outcome: Outcome
    started: Moment
    seconds: float
    fingerprint: str = ""
    """The identity of all that decides the result; empty where it is not known. Equal ones ought to end alike."""
    reused_from: str = ""
    """The id of the run whose result this is: nothing was changed since, so nothing was run; empty where it was run."""


class SuiteFacts(SuiteRun, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a result and a report say alike of a suite on a cell."""

    suite: str
    reason: str = ""
    """Why it was skipped, or what went wrong outside of the tests, with the remedy."""
    versions: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Versions as observed inside the cluster, not as asked for: slurm, enroot, pyxis, kernel, arch, …"""
    subject: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The package under test: requirement and version."""
    nodes: tuple[str, ...] = ()
    timings: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Seconds per phase: images, launch, ready, tests, teardown."""
    ready: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Seconds until each condition of readiness held."""
    again: str = ""
    """The command that runs it again."""
    commit: str = ""
    """Of this project, whose tests these are; with ``-dirty`` where files were changed. Empty where nothing says it."""


class Result(SuiteFacts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suite that was run, or could not be run, on a cell."""

    cell: CellRecord
    exit_code: int
    images: tuple[ImageRecord, ...] = ()
    artefacts: tuple[ArtefactRecord, ...] = ()
    tests: tuple[TestOutcome, ...] = ()
    selection: Selection | None = None
    """Which of its tests were to run; None where pytest did not say it."""
    schema: int = SCHEMA

    @property
    def cell_id(self) -> str:
        """The cell's one name."""
        return self.cell.id

    @property
    def is_part(self) -> bool:
        """Whether only a part of the suite was asked for and no test of it failed: it says nothing of the suite."""
        is_red = any(test.outcome.red for test in self.tests)
        return self.selection is not None and bool(self.selection.by) and not is_red

    @property
    def ran(self) -> int:
        """How many tests it has. A module that was left out, or that broke, is listed among them, and is none."""
        return sum("::" in test.name for test in self.tests)

    def count(self, state: TestState) -> int:
        """Return how many tests have the outcome ``state``."""
        return sum(test.outcome is state for test in self.tests)

    @property
    def reruns(self) -> int:
        """How many tries beyond the first its tests needed, all together."""
        return sum(test.reruns for test in self.tests)


def utc_now() -> datetime:
    """Return the time as results carry it: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def write(result: Result, path: Path) -> None:
    """Write a result; ``path`` holds either the old content or the new one, at any time.

    :raises DiskFullError: if there is no room.
    :raises ResultsError: if writing fails for another reason.
    """
    files.dump(path, _plain(msgspec.to_builtins(result)), what="the result")


def load(path: Path) -> Result:
    """Read a result.

    :raises ResultsError: if it is missing, invalid, or of another schema; the text names file and key.
    """
    return files.load(path, Result, SCHEMA, what="a result")


def has_ended(path: Path) -> bool:
    """Tell whether a result is there that is more than a beginning. One that can't be read is: it has been written."""
    try:
        return path.is_file() and load(path).outcome is not Outcome.UNFINISHED
    except ResultsError:
        return True


def latest_run(results: Path) -> Path:
    """Return the folder of the run that wrote a result last.

    :raises ResultsError: if there is none.
    """
    # Just this deep: below the folder of bisections, results lie one folder further down.
    written = [(path.stat().st_mtime, path) for path in results.glob(f"*/*/*/{RESULT_FILE}")]
    if not written:
        raise ResultsError(
            "no results found", where=str(results), next_step=f"run a suite: `{as_here(suite_session('pyxis_basic'))}`"
        )
    return max(written)[1].parents[2]  # SUITE, CELL, RUN


def _plain(value: object) -> object:
    """Round seconds to milliseconds, and replace what UTF-8 has no bytes for (output of a test that was not UTF-8)."""
    match value:
        case float():
            return round(value, 3)  # milliseconds
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
