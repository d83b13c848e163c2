"""One step of a bisection: the question is put to it in a process of its own, and its result is read as an answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
import os
from pathlib import Path
import sys
import time

import msgspec

from ci import paths
from ci.artefacts import candidates
from ci.bisect.search import Judgement
from ci.bisect.steps import Step
from ci.errors import (
    ArtefactError,
    BisectError,
    BuildError,
    CandidateError,
    ChecksumError,
    LaunchError,
    NotRunError,
    ProfileError,
    PyxisMatrixError,
    ResultsError,
    SelectionError,
    VersionMismatchError,
    session,
)
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.pytest_words import check_environment, given
from ci.matrix.suites import OWN, SUITES
from ci.options import Scope
from ci.record import files, store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import Result
from ci.report.finding import ASKED_FILE
from ci.report.words import first_line
from ci.session import arguments
from ci.terminal import console
from ci.terminal.signals import child_environment

PATIENCE = 50.0
"""Seconds that a step has to take its environment down; a little less than nox gives to this process."""
_NO_TESTS = 5  # pytest: no test was selected
_SKIP = 125  # as `git bisect run` has it: this one can't be judged
_NOT_RUN = (126, 127)  # of a shell: found and not started; not found
# With what passed, the results that are not asked again. An error may have been the machine's.
_ANSWERED = frozenset({Outcome.FAILED, Outcome.SKIPPED})
# What is wrong with one step, and not with the question or the machine.
_OF_THE_STEP = {
    error.exit_code
    for error in (ArtefactError, ChecksumError, BuildError, CandidateError, LaunchError, VersionMismatchError)
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every step."""

    name: str
    """Of the result folder."""
    verb: tuple[str, ...]
    """The command of this program that puts it to a cell."""
    words: tuple[str, ...]
    """What comes after ``--`` there."""
    options: tuple[str, ...] = ()
    pytest: bool = True
    """Whether pytest is asked, so that tests are the answer; else it is an exit code."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A step that was asked."""

    answer: Judgement
    seconds: float = 0.0
    why: str = ""


def question(words: Sequence[str], cell: Cell, matrix: Matrix) -> Question:
    """Return the question that stands behind the last ``--``: a suite of ours or of one's own, or a command.

    :raises SelectionError: if there is none, or it cannot be used with the cell.
    """
    options, rest = arguments.split(words)
    if misplaced := options.words(Scope.IMAGES, Scope.CLUSTER):
        raise SelectionError(
            f"{misplaced[0]} comes after the last --",
            why="what comes after it is the question; options of images and of the cluster come before it",
            next_step=session("bisect", "[options] -- SUITE -k TEST"),
        )
    which = rest[0] if rest and not rest[0].startswith("-") else ""
    if which in SUITES and not options.shell_command:
        if why := SUITES[which].unfit(cell, matrix.subject):
            raise SelectionError(f"{which} cannot be used with {cell.id}", why=why)
        check_environment(os.environ)
        behind = given(SUITES[which], rest[1:])
        # A known failure has to be an answer like any other. So it is not a result of the suite, and has another name.
        command = (sys.executable, "-m", "pytest", *behind.command(SUITES[which], "--runxfail"))
        name = f"{which}-asked"
        return Question(name=name, verb=("run",), words=command, options=("--as", name, "--pytest"))
    if which:
        path = Path(which).expanduser().absolute()
        own, _, _ = arguments.own_suite(path, options, rest[1:])
        again = (str(path), *options.words(Scope.SUITE), *rest[1:])
        return Question(name=own.name, verb=("suite", OWN), words=again, pytest=own.pytest)
    if options.shell_command and not rest:
        options.check(cell)
        # Else `srun … | tee` ends with tee's status.
        command = (*paths.program(), "shell", "--", f"set -o pipefail; {options.shell_command}")
        return Question(name="command", verb=("run",), words=command, pytest=False)
    raise SelectionError(
        "there is nothing to ask",
        where="after the last --",
        why="neither a suite nor a command is given there",
        next_step="-- pyxis_conformance -k TEST, or -- PATH, or -- --command 'srun …' (on the login node)",
    )


