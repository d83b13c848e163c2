"""A run of a group: each cell once, side by side, as soon as its images exist."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import signal

from msgspec.structs import replace

from ci import paths
from ci.engine.connection import Engine
from ci.engine.refusals import asking
from ci.errors import NotRunError, PyxisMatrixError
from ci.group import capacity, children, fingerprint, images, live, reuse, watching
from ci.group.children import ChildCommand
from ci.group.planning import OPTIONS, CellPlan, GroupPlan
from ci.images.building import Builder, sources_of
from ci.matrix.model import Matrix
from ci.matrix.pytest_words import Given
from ci.options import Scope
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.report.finding import FoundResult
from ci.session.record import Record
from ci.terminal import console


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run that do not change any outcome."""

    jobs: int = 0
    fail_fast: bool = False
    reuse: bool = False
    quiet: bool = False


def run_group(
    connect: Callable[[], Engine], matrix: Matrix, plan: GroupPlan, how: RunSettings
) -> list[PyxisMatrixError]:
    """Run the planned suites, with results in the run's folder. Return why some could not be written there.

    :param connect: finds the engine.
    :raises PyxisMatrixError: for a problem that keeps all cells from running; it is in their results, too.
    :raises signals.Interrupted: at a signal, when all environments are down.
    """
    run = _Run(plan)
    # Before the engine is looked for: without an engine, too, the results of an earlier attempt no longer count.
    run.begin()
    for cell in plan.cells:
        if cell.not_run:
            run.not_run(cell)
    try:
        with asking("running this group"):
            _run_cells(run, connect(), matrix, plan, how)
    except PyxisMatrixError as problem:
        run.ended_by(problem)
        raise
    return run.unwritten


def _run_cells(run: "_Run", engine: Engine, matrix: Matrix, plan: GroupPlan, how: RunSettings) -> None:
    """Have the images built, and run each cell that can run as soon as its own exist."""
    possible = {cell.id: cell for cell in plan.cells if cell.suites and not cell.not_run}
    if not possible:
        return
    builder = Builder(engine, sources_of(plan.options), logs=run.folder / "images")
    maker = images.Images(builder, [cell.environment for cell in possible.values()])
    # The largest, because any of them may run at the same time.
    nodes = max(cell.environment.options.nodes for cell in possible.values())
    machine = capacity.of_machine(engine)
    capacity.warn_if_fewer(machine, how.jobs, cells=len(possible), nodes=nodes)
    most = machine.jobs(how.jobs, cells=len(possible), nodes=nodes)
    # Empty here, and filled by `jobs`: `watcher` looks into it when a cell begins.
    expected: dict[tuple[str, str], watching.Expected] = {}
    watcher = watching.Watcher(run.folder, expected)
    showing = live.Shown(total=len(possible), images=lambda: maker.at, folder=run.folder, quiet=how.quiet)
    shown = live.display(showing, watcher)

    ready: list[CellPlan] = []

    def jobs() -> int:
        """Return how many cells may run now, after looking for those whose images have been built meanwhile."""
        for news in maker.news():
            cell = possible[news.cell]
            if news.problem:
                run.broken(cell, news.problem)
            else:
                run.learn_ingredients(cell, matrix, engine, news.images)
            if news.problem or not run.settle(cell, reuse_earlier=how.reuse):
                showing.total -= 1
                continue
            expected.update(run.expected(cell))
            ready.append(cell)
        # A build counts as a cell for the cores. For the memory it does not: `capacity` always keeps some for it.
        return max(1, most - 1) if maker.waiting else most

    def commands() -> Iterator[ChildCommand | None]:
        while maker.waiting or ready:
            yield run.command(ready.pop(0)) if ready else None

    # Left in reverse: first the builds end, whose lines go above the table, and then the table.
    with console.plain_lines(shown.stream), shown.shown(), maker.built_meanwhile(shown.stream):
        children.run_all(
            commands(),
            jobs=jobs,
            watch=run.watch(possible, how, watcher, shown, maker),
        )


