"""What many results come to: the one model that every form of the report shows.

`Compat` is ``compat.json``, for other programs and for the next report.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
import os
from pathlib import Path
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from ci.record import files
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import ArtefactRecord, CellRecord, ImageRecord, Moment, Result, SuiteFacts, SuiteRun
from ci.report.behaviours import BehaviourReport

SCHEMA = 2
"""Of what a key means. Keys are added under the same number: readers ignore those that they do not know."""
COMPAT_FILE = "compat.json"
LARGEST = 1 << 30
"""The most bytes of a report that are read; one of 5,000 cells had 34 million."""


class State(StrEnum):
    """Outcome of a suite on a cell, or of a cell with all its suites: what a box of the grid says; worst first."""

    FAILED = "failed"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    UNFINISHED = "not finished"
    """It has begun: it is running, or it was killed."""
    PARTLY = "partly run"
    """Of a suite: only some of its tests were asked for, and these passed. Of a cell: a suite ran in part or proved
    nothing, and the others did not fail."""
    NOT_RUN = "not run"
    KNOWN = "known failure"
    """All is as expected, and some test fails as a known failure should."""
    PASSED = "passed"
    REUSED = "reused"
    """Passed in an earlier run; nothing that decides it was changed since."""
    SUCCEEDED = "succeeded"
    """Of commands only: it ended well, and proves nothing of the cell."""

    @classmethod
    def of(cls, result: Result) -> "State":
        """Return what a result says in the grid."""
        known = result.count(TestState.XFAILED) > 0
        match result.outcome:
            case Outcome.PASSED if known:
                return cls.KNOWN
            case Outcome.PASSED:
                return cls.REUSED if result.reused_from else cls.PASSED
            case Outcome.SKIPPED:
                return cls.KNOWN if known else cls.NOT_RUN
            case _:
                return cls(result.outcome.value)

    @classmethod
    def worst(cls, states: Iterable["State"]) -> "State":
        """Return the outcome of a cell: it is as good as its worst suite; what was not run proves nothing."""
        found = set(states) or {cls.NOT_RUN}
        worst = next(state for state in cls if state in found)
        # Beside one that ended better, a suite that was not run leaves the cell proved in part.
        return cls.PARTLY if worst is cls.NOT_RUN and len(found) > 1 else worst

    @property
    def red(self) -> bool:
        """Whether a suite in this state did not do what it should."""
        return self in {State.FAILED, State.ERROR, State.INTERRUPTED, State.UNFINISHED}

    @property
    def good(self) -> bool:
        """Whether a suite in this state did what it should, and proved it."""
        return self in {State.KNOWN, State.PASSED, State.REUSED, State.SUCCEEDED}


def tally(found: Iterable[State | TestState]) -> dict[str, int]:
    """Count what suites, or tests, came to, in the order of reading: first what is good, then the rest, worst first."""

    def place(state: State | TestState) -> tuple[bool, int]:
        # The enum has the worst first: among what is good, its order is turned.
        worst_first = list(type(state)).index(state)
        return not state.good, -worst_first if state.good else worst_first

    counts = Counter(found)
    return {state.value: counts[state] for state in sorted(counts, key=place)}


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


class TestReport(TestOutcome, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """A test of which there is more to say than that it passed at once."""

    issue: str = ""
    """Of a known failure: where upstream tracks it, an address or ``OWNER/REPO#NUMBER``."""