def ask(step: Step, question: Question, matrix: Matrix) -> Probe:
    """Put the question to a step: build what it needs, start it, run the command, take it down.

    :raises BisectError, SelectionError: if no step could answer.
    """
    if step.obstacle:
        return Probe(answer=Judgement.NONE, why=step.obstacle)
    started = time.monotonic()
    try:
        chosen = candidates.read(step.options, matrix)
        cell = chosen.into(step.cell)
    except (CandidateError, ProfileError) as error:
        # One commit may have no tree that a candidate can be made of, and the next one may.
        return Probe(answer=Judgement.NONE, why=first_line(f"{error.what}: {error.why}"))
    options = replace(chosen.options, name=question.name)
    folder = paths.make_directory(options.folder(cell))
    given = [*options.words(Scope.IMAGES, Scope.CLUSTER, Scope.RESULT), *question.options]
    words = [*paths.program(), *question.verb, cell.matrix_id, *given, "--", *question.words]
    where, log = folder / store.RESULT_FILE, str(folder / paths.OUTPUT_FILE)
    # A bisection that was broken off goes on: no step is built and asked twice.
    if earlier := _earlier(where, words):
        answer, why = judge(earlier, where=log, pytest=question.pytest)
        return Probe(answer=answer, seconds=earlier.seconds, why=why)
    # Else a step whose process dies early would be judged by the result of an earlier attempt.
    where.unlink(missing_ok=True)
    with paths.replaced(folder / ASKED_FILE, "what is asked") as file:
        file.write(msgspec.json.encode(words))
    done = console.call(
        words,
        cwd=paths.REPOSITORY,
        env=child_environment(),
        log=folder / paths.OUTPUT_FILE,
        grace=PATIENCE,
    )
    seconds = time.monotonic() - started
    try:
        result = store.load(where)
        if result.outcome is Outcome.UNFINISHED:
            raise ResultsError("it did not end")
    except PyxisMatrixError:
        if done.exit_code == NotRunError.exit_code:  # refused before it began, so there is no result
            return Probe(answer=Judgement.NONE, seconds=seconds, why=first_line(done.tail(1)))
        raise BisectError(
            f"{step.name} could not be asked",
            where=log,
            why=f"its process ended with {done.exit_code} and left no result: {first_line(done.tail(1))}",
            next_step="correct what its output says, then try again",
        ) from None
    answer, why = judge(result, where=log, pytest=question.pytest)
    return Probe(answer=answer, seconds=seconds, why=why)


def _earlier(where: Path, words: Sequence[str]) -> Result | None:
    """Return the result that a step has already in this run, if it was asked the same and could answer."""
    words_file = where.with_name(ASKED_FILE)
    try:
        found = store.load(where) if msgspec.json.decode(words_file.read_bytes()) == list(words) else None
    except (OSError, PyxisMatrixError, *files.INVALID):
        return None
    return found if found and (found.outcome.good or found.outcome in _ANSWERED) else None


def judge(result: Result, *, where: str, pytest: bool) -> tuple[Judgement, str]:
    """Return the answer that a result is, and what is to be said of it.

    :param where: the file with all that the step wrote.
    :raises SelectionError: if the question selects no test, or is none.
    :raises BisectError: if the cause is not the step, but the machine.
    """
    # What one step lacks, such as a Slurm that does not compile, is no fault of the question.
    if result.outcome is Outcome.ERROR and result.exit_code in _OF_THE_STEP:
        return Judgement.NONE, first_line(result.reason)
    if pytest and result.exit_code == _NO_TESTS:
        raise SelectionError("the question selects no test", where=where, next_step="correct the name after -k")
    if not pytest and result.exit_code in _NOT_RUN:
        raise SelectionError(
            "the command was not found or not started",
            where=where,
            why=f"its exit status is {result.exit_code}",
            next_step="correct the command",
        )
    if not pytest and result.exit_code == _SKIP:
        return Judgement.NONE, f"the command ended with {_SKIP}"
    if not pytest and (result.outcome.good or result.outcome is Outcome.FAILED):
        return Judgement.PASSED if result.outcome.good else Judgement.FAILED, f"exit status {result.exit_code}"
    if result.outcome is Outcome.ERROR and not result.tests:
        raise BisectError(
            "the question could not be asked",
            where=where,
            why=first_line(result.reason) or f"exit status {result.exit_code}",
            next_step="correct that, and try again: what was built is kept",
        )
    return _of_tests(result)


def _of_tests(result: Result) -> tuple[Judgement, str]:
    """Return the answer of the tests: failed if one failed, no answer if one could not tell."""
    # Reversed, so that of each outcome the first test stays.
    said = {test.outcome: _said(test) for test in reversed(result.tests)}
    # Before failures: beside a cluster that broke, a test that failed proves nothing of the step.
    for state in (TestState.INTERRUPTED, TestState.ERROR):
        if state in said:
            return Judgement.NONE, said[state]
    for state in (TestState.FAILED, TestState.XFAILED, TestState.EXPECTED):
        if state in said:
            return Judgement.FAILED, said[state]
    if result.outcome.good:
        return Judgement.PASSED, ""
    return Judgement.NONE, said.get(TestState.SKIPPED, first_line(result.reason))


def _said(test: TestOutcome) -> str:
    return f"{test.name.rpartition('::')[2]}: {first_line(test.message)}"
