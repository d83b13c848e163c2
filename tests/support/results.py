"""Makes results without running anything: for tests of the report, its picture and its scale."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from pathlib import Path
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace
from packaging.version import Version

from ci.errors import MatrixError
from ci.matrix.behaviours import Behaviour, catalogue
from ci.record import store
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.store import ArtefactRecord, CellRecord, ImageRecord, Result

if TYPE_CHECKING:
    from ci.matrix.cells import Cell

BEGIN = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
SUITES = {"pyxis_basic": 3, "registry": 30, "pyxis_conformance": 60}
"""Each suite, and how many tests it has."""
PHASES = {"images": 0.3, "launch": 1.7, "ready": 0.9, "push": 6.0, "tests": 30.0, "teardown": 4.0}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of the axes; cells are taken in this order, the last axis changing first."""

    arch: Sequence[str] = ("amd64", "arm64")
    slurm: Sequence[tuple[str, str]] = (("22.05", "debian12"), ("24.11", "debian13"), ("25.11.7", "debian13"))
    enroot: Sequence[str] = ("3.4.1", "4.1.2")
    pyxis: Sequence[str] = ("0.19.0", "0.21.0", "0.24.0")

    def cells(self) -> Iterator[CellRecord]:
        """Yield the real cells."""
        for arch, (slurm, os), enroot, pyxis in product(self.arch, self.slurm, self.enroot, self.pyxis):
            yield cell(slurm, os, enroot, pyxis, arch=arch)


def many(number: int) -> list[CellRecord]:
    """Return so many cells, on axes that are long enough for them."""
    slurm = [(f"{20 + it // 4}.{it % 4 * 3 + 2:02}", f"debian{11 + it % 3}") for it in range(25)]
    enroot = [f"{3 + it // 10}.{it % 10}.0" for it in range(10)]
    pyxis = [f"0.{10 + it}.0" for it in range(10)]
    wide = Axes(slurm=slurm, enroot=enroot, pyxis=pyxis) if number > 200 else Axes(enroot=enroot[:3], pyxis=pyxis[:5])
    return list(islice(wide.cells(), number))


def cell(slurm: str, os: str, enroot: str = "", pyxis: str = "", *, arch: str = "amd64", kind: str = "") -> CellRecord:
    """Return a cell; one without enroot and Pyxis is of the runtime ``kind``."""
    middle = f"enroot{enroot}-pyxis{pyxis}" if enroot else kind
    return CellRecord(
        id=f"slurm{slurm}-{middle}-{os}-{arch}",
        runtime=kind or "nvidia",
        axes={"slurm": slurm, "os": os, "enroot": enroot or None, "pyxis": pyxis or None, "arch": arch},
        os=os,
        arch=arch,
    )


def passed(name: str, seconds: float = 0.4) -> TestOutcome:
    """Return a test that passed."""
    return TestOutcome(name=name, outcome=TestState.PASSED, seconds=seconds)


def saw(answers: Mapping[str, str], outcome: TestState = TestState.PASSED) -> list[TestOutcome]:
    """Return tests that saw these answers: by the id of a behaviour the name of one."""
    return [
        TestOutcome(name=f"tests/integration/test_it.py::test_{name}", outcome=outcome, saw=((name, answer),))
        for name, answer in answers.items()
    ]


def result(  # noqa: PLR0913 - each has a default
    of: CellRecord,
    suite: str = "pyxis_basic",
    outcome: Outcome = Outcome.PASSED,
    *,
    tests: Sequence[TestOutcome] | None = None,
    run: str = "20261120-023000-aaaa",
    started: datetime = BEGIN,
    seconds: float = 43.0,
    reason: str = "",
    fingerprint: str = "",
    reused_from: str = "",
) -> Result:
    """Return a result with all that a real one has."""
    share = seconds / sum(PHASES.values())
    # A candidate calls itself by its release.
    axes = {name: value.partition("+")[0] for name, value in of.axes.items() if value and name != "os"}
    found = tuple(tests if tests is not None else [passed(f"tests/integration/test_{suite}.py::test_it")])
    return Result(
        run=run,
        cell=of,
        suite=suite,
        outcome=outcome,
        exit_code=0 if outcome.good else 1,
        started=started,
        seconds=seconds,
        reason=reason,
        versions=axes | {"kernel": "6.1.0-44-amd64", "os": of.os},
        subject={"requirement": "slurm-sdk==0.4.6"},
        nodes=("n1", "n2"),
        images=tuple(
            ImageRecord(
                name=name,
                tag=f"{of.id}-{number:04x}",
                digest=f"sha256:{number:064x}",
                built=False,
                size=180_000_000 * (number + 1),
                origin="made by mmdebstrap, 2026-11-01, 84 packages" if number == 0 else "",
            )
            for number, name in enumerate(("base", "slurm-integration", "slurm-pyxis-integration", "registry", "job"))
        ),
        artefacts=(
            ArtefactRecord(
                path=f"NVIDIA/enroot/releases/download/v{axes.get('enroot', '')}/enroot_{of.arch}.deb",
                source="mirror",
                sha256="1f" * 32,
                verified_against="SHA256SUMS",
            ),
            ArtefactRecord(
                path=f"NVIDIA/pyxis/archive/refs/tags/v{axes.get('pyxis', '')}.tar.gz",
                source="upstream",
                sha256="2e" * 32,
                verified_against="",
            ),
        ),
        timings={phase: it * share for phase, it in PHASES.items()},
        ready={"munge": 0.2, "slurmctld answers": 0.6, "a job ends": 1.1},
        tests=found,
        selection=Selection(collected=len(found)) if found else None,
        again=f'nox -s "{suite}({of.id})"',
        fingerprint=fingerprint,
        reused_from=reused_from,
    )