class Past(SuiteRun, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """One time that a suite was run on a cell, with the word for it."""

    state: State


class SuiteReport(SuiteFacts, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """The result of a suite on a cell that counts, and all others."""

    state: State
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Tests by outcome."""
    reruns: int = 0
    tests: tuple[TestReport, ...] = ()
    """All tests but those that passed at once."""
    saw: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """What its tests saw: by the id of a behaviour the names of its answers, usually one."""
    hazards: tuple[str, ...] = ()
    """Behaviours of which its tests saw an answer that harms in silence."""
    refused: tuple[str, ...] = ()
    """Those of which they saw that it fails, and says so."""
    images: tuple[int, ...] = ()
    """Places in the report's list of images."""
    artefacts: tuple[int, ...] = ()
    """Places in the report's list of artefacts."""
    folder: str = ""
    """Where its files are: a link, relative to the report; empty where that folder is not to be linked to."""
    files: tuple[str, ...] = ()
    """What of its files is there to be looked at."""
    history: tuple[Past, ...] = ()
    """Every time it was run that is known, the newest first: this one, unless a newer one leaves out what was red."""
    flaky: bool = False
    """It both passed and failed with the same fingerprint."""
    trend: float = 0.0
    """Its seconds, divided by the median of the earlier times that passed; 0 where there are too few."""


class CellReport(CellRecord, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """A cell, with its suites."""

    state: State
    versions: Mapping[str, str] = msgspec.field(default_factory=dict)
    suites: tuple[SuiteReport, ...] = ()
    missing: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Suites that a run meant to run on it and that have no result, and why."""
    hazards: tuple[str, ...] = ()
    """Those of its suites."""
    refused: tuple[str, ...] = ()
    """Likewise."""
    released: bool = True
    """False where a candidate is in it."""

    @property
    def kind(self) -> str:
        """What cells it is counted and shown with."""
        return kind(self.runtime, Location.of(self), self.apart)


class Location(NamedTuple):
    """A place in the grid."""

    arch: str
    slurm: str
    os: str
    enroot: str
    pyxis: str

    @classmethod
    def of(cls, cell: CellRecord) -> "Location":
        """Return a cell's place."""
        axes = {name: value or "" for name, value in cell.axes.items()}
        return cls(
            arch=cell.arch or axes.get("arch", ""),
            slurm=axes.get("slurm", "") or cell.id,  # a result that says nothing of its axes has a row of its own
            os=axes.get("os") or cell.os,
            enroot=axes.get("enroot", ""),
            pyxis=axes.get("pyxis", ""),
        )

    @property
    def has_candidate(self) -> bool:
        """Whether something unreleased is there: only its version has a local segment."""
        return any("+" in version for version in (self.slurm, self.enroot, self.pyxis))


UNRELEASED = ", not released"
"""Behind the runtime of cells with candidates: they are counted and shown apart from the others."""
_APART = re.compile(r", ((?:profile|site) .+)")  # as in `nvidia, not released, profile cgroups`
"""Likewise of those with a profile, and of clusters that exist."""


def kind(runtime: str, place: Location, apart: str = "") -> str:
    """Return what the cell at a place is counted and shown with: its runtime, profile or site, released or not.

    :param apart: as `CellRecord.apart` has it.
    """
    return f"{runtime}{UNRELEASED if place.has_candidate else ''}{f', {apart}' if apart else ''}"


def parts_of(kind: str) -> tuple[str, str]:
    """Return the runtime of a kind of cells, and what they stand apart for, as `CellRecord.apart` has it."""
    found = _APART.search(kind)
    return kind[: found.start() if found else None].removesuffix(UNRELEASED), found[1] if found else ""


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A combination within the grid of which there is no result, and why."""

    arch: str
    slurm: str
    os: str
    enroot: str
    pyxis: str
    runtime: str = "nvidia"
    profile: str = ""
    id: str = ""
    """Of the cell, where matrix.toml has it."""
    reason: str
    issue: str = ""

    @property
    def place(self) -> Location:
        """Where in the grid it is."""
        return Location(self.arch, self.slurm, self.os, self.enroot, self.pyxis)

    @property
    def kind(self) -> str:
        """What cells it stands among."""
        return kind(self.runtime, self.place, f"profile {self.profile}" if self.profile else "")


OWN = "own"
"""Stands for a runtime in the verdict of what is not a suite of this project."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many cells of a runtime have which outcome; only real ones say something about compatibility."""

    runtime: str
    """With ``, not released`` and ``, profile NAME`` or ``, site NAME`` appended.

    ``own``: suites of one's own, and commands.
    """
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
    """How many of its results are the ones that count for their cell and suite."""


class Unfinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A suite that has begun and has not ended: it is running, or it was killed."""

    cell: str
    suite: str
    run: str
    tests: int
    """How many of its tests have ended."""


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
    behaviours: tuple[BehaviourReport, ...] = ()
    """All questions of the catalogue, asked or not; what was seen of them is in the cells' suites."""
    gaps: tuple[Gap, ...] = ()
    changes: Changes | None = None
    """Absent in a first report."""
    unfinished: tuple[Unfinished, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    problems: tuple[Problem, ...] = ()
    images: tuple[ImageRecord, ...] = ()
    artefacts: tuple[ArtefactRecord, ...] = ()

    def results(self) -> Iterable[tuple[CellReport, SuiteReport]]:
        """Yield each suite, with its cell."""
        return ((cell, suite) for cell in self.cells for suite in cell.suites)


@dataclass(frozen=True, kw_only=True)
class Passed:
    """The tests of a suite that passed at once: their names, shared by all results that have the same, and seconds."""

    names: tuple[str, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A report, and what is too much for ``compat.json``."""

    compat: Compat
    passed: Mapping[tuple[str, str], Passed]
    """By cell and suite."""
    base: Path
    """The folder that the report's links are relative to."""

    def folder(self, suite: SuiteReport) -> Path:
        """Return where the files of a suite are."""
        # Not resolved: links are looked at where files are served (`Served.file`).
        return Path(os.path.normpath(self.base / os.fsdecode(unquote_to_bytes(suite.folder))))


def load(path: Path) -> Compat:
    """Read ``compat.json``, or that of a folder.

    :raises ResultsError: if it is missing, invalid, or of another schema.
    """
    # A link to a report may be named; files.load itself follows none.
    return files.load(
        (path / COMPAT_FILE if path.is_dir() else path).resolve(), Compat, SCHEMA, what="a report", largest=LARGEST
    )


def utc(moment: datetime) -> datetime:
    """Return the moment in UTC and whole seconds, as a report carries it; one at the end of time stays as it is."""
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        return moment
