"""What a suite on a cell came to, as a file: ``results/RUN/CELL/SUITE/result.json``.

Beside it lie ``junit.xml``, written by pytest, and ``logs/``. The file is deterministic (sorted keys, rounded seconds),
so that two results can be compared with ``diff``, and is written in one stroke, so that it is never seen half.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
import json
from pathlib import Path
import tempfile
from typing import Any, TypeVar

from ci.errors import DiskFullError, ResultsError, disk_is_full
from ci.results.junit import Outcome, TestOutcome, TestState, outcome_of, read_junit

__all__ = [
    "SCHEMA",
    "Artefact",
    "Image",
    "Outcome",
    "Result",
    "TestOutcome",
    "TestState",
    "latest_run",
    "load",
    "load_run",
    "outcome_of",
    "read_junit",
    "suite_folder",
    "utc_now",
    "write",
]

SCHEMA = 1
RESULT_FILE = "result.json"
JUNIT_FILE = "junit.xml"
LOGS_FOLDER = "logs"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Image:
    """A container image that took part."""

    name: str
    tag: str
    digest: str
    """Digest or, for an image that was never pushed, the engine's id."""
    built: bool
    """Built by this run; False means reused."""
    seconds: float = 0.0
    size: int = 0
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A file from outside that went into an image, and why it was trusted."""

    path: str
    """Relative path, the same as upstream's URL."""
    source: str
    """Where it was taken from: the mirror, the cache or upstream."""
    sha256: str
    verified_against: str
    """What its checksum was compared with; empty if with nothing."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A suite that was run, or could not be run, on a cell."""

    run: str
    cell: Mapping[str, Any]
    """The cell as `Cell.as_json` gives it."""
    suite: str
    outcome: Outcome
    exit_code: int
    started: datetime
    seconds: float
    reason: str = ""
    """Why it was skipped, or what went wrong outside of the tests, with the remedy."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions as observed inside the cluster, not as asked for: slurm, enroot, pyxis, kernel, arch, …"""
    subject: Mapping[str, str] = field(default_factory=dict)
    """The package under test: requirement and version."""
    nodes: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds per phase: images, launch, ready, tests, teardown."""
    ready: Mapping[str, float] = field(default_factory=dict)
    """Seconds until each condition of readiness held."""
    tests: tuple[TestOutcome, ...] = ()

    @property
    def cell_id(self) -> str:
        """The cell's one name."""
        return str(self.cell["id"])

    @property
    def runtime(self) -> str:
        """What ran the containers: nvidia, embedded or legacy."""
        return str(self.cell["runtime"])

    @property
    def real(self) -> bool:
        """Whether it says anything about the compatibility of Slurm, enroot and Pyxis."""
        return self.runtime == "nvidia"

    def count(self, state: TestState) -> int:
        """Return how many tests came to ``state``."""
        return sum(test.outcome is state for test in self.tests)


def utc_now() -> datetime:
    """Return the time as results carry it: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def suite_folder(results: Path, run: str, cell_id: str, suite: str) -> Path:
    """Return the folder of a suite on a cell."""
    return results / run / cell_id / suite


def write(result: Result, path: Path) -> None:
    """Write a result; ``path`` holds either the old content or the new one, at any time.

    :raises DiskFullError: if there is no room.
    :raises ResultsError: if it can't be written for another reason.
    """
    text = json.dumps(_as_json(result), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    draft = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            draft = file.name
            file.write(text)
        Path(draft).chmod(0o644)  # temporary files are private, results are not
        Path(draft).replace(path)
    except OSError as error:
        if draft:
            Path(draft).unlink(missing_ok=True)
        full = disk_is_full(error)
        kind = DiskFullError if full else ResultsError
        raise kind(
            "the result can't be written",
            where=str(path),
            why=str(error),
            next_step="make room and run the cell again" if full else "check who may write there",
        ) from error


def load(path: Path) -> Result:
    """Read a result.

    :raises ResultsError: if it is missing, broken, or of a newer schema; the text names file and key.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError("a result can't be read", where=str(path), why=str(error)) from error
    try:
        return _from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        why = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ResultsError("a result is not what it should be", where=str(path), why=why) from error