def write(results: Path, *of: Result) -> list[Path]:
    """Write results where a run would, and say where each is."""
    places = []
    for each in of:
        folder = results / each.run / each.cell.id / each.suite
        store.write(each, folder / store.RESULT_FILE)
        (folder / store.LOGS_FOLDER).mkdir(exist_ok=True)
        (folder / store.LOGS_FOLDER / "slurmctld.log").write_text("slurmctld started\n", encoding="utf-8")
        places.append(folder)
    return places


def right_on(of: CellRecord, asked: Behaviour) -> str:
    """Return the name of the answer that is right on a cell; empty where a made-up cell has none."""
    versions = {axis: Version(it) for axis in ("slurm", "enroot", "pyxis") if (it := of.axes.get(axis))}
    words = {"os": SimpleNamespace(name=of.os), "arch": SimpleNamespace(value=of.arch)}
    stand_in = SimpleNamespace(
        answers_of=versions.get, runtime=SimpleNamespace(value=of.runtime), says=lambda _setting: False, **words
    )
    try:
        return asked.answer_on(cast("Cell", stand_in)).name
    except MatrixError:
        return ""


class Story:
    """A plausible week: most passes, some of it does not. The same seed tells the same."""

    def __init__(
        self, cells: Sequence[CellRecord], seed: int = 7, *, asked: Mapping[str, Behaviour] | None = None
    ) -> None:
        """Take the cells that the week is about.

        :param asked: the questions whose right answer tests see; those of the repository, if left out.
        """
        self.cells = cells
        self.asked = (catalogue() if asked is None else asked).values()
        self._dice = random.Random(seed)  # noqa: S311 - no secret

    def night(self, number: int, share: float = 1.0) -> Iterator[Result]:
        """Yield the results of a night."""
        run = f"202611{20 + number}-023000-{number:04x}"
        for at, of in enumerate(self.cells):
            if self._dice.random() > share:
                continue
            for suite, count in SUITES.items():
                started = BEGIN + timedelta(days=number, seconds=20 * at)
                yield self._one(of, suite, count, run=run, started=started)

    def _one(self, of: CellRecord, suite: str, count: int, *, run: str, started: datetime) -> Result:
        dice, names = self._dice, [f"tests/integration/test_{suite}.py::test_{suite}[{it}]" for it in range(count)]
        tests = [passed(name, round(dice.uniform(0.05, 3), 2)) for name in names]
        seen = [(it.id, name) for it in self.asked if it.suite == suite and (name := right_on(of, it))]
        for place, pair in enumerate(seen):
            at = place % count
            tests[at] = replace(tests[at], saw=(*tests[at].saw, pair))
        outcome, reason = Outcome.PASSED, ""
        pyxis, enroot = of.axes.get("pyxis"), of.axes.get("enroot") or ""
        if suite == "registry" and enroot.startswith("3."):
            tests[-1] = TestOutcome(
                name=names[-1],
                outcome=TestState.XFAILED,
                seconds=1.0,
                message="the first request accepts no OCI format, so a registry answers 404 (NVIDIA/enroot#273)",
            )
        if suite == "pyxis_conformance" and pyxis == "0.21.0" and "25.11" in (of.axes.get("slurm") or ""):
            outcome = Outcome.FAILED
            tests[4] = TestOutcome(
                name=names[4],
                outcome=TestState.FAILED,
                seconds=30.2,
                message="AssertionError: srun ended with status 1, and 0 was expected\n\n"
                "$ srun --container-image=localhost:41231#job --container-mounts=/data:/data:ro true\n"
                "slurmstepd: error: pyxis: container start failed with error code: 1\n"
                "slurmstepd: error: pyxis: printing enroot log file:\n"
                "slurmstepd: error: pyxis:     enroot-nsenter: failed to create user namespace",
            )
        if suite == "registry" and dice.random() < 0.03:
            outcome, tests, reason = Outcome.ERROR, [], "the cluster did not become usable within 120 s"
        if suite == "pyxis_basic" and dice.random() < 0.1:
            tests[1] = TestOutcome(
                name=names[1],
                outcome=TestState.PASSED,
                seconds=4,
                reruns=1,
                message="enroot failed to list containers",
            )
        return result(
            of,
            suite,
            outcome,
            tests=tests,
            run=run,
            started=started,
            seconds=round(20 + count * dice.uniform(0.8, 1.4), 1),
            reason=reason,
            fingerprint=f"{suite}-{of.id}",
        )
