"""A machine for tests of groups: doubles for the engine and for the processes of cells."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from ci.environment.plan import EnvironmentPlan
from ci.errors import PyxisMatrixError
from ci.group import capacity, children, fingerprint, images, planning, running
from ci.group.capacity import Capacity
from ci.group.children import ChildCommand, Watch
from ci.group.images import Ready
from ci.group.planning import GroupPlan, GroupRequest, plan_group
from ci.group.running import RunSettings, run_group
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Options
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.support import results

ENGINE = cast("Any", None)


class Machine:
    """Stands for the engine and for the processes of cells; each suite comes to what the test says."""

    def __init__(self, results: Path, rows: Matrix) -> None:
        """Have everything pass."""
        self.results = results
        self.rows = rows
        self.cells = [
            it for it in rows.all_cells(Arch.host()) if it.runtime is Runtime.EMBEDDED and it.arch is Arch.host()
        ][:2]
        self.problems: dict[str, PyxisMatrixError] = {}
        """What keeps a cell's images from being built."""
        self.outcomes: dict[tuple[str, str], Outcome | None] = {}
        """By cell and suite; with None its process ends without a result."""
        self.taste = "same"
        """Stands for all that decides the outcome."""
        self.while_running: Callable[[], None] = lambda: None
        """What somebody does while suites run."""
        self.program = "untouched"
        self.touched: set[str] = set()
        """Suites whose files somebody touched."""
        self.ran: list[tuple[str, str]] = []
        self.jobs = 0
        self.connect: Callable[[], Any] = lambda: ENGINE
        """Finds the engine."""
        self.begun: list[str] = []

    def stamp(self, plan: EnvironmentPlan, suite: Suite) -> Mapping[str, str]:
        """Return the stamp of what is a suite's own."""
        return {"suite files": f"{plan.cell.id} {suite.name} {suite.name in self.touched}"}

    def plan(
        self, run: str = "run", missing: Callable[[Cell], str | None] = lambda _cell: None, *, strict: bool = False
    ) -> GroupPlan:
        """Plan two suites on the cells."""
        asked = GroupRequest(cells=[cell.id for cell in self.cells], suites=["registry", "pyxis_conformance"])
        return plan_group(asked, self.rows, Options(run=run, results=self.results, strict=strict), missing)

    def resumed(self, run: str = "run") -> GroupPlan:
        """Plan how that goes on."""
        options = Options(run=run, results=self.results)
        return planning.resumed(self.plan(run).record, GroupRequest(), self.rows, options, lambda _cell: None)

    def run(self, plan: GroupPlan, **how: Any) -> list[PyxisMatrixError]:  # noqa: ANN401 - fields of How
        """Run a plan."""
        self.ran, self.begun = [], []
        return run_group(self.connect, self.rows, plan, RunSettings(**how))

    def found(self, run: str = "run") -> dict[tuple[str, str], Result]:
        """Return the results of a run, by cell and suite."""
        results = map(store.load, (self.results / run).glob(f"*/*/{store.RESULT_FILE}"))
        return {(it.cell_id, it.suite): it for it in results}

    def run_all(self, commands: Iterable[ChildCommand | None], *, jobs: Callable[[], int], watch: Watch) -> None:
        """Run cells one after another, as their processes would."""
        self.jobs = jobs()
        for command in filter(None, commands):
            watch.began(command.cell)
            watch.tick()
            if not watch.ended(command.cell, self.begin(command)):
                return

    def begin(self, command: ChildCommand) -> int:
        """Do what the process of a cell does; return its exit code."""
        self.begun.append(command.cell)
        return max((self._suite(command, name) for name in self._orders(command)), default=0)

    def _orders(self, command: ChildCommand) -> list[str]:
        words = list(command.words)
        return [words[place + 1] for place, word in enumerate(words) if word == "--suite"]

    def _suite(self, command: ChildCommand, order: str) -> int:
        name = order
        self.ran.append((command.cell, name))
        self.while_running()
        outcome = self.outcomes.get((command.cell, name), Outcome.PASSED)
        if outcome is None:
            return -9
        run = command.words[command.words.index("--run") + 1]
        slurm, kind, os, arch = command.cell.split("-")
        of = results.cell(slurm.removeprefix("slurm"), os, arch=arch, kind=kind)
        result = results.result(of, name, outcome, run=run, started=store.utc_now(), seconds=1.0)
        store.write(result, self.results / run / command.cell / name / store.RESULT_FILE)
        return result.exit_code


class Made:
    """Stands for `ci.group.images.Images`: all are there at once, but those that have a problem."""

    at = ""

    def __init__(self, problems: Mapping[str, PyxisMatrixError], plans: Sequence[EnvironmentPlan]) -> None:
        """Have the images of these cells made."""
        self._problems = problems
        self._plans = plans
        self.waiting = len(plans)

    @contextmanager
    def built_meanwhile(self, _stream: TextIO) -> Iterator[None]:
        """Do nothing."""
        yield

    def stop(self) -> None:
        """Do nothing."""

    def news(self) -> Iterator[Ready]:
        """Yield every cell."""
        plans, self._plans, self.waiting = self._plans, (), 0
        yield from (Ready(cell=it.cell.id, problem=self._problems.get(it.cell.id)) for it in plans)


def machine_with_doubles(results: Path, rows: Matrix, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Put a machine in the place of the engine, of images, of fingerprints and of processes."""
    made = Machine(results, rows)

    def ingredients(plan: EnvironmentPlan, suite: Suite, *_words: object, **_more: object) -> Mapping[str, str]:
        return {"cell": plan.cell.id, "suite files": suite.name, "images": made.taste}

    monkeypatch.setattr(running, "Builder", lambda *_words, **_more: None)
    monkeypatch.setattr(images, "Images", lambda _builder, plans: Made(made.problems, plans))
    monkeypatch.setattr(fingerprint, "shared_ingredients", lambda _engine: {})
    monkeypatch.setattr(fingerprint, "shared_stamp", lambda: {"program": made.program})
    monkeypatch.setattr(fingerprint, "stamp", lambda plan, suite, shared: {**shared, **made.stamp(plan, suite)})
    monkeypatch.setattr(fingerprint, "ingredients", ingredients)
    monkeypatch.setattr(capacity, "of_machine", lambda _engine: Capacity(cores=2, memory=64 * 1024**3))
    monkeypatch.setattr(children, "run_all", made.run_all)
    return made