def load_run(folder: Path) -> tuple[tuple[Result, ...], tuple[ResultsError, ...]]:
    """Return a run's results, sorted by cell and suite, and what could not be read of them.

    :raises ResultsError: if there is no such run.
    """
    if not folder.is_dir():
        raise ResultsError("there is no such run", where=str(folder), next_step=f"see `ls {folder.parent}`")
    results: list[Result] = []
    problems: list[ResultsError] = []
    for path in sorted(folder.glob(f"*/*/{RESULT_FILE}")):
        try:
            results.append(load(path))
        except ResultsError as error:
            problems.append(error)
    return tuple(results), tuple(problems)


def latest_run(results: Path) -> Path:
    """Return the folder of the run that wrote a result last.

    :raises ResultsError: if there is none.
    """
    written = [(path.stat().st_mtime, path) for path in results.glob(f"*/*/*/{RESULT_FILE}")]
    if not written:
        raise ResultsError("there are no results", where=str(results), next_step="run a suite: `nox -s pyxis_basic`")
    return max(written)[1].parents[2]


def _as_json(result: Result) -> dict[str, object]:
    data = {key: _plain(value) for key, value in vars(result).items()}
    return {"schema": SCHEMA, **data}


def _plain(value: object) -> object:
    """Return a value in JSON's types; seconds are rounded to milliseconds."""
    match value:
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case float():
            return round(value, 3)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case Image() | Artefact() | TestOutcome():
            return {key: _plain(item) for key, item in vars(value).items()}
        case _:
            return value


def _from_json(data: object) -> Result:
    top = _typed(data, dict, "the file")
    schema = _typed(top["schema"], int, "schema")
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than this version of pyxis-matrix knows ({SCHEMA}); update it")
    cell = _typed(top["cell"], dict, "cell")
    for key in ("id", "runtime"):
        _typed(cell[key], str, f"cell.{key}")
    return Result(
        run=_typed(top["run"], str, "run"),
        cell=cell,
        suite=_typed(top["suite"], str, "suite"),
        outcome=Outcome(top["outcome"]),
        exit_code=_typed(top["exit_code"], int, "exit_code"),
        started=datetime.fromisoformat(_typed(top["started"], str, "started")),
        seconds=_number(top["seconds"], "seconds"),
        reason=_typed(top.get("reason", ""), str, "reason"),
        versions=_texts(top, "versions"),
        subject=_texts(top, "subject"),
        nodes=tuple(_typed(node, str, "nodes") for node in _list(top, "nodes")),
        images=tuple(Image(**_typed(image, dict, "images")) for image in _list(top, "images")),
        artefacts=tuple(Artefact(**_typed(artefact, dict, "artefacts")) for artefact in _list(top, "artefacts")),
        timings=_numbers(top, "timings"),
        ready=_numbers(top, "ready"),
        tests=tuple(_test(_typed(test, dict, "tests")) for test in _list(top, "tests")),
    )


def _test(data: dict[str, Any]) -> TestOutcome:
    return TestOutcome(**{**data, "outcome": TestState(data["outcome"])})


def _typed(value: object, kind: type[T], key: str) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{key} should be of type {kind.__name__}, not {type(value).__name__}")
    return value


def _number(value: object, key: str) -> float:
    return float(value) if isinstance(value, int) else _typed(value, float, key)


def _list(top: dict[str, Any], key: str) -> list[Any]:
    return _typed(top.get(key, []), list, key)


def _texts(top: dict[str, Any], key: str) -> dict[str, str]:
    return {name: _typed(value, str, f"{key}.{name}") for name, value in _typed(top.get(key, {}), dict, key).items()}


def _numbers(top: dict[str, Any], key: str) -> dict[str, float]:
    return {name: _number(value, f"{key}.{name}") for name, value in _typed(top.get(key, {}), dict, key).items()}
