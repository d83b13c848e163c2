"""A run of a group: plan, images, then each cell once, side by side, and one summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import signal

from ci.artefacts.sources import Sources
from ci.engine.connection import Engine
from ci.errors import NotRunError, PyxisMatrixError
from ci.group import capacity, children, images
from ci.group.children import Command
from ci.group.planning import OPTIONS, CellPlan, GroupPlan
from ci.images.building import Builder
from ci.options import Scope
from ci.results import store
from ci.results.outcomes import Outcome
from ci.results.store import Result
from ci.terminal import console


@dataclass(frozen=True, kw_only=True)
class How:
    """How a group is run; nothing of it changes an outcome."""

    jobs: int = 0
    fail_fast: bool = False


def run_group(engine: Engine, plan: GroupPlan, how: How) -> None:
    """Run what is planned; the results are in the run's folder.

    :raises signals.Interrupted: at a signal, when all environments are down.
    """
    run = _Run(plan)
    possible = []
    for cell in plan.cells:
        if cell.not_run:
            run.not_run(cell, NotRunError(cell.not_run))
        elif run.to_do(cell):
            possible.append(cell)
    builder = Builder(engine, Sources.from_environment(plan.options.mirror), logs=run.folder / "images")
    with console.step("images of all cells"):
        problems = images.build_all(builder, [cell.environment for cell in possible])
    for cell in possible:
        if problem := problems.get(cell.cell.id):
            run.broken(cell, problem)
    ready = [cell for cell in possible if cell.cell.id not in problems]
    nodes = max((cell.environment.options.nodes for cell in ready), default=1)
    machine = capacity.of_machine(engine)
    capacity.warn_if_fewer(machine, how.jobs, cells=len(ready), nodes=nodes)
    jobs = machine.jobs(how.jobs, cells=len(ready), nodes=nodes)
    children.run_all([run.command(cell) for cell in ready], jobs=jobs, watch=run.watch(ready, how))


class _Run:
    """What the steps of a run share."""

    def __init__(self, plan: GroupPlan) -> None:
        self._plan = plan
        self.folder = plan.options.results / plan.options.run

    def path(self, cell: CellPlan, suite: str) -> Path:
        """Return where a suite's result is."""
        return self.folder / cell.cell.id / suite / store.RESULT_FILE

    def done(self, cell: CellPlan, suite: str) -> bool:
        """Tell whether the run that goes on has a suite's final result."""
        path = self.path(cell, suite)
        if not self._plan.resumed or not path.is_file():
            return False
        try:
            return store.load(path).outcome in {Outcome.PASSED, Outcome.FAILED}
        except PyxisMatrixError:
            return False

    def to_do(self, cell: CellPlan) -> list[str]:
        """Return the suites that have no final result yet."""
        return [it.name for it in cell.suites if not self.done(cell, it.name)]

    def command(self, cell: CellPlan) -> Command:
        """Return the command that runs a cell."""
        options = cell.environment.options
        suites = [word for name in self.to_do(cell) for word in ("--suite", name)]
        words = options.words(*OPTIONS, Scope.RESULT)
        return Command(
            cell=cell.cell.id,
            words=("cell", cell.cell.id, *words, *suites, "--", *self._plan.words),
            output=self.folder / cell.cell.id / children.OUTPUT_FILE,
        )

    def not_run(self, cell: CellPlan, why: NotRunError) -> None:
        """Write that a cell can't run here."""
        console.warn(f"{cell.cell.id} is not run: {why.what}")
        for suite in cell.suites:
            self._write(cell, suite.name, Outcome.SKIPPED, why)

    def broken(self, cell: CellPlan, problem: PyxisMatrixError) -> None:
        """Write that a cell came to nothing."""
        console.fail(f"{cell.cell.id}: {problem}")
        for name in self.to_do(cell):
            self._write(cell, name, Outcome.ERROR, problem)

    def ended_without_a_word(self, cell: CellPlan, exit_code: int) -> None:
        """Write what is to be said of suites whose process left no result."""
        output = self.folder / cell.cell.id / children.OUTPUT_FILE
        ended = f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with {exit_code}"
        problem = PyxisMatrixError(f"the process of the cell {ended} and left no result", where=str(output))
        for suite in cell.suites:
            if not self.path(cell, suite.name).is_file():
                self._write(cell, suite.name, Outcome.ERROR, problem)

    def watch(self, cells: Sequence[CellPlan], how: How) -> children.Watch:
        """Return what is to happen as cells begin and end."""
        by_id = {cell.cell.id: cell for cell in cells}

        def ended(name: str, exit_code: int) -> bool:
            cell = by_id[name]
            self.ended_without_a_word(cell, exit_code)
            console.say(f"{name}: ended with {exit_code}")
            return not (how.fail_fast and exit_code)

        return children.Watch(began=lambda name: console.say(f"{name}: begun"), ended=ended)

    def _write(self, cell: CellPlan, suite: str, outcome: Outcome, problem: PyxisMatrixError) -> None:
        environment = cell.environment
        result = Result(
            run=environment.options.run,
            cell=store.CellRecord.of(cell.cell),
            suite=suite,
            outcome=outcome,
            exit_code=problem.exit_code,
            reason=str(problem),
            started=store.utc_now(),
            seconds=0.0,
            subject={"requirement": environment.subject},
            again=f'nox -s "{suite}({cell.cell.id})"',
        )
        try:
            store.write(result, self.path(cell, suite))
        except PyxisMatrixError as error:
            console.warn(str(error))
