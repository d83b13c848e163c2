"""``compat.json``: what many results come to, for other programs and for the next report.

Its types are its schema: ``docs/compat.schema.json`` is generated from them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ci.errors import ResultsError
from ci.record import files
from ci.record.outcomes import Outcome, TestState
from ci.record.store import ArtefactRecord

SCHEMA = 1
"""Of what a key means. Keys are added under the same number: readers ignore those that they do not know."""
COMPAT_FILE = "compat.json"
LARGEST = 1 << 30
"""The most bytes of a report that are read; one of 5,000 cells had 34 million."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class State(StrEnum):
    """Outcome of a suite on a cell, or of a cell with all its suites: what a box of the grid says."""

    FAILED = "failed"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    UNFINISHED = "not finished"
    """It has begun: it is running, or it was killed."""
    PARTLY = "partly run"
    """Of a suite: only some of its tests were asked for, and these passed. Of a cell: a suite ran in part or proved
    nothing, and what the others found is no failure."""
    NOT_RUN = "not run"
    KNOWN = "known failure"
    """All is as expected, and some test fails as a known failure should."""
    PASSED = "passed"
    REUSED = "reused"
    """Passed in an earlier run; nothing that decides it was changed since."""
    SUCCEEDED = "succeeded"
    """Of commands only: it ended well, and proves nothing of the cell."""


RED = frozenset({State.FAILED, State.ERROR, State.INTERRUPTED, State.UNFINISHED})
"""States in which a suite did not do what it should."""


class ChangeKind(StrEnum):
    """What kind of change it is."""

    BROKEN = "broken"
    FIXED = "fixed"
    CHANGED = "changed"
    """The state is another one, and both or neither are red."""
    VERSIONS = "other versions"
    """The state is the same; versions observed inside are not."""
    NEW = "new"
    GONE = "gone"
    """The report before had it; no result of it was given now."""


class ImageReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A container image that took part."""

    name: str
    tag: str
    digest: str
    size: int = 0
    origin: str = ""


class TestReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A test of which there is more to say than that it passed at once."""

    __test__ = False  # pytest takes every class named Test* for a test

    name: str
    outcome: TestState
    seconds: float = 0.0
    message: str = ""
    reruns: int = 0
    issue: str = ""
    """Of a known failure: where upstream tracks it, an address or ``OWNER/REPO#NUMBER``."""