class _Run:
    """The plan of a run, and what has become known of its cells."""

    def __init__(self, plan: GroupPlan) -> None:
        self._plan = plan
        self.folder = plan.options.results / plan.options.run
        self._shared: fingerprint.Ingredients = {}
        self._shared_stamp: fingerprint.Ingredients = {}
        self._ingredients: dict[str, Mapping[str, fingerprint.Ingredients]] = {}
        self._stamps: dict[tuple[str, str], fingerprint.Ingredients] = {}
        self._todo: dict[str, list[str]] = {}
        self.unwritten: list[PyxisMatrixError] = []
        """Results that could not be written, and why: a full disk."""

    def begin(self) -> None:
        """Replace the results of an earlier attempt by unfinished ones, except those that ``--resume`` keeps."""
        for cell in self._plan.cells:
            for suite in cell.suites:
                if not self._answered(cell, suite.name):
                    self._begin(cell, suite.name)

    def ended_by(self, problem: PyxisMatrixError) -> None:
        """Write the problem as the result of all suites that have none."""
        for cell in self._plan.cells:
            for suite in cell.suites:
                if not store.has_ended(self._path(cell, suite.name)):
                    self._write(cell, suite.name, problem)

    def learn_ingredients(self, cell: CellPlan, matrix: Matrix, engine: Engine, images_hash: str) -> None:
        """Hash the ingredients of each suite's fingerprint on a cell, and write them down.

        The stamp is taken first, so that an edit while files are hashed is noticed at the end, too.

        :param images_hash: the hash of the cell's images.
        """
        stamp = fingerprint.shared_stamp()
        # All files of all installed packages are hashed, so this is done again only after one of them was written.
        if stamp != self._shared_stamp:
            self._shared_stamp, self._shared = stamp, fingerprint.shared_ingredients(engine)
        for suite in cell.suites:
            self._stamps[cell.id, suite.name] = fingerprint.stamp(cell.environment, suite, stamp)
        self._ingredients[cell.id] = {
            suite.name: fingerprint.ingredients(
                cell.environment, suite, self._plan.record.words, matrix=matrix, images=images_hash, shared=self._shared
            )
            for suite in cell.suites
        }
        with suppress(PyxisMatrixError):  # the file only serves messages of later runs
            reuse.write(self.folder, self._ingredients)

    def settle(self, cell: CellPlan, *, reuse_earlier: bool) -> list[str]:
        """Return the suites of a cell that have to run, and say why the others need not."""
        todo = self._todo[cell.id] = [
            suite.name
            for suite in cell.suites
            if not (self._is_done(cell, suite.name) or (reuse_earlier and self._is_reused(cell, suite.name)))
        ]
        for name in todo:
            self._begin(cell, name)
        return todo

    def command(self, cell: CellPlan) -> ChildCommand:
        """Return the command that runs a cell."""
        suites = [word for name in self._todo[cell.id] for word in ("--suite", name)]
        words = cell.environment.options.words(*OPTIONS, Scope.RESULT)
        return ChildCommand(
            cell=cell.id,
            words=("cell", cell.cell.matrix_id, *words, *suites, "--", *self._plan.record.words),
            output=self.folder / cell.id / paths.OUTPUT_FILE,
        )

    def not_run(self, cell: CellPlan) -> None:
        """Write that a cell can't run here."""
        console.warn(f"{cell.id} is not run: {cell.not_run}")
        problem = NotRunError(cell.not_run)
        for suite in cell.suites:
            self._write(cell, suite.name, problem)

    def broken(self, cell: CellPlan, problem: PyxisMatrixError) -> None:
        """Write a problem as the result of a cell's suites, except those that ``--resume`` keeps."""
        console.fail(f"{cell.id}: {problem}")
        for suite in cell.suites:
            if not self._answered(cell, suite.name):
                self._write(cell, suite.name, problem)

    def expected(self, cell: CellPlan) -> Mapping[tuple[str, str], watching.Expected]:
        """Return the durations and numbers of tests of earlier runs of a cell's suites."""
        options = self._plan.options
        return watching.expected(options.results, options.run, cell.id, self._todo[cell.id])

    def watch(
        self,
        cells: Mapping[str, CellPlan],
        how: RunSettings,
        watcher: watching.Watcher,
        shown: live.Lines,
        maker: images.Images,
    ) -> children.Watch:
        """Return the functions to call as cells begin and end."""

        def ended(name: str, exit_code: int) -> bool:
            self._write_missing(cells[name], exit_code)
            self._add_fingerprints(cells[name])
            shown.news(name, watcher.end(name))
            shown.end(watcher.states[name], exit_code)
            return not (how.fail_fast and exit_code)

        def began(name: str) -> None:
            watcher.begin(name, self._todo[name])
            shown.begin(name)

        def tick() -> None:
            for name, state in watcher.states.items():
                if not state.ended:
                    shown.news(name, watcher.look(name))
            shown.tick()

        def ending() -> None:
            maker.stop()
            shown.ending()

        return children.Watch(began=began, ended=ended, tick=tick, ending=ending)

    def _is_done(self, cell: CellPlan, suite: str) -> bool:
        """Tell whether the run that is resumed has a final result of a suite with the same fingerprint."""
        found = self._answered(cell, suite)
        # What has changed since the run began would make its results of two kinds.
        if found and found.fingerprint != self._fingerprint(cell, suite):
            console.say(f"{cell.id} {suite} runs again: {self._changes(cell, suite, found.run)}")
            return False
        return found is not None

    def _answered(self, cell: CellPlan, suite: str) -> Result | None:
        """Return the final result of a suite in the run that is resumed, if there is one."""
        path = self._path(cell, suite)
        if not self._plan.resumed or not path.is_file():
            return None
        try:
            found = FoundResult.of(store.load(path), path.parent).result
        except PyxisMatrixError as error:
            console.warn(f"{error}\n  {suite} runs again on {cell.id}")
            return None
        # Errors and interruptions answer nothing, and may be gone by now.
        return found if found.outcome in {Outcome.PASSED, Outcome.PARTLY, Outcome.FAILED} else None

    def _is_reused(self, cell: CellPlan, suite: str) -> bool:
        """Use an earlier result with the same fingerprint if there is one; otherwise say why not."""
        run = self._plan.options.run
        before = reuse.earlier(self._plan.options.results, cell.id, suite, but=run)
        if found := reuse.unchanged(before, self._fingerprint(cell, suite)):
            taken = reuse.taken(found, run)
            store.write(taken, self._path(cell, suite))
            console.say(f"{cell.id} {suite}: {taken.outcome}, {taken.reason}")
            return True
        if before:
            console.say(f"{cell.id} {suite} runs: {self._changes(cell, suite, before[0].reused_from or before[0].run)}")
        return False

    def _changes(self, cell: CellPlan, suite: str, run: str) -> str:
        now = self._ingredients[cell.id][suite]
        if names := reuse.changed(self._plan.options.results / run, cell.id, suite, now):
            return f"{', '.join(names)} changed since {run}"
        return f"it did not pass in {run}, or something has changed"

    def _fingerprint(self, cell: CellPlan, suite: str) -> str:
        return fingerprint.fingerprint(self._ingredients[cell.id][suite])

    def _write_missing(self, cell: CellPlan, exit_code: int) -> None:
        """Write results for suites whose process ended without writing one."""
        output = self.folder / cell.id / paths.OUTPUT_FILE
        # Popen's returncode is minus the number of the signal that ended the process.
        ended = f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with {exit_code}"
        problem = PyxisMatrixError(f"the process of the cell {ended} without a result", where=str(output))
        for name in self._todo[cell.id]:
            if not store.has_ended(self._path(cell, name)):
                self._write(cell, name, problem)

    def _add_fingerprints(self, cell: CellPlan) -> None:
        """Add fingerprints to the results of a cell, unless a file of the ingredients was edited meanwhile.

        A result without a fingerprint is never used by a later run.
        """
        shared = fingerprint.shared_stamp()
        for suite in cell.suites:
            path = self._path(cell, suite.name)
            if suite.name not in self._todo[cell.id] or not store.has_ended(path):
                continue
            try:
                found = store.load(path)
                before = self._stamps[cell.id, suite.name]
                # Against the stamp from before the hashes: what was edited in between may be in either state.
                now = fingerprint.stamp(cell.environment, suite, shared)
                touched = ", ".join(name for name, value in now.items() if before[name] != value)
                changed = f"changed while it ran: {touched}; so no later run reuses this result"
                proven = replace(
                    found,
                    fingerprint="" if touched else self._fingerprint(cell, suite.name),
                    reason="; ".join(filter(None, (found.reason, changed if touched else ""))),
                )
                store.write(proven, path)
            except PyxisMatrixError as error:
                console.warn(f"{error}\n  no later run reuses the result of {suite.name} on {cell.id}")

    def _path(self, cell: CellPlan, suite: str) -> Path:
        return self.folder / cell.id / suite / store.RESULT_FILE

    def _begin(self, cell: CellPlan, suite: str) -> None:
        """Replace an earlier result by an unfinished one; without an earlier result, the run's plan is enough."""
        if (path := self._path(cell, suite)).exists():
            path.unlink()  # removed first: a full disk must not keep the earlier result
            self._write_result(self._record(cell, suite).begun())

    def _write(self, cell: CellPlan, suite: str, problem: PyxisMatrixError) -> None:
        outcome = Outcome.of(problem, strict=cell.environment.options.strict)
        self._write_result(self._record(cell, suite).result(outcome, problem.exit_code, str(problem)))

    def _record(self, cell: CellPlan, suite: str) -> Record:
        return Record.of_suite(cell.environment, suite, Given(words=self._plan.record.words))

    def _write_result(self, result: Result) -> None:
        try:
            store.write(result, self.folder / result.cell_id / result.suite / store.RESULT_FILE)
        except PyxisMatrixError as error:
            console.warn(str(error))
            self.unwritten.append(error)