class Past(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One time that a suite was run on a cell."""

    run: str
    started: Moment
    outcome: Outcome
    state: State
    seconds: float
    fingerprint: str = ""
    reused_from: str = ""


class SuiteReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest result of a suite on a cell, and those before it."""

    suite: str
    state: State
    outcome: Outcome
    run: str
    started: Moment
    seconds: float
    reason: str = ""
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Tests by outcome."""
    reruns: int = 0
    tests: tuple[TestReport, ...] = ()
    """All tests but those that passed at once."""
    versions: Mapping[str, str] = msgspec.field(default_factory=dict)
    """As observed inside the cluster."""
    subject: Mapping[str, str] = msgspec.field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    timings: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Seconds per phase."""
    ready: Mapping[str, float] = msgspec.field(default_factory=dict)
    images: tuple[int, ...] = ()
    """Places in the report's list of images."""
    artefacts: tuple[int, ...] = ()
    """Places in the report's list of artefacts."""
    again: str = ""
    fingerprint: str = ""
    reused_from: str = ""
    folder: str = ""
    """Where its files are: a link, relative to the report; empty where that folder is not to be linked to."""
    files: tuple[str, ...] = ()
    """What of its files is there to be looked at."""
    history: tuple[Past, ...] = ()
    """Every time it was run that is known, the newest (this one) first."""
    flaky: bool = False
    """It both passed and failed with the same fingerprint."""
    trend: float = 0.0
    """Its seconds, divided by the median of the earlier times that passed; 0 where there are too few."""


class CellReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cell, with its suites."""

    id: str
    runtime: str
    arch: str = ""
    os: str = ""
    axes: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    state: State
    versions: Mapping[str, str] = msgspec.field(default_factory=dict)
    suites: tuple[SuiteReport, ...] = ()
    missing: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Suites that a run meant to run on it and that have no result, and why."""


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A combination within the grid of which there is no result, and why."""

    arch: str
    slurm: str
    os: str
    enroot: str
    pyxis: str
    runtime: str = "nvidia"
    id: str = ""
    """Of the cell, where matrix.toml has it."""
    reason: str
    issue: str = ""


OWN = "own"
"""Stands for a runtime in the verdict of what is no suite of this project."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many cells of a runtime have which outcome; only real ones say something about compatibility."""

    runtime: str
    """Or ``own``: counted are suites of somebody's own and commands, and not cells."""
    counts: Mapping[str, int]
    compatibility: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is not as it was in the report before."""

    cell: str
    suite: str
    kind: ChangeKind
    before: State | None = None
    after: State | None = None
    versions: Mapping[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    """Versions observed before and now, where they differ."""


class Changes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changed since the report before."""

    since: Moment
    """When that report was made."""
    runs: tuple[str, ...] = ()
    """The runs that it shows."""
    items: tuple[Change, ...] = ()


class RunReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run of which there are results."""

    id: str
    started: Moment
    results: int
    shown: int
    """As many of its results are the newest of their cell and suite."""


class Unfinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A suite that has begun and has not ended: it is running, or it was killed."""

    cell: str
    suite: str
    run: str
    tests: int
    """As many tests have ended."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something among the results that could not be read."""

    where: str
    what: str


class Contradiction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result that can't be true, or results that disagree: what is known of this suite on this cell is not sure."""

    cell: str
    suite: str
    run: str
    what: str


class Compat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole report."""

    schema: int
    made: Moment
    verdicts: tuple[Verdict, ...] = ()
    subjects: tuple[str, ...] = ()
    runs: tuple[RunReport, ...] = ()
    cells: tuple[CellReport, ...] = ()
    gaps: tuple[Gap, ...] = ()
    changes: Changes | None = None
    """Absent in a first report."""
    unfinished: tuple[Unfinished, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    problems: tuple[Problem, ...] = ()
    images: tuple[ImageReport, ...] = ()
    artefacts: tuple[ArtefactRecord, ...] = ()

    def results(self) -> Iterable[tuple[CellReport, SuiteReport]]:
        """Yield each suite, with its cell."""
        return ((cell, suite) for cell in self.cells for suite in cell.suites)


class _Head(msgspec.Struct):
    schema: int


def schema() -> dict[str, Any]:
    """Return the JSON Schema of ``compat.json``."""
    found = msgspec.json.schema(Compat)
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"compat.json of pyxis-matrix, schema {SCHEMA}",
    }
    found["$defs"]["Compat"]["properties"]["schema"] = {"const": SCHEMA}
    return about | found


def utc(moment: datetime) -> datetime:
    """Return the moment in UTC and whole seconds, as a report carries it; one at the end of time stays as it is."""
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        return moment


def as_json(compat: Compat) -> str:
    """Return a report as programs read it."""
    return msgspec.json.format(msgspec.json.encode(compat), indent=1).decode() + "\n"


def write(compat: Compat, path: Path) -> None:
    """Write a report for programs.

    :raises ResultsError: if that fails; ``DiskFullError`` if there is no room.
    """
    with files.replaced(path, "the report") as file:
        file.write(as_json(compat).encode())


def load(path: Path) -> Compat:
    """Read a report.

    :raises ResultsError: if it is missing, invalid, or of a newer schema.
    """
    try:
        content = files.content(path.resolve(), largest=LARGEST)
        found = msgspec.json.decode(content, type=_Head).schema
        if found == SCHEMA:
            return msgspec.json.decode(content, type=Compat)
    except OSError as error:
        raise ResultsError("failed to read a report", where=str(path), why=error.strerror or str(error)) from error
    except files.INVALID as error:
        raise ResultsError("a report is invalid", where=str(path), why=str(error)) from error
    raise ResultsError(
        "a report is of another schema",
        where=str(path),
        why=f"schema {found}, and this version of pyxis-matrix knows {SCHEMA}",
        next_step="make it anew from its results: nox -s report -- RESULTS",
    )
