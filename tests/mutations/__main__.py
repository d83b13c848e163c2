"""Breaks product and cluster on purpose and shows which suite turns red: ``nox -s mutations -- [CELL] [--only NAME]``.

For each mutation a cell is launched, something of it is broken, every suite is run against it up to its first failing
test, and all is taken down. What is broken in the project's own code is broken in a copy, on which the unit tests are
run. It ends with status 1 where a mutation turned no suite red, or turned it red for another reason than its own, and
where the control row is not green. Calls with the same ``--run`` fill one table.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys

from ci import paths
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import LaunchError, SelectionError
from ci.matrix import loading
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.suites import check_subject
from ci.options import Options, Scope, add_to
from ci.record import reportlog, store
from ci.session import running
from ci.session.handover import additions
from ci.session.record import Record
from ci.terminal import console
from tests.mutations import copies, keeping
from tests.mutations.judging import Row, Verdict, judge, table
from tests.mutations.mutation import UNIT_TESTS, Mutation
from tests.mutations.mutations import MUTATIONS
from tests.mutations.suites import suites_of
from tests.support.program import cell_of, guarded, parser_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutations; return an exit code."""
    parser = parser_of("mutations", __doc__)
    parser.add_argument("cell", nargs="?", metavar="CELL", help="where (default: the embedded cell of the group smoke)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this mutation; may be given more than once"
    )
    parser.add_argument(
        "--suite", action="append", default=[], metavar="NAME", help="only this suite; may be given more than once"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the mutations")
    add_to(parser, Scope.IMAGES, Scope.RESULT)
    asked = parser.parse_args(arguments)
    return guarded(lambda: _run(asked), "what the mutations asked of it")


def _run(asked: argparse.Namespace) -> int:
    matrix = loading.load()
    check_subject(matrix.subject, "pyxis_basic")
    cell = cell_of(asked.cell, matrix)
    chosen = select(cell, asked.only)
    if asked.list:
        sys.stdout.write("".join(f"{mutation.name}\n" for mutation in chosen))
        return 0
    options = Options.of(asked)
    suites = select_suites(cell, asked.suite)
    folder = options.results / options.run / cell.id
    rows = keeping.load(folder / "mutations.json")
    for mutation in chosen:
        if not any(mutation.concerns(suite) for suite in suites):
            continue
        with console.step(f"mutation: {mutation.name}"):
            row = _row(mutation, cell, matrix, options, suites)
        for verdict in row.verdicts:
            console.say(f"{verdict.suite}: {verdict}")
        if row.problem:
            console.warn(f"{mutation.name}: {row.problem}")
        rows = keeping.joined(rows, row)
        # Again with each row, so that an interruption costs only the one that it met.
        keeping.save(folder / "mutations.json", rows)
        (folder / "mutations.md").write_text(table(rows, list(suites_of(cell))), encoding="utf-8")
    sys.stdout.write(table(rows, list(suites_of(cell))))
    sys.stdout.flush()
    return 1 if any(row.problem for row in rows) else 0


def select(cell: Cell, only: Sequence[str]) -> tuple[Mutation, ...]:
    """Return the mutations that are asked for, of those that fit a cell; all of them where none is named."""
    fitting = {mutation.name: mutation for mutation in MUTATIONS if mutation.fits(cell)}
    if unknown := [name for name in only if name not in fitting]:
        raise SelectionError(
            f"no mutation of {cell.id} is called {' or '.join(unknown)}",
            why=f"there are: {', '.join(fitting)}",
            next_step="nox -s mutations -- --list",
        )
    return tuple(mutation for name, mutation in fitting.items() if not only or name in only)


def select_suites(cell: Cell, only: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the suites that are asked for, with pytest's arguments; all of a cell's where none is named."""
    suites = suites_of(cell)
    if unknown := [name for name in only if name not in suites]:
        raise SelectionError(
            f"no suite of {cell.id} that has to notice mutations is called {' or '.join(unknown)}",
            why=f"there are: {', '.join(suites)}",
            next_step=f"nox -s mutations -- {cell.id} --suite {next(iter(suites))}",
        )
    return {name: words for name, words in suites.items() if not only or name in only}


def _row(mutation: Mutation, cell: Cell, matrix: Matrix, options: Options, suites: Mapping[str, Sequence[str]]) -> Row:
    """Break what the mutation breaks, and run the suites against it: on a cell, or on a copy of the repository."""
    name = f"mutation-{mutation.name.replace(' ', '-')}"
    plan = plan_environment(cell, matrix, replace(options, name=name))
    concerned = {suite: words for suite, words in suites.items() if mutation.concerns(suite)}
    verdicts = []
    if words := concerned.pop(UNIT_TESTS, ()):
        with copies.changed(mutation.source) as copy:
            verdicts.append(_verdict(mutation, UNIT_TESTS, words, plan, {}, copy))
    if concerned:
        with (
            mutation.launch() if mutation.launch else nullcontext(),
            running.environment_of(Record(plan=plan)) as launched,
        ):
            _break(mutation, launched)
            variables = additions(launched, os.environ)
            verdicts += [_verdict(mutation, suite, words, plan, variables) for suite, words in concerned.items()]
    return Row(mutation=mutation, verdicts=tuple(verdicts))


def _break(mutation: Mutation, launched: Environment) -> None:
    for name in launched.plan.names.nodes if mutation.nodes else ():
        _inside(launched, name, mutation.nodes)
    if mutation.registry:
        _inside(launched, launched.plan.names.registry, mutation.registry)
    if mutation.environment:
        mutation.environment(launched)


def _inside(launched: Environment, container: str, script: str) -> None:
    """Run a script by root's shell in a container; it has to succeed, for else nothing is broken."""
    done = subprocess.run(
        [launched.file.engine_client, "exec", "--user", "root", container, "/bin/sh", "-e", "-c", script],
        env={**os.environ, **launched.file.engine_environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LaunchError(
            "a mutation could not be made", where=f"{container}: {script}", why=f"{done.stdout}{done.stderr}"
        )


def _verdict(
    mutation: Mutation,
    suite: str,
    words: Sequence[str],
    plan: EnvironmentPlan,
    variables: Mapping[str, str],
    folder: Path = paths.REPOSITORY,
) -> Verdict:
    """Run a suite of the repository in ``folder`` up to its first failing test."""
    results = paths.make_directory(plan.options.folder(plan.cell)).resolve()
    log = results / f"{suite}-{store.REPORT_LOG_FILE}"
    command = [sys.executable, "-m", "pytest", "-x", *(("-p", mutation.plugin) if mutation.plugin else ())]
    with console.step(suite):
        done = console.call(
            [*command, *_narrowed(words, mutation.file), *reportlog.options(log)],
            cwd=folder,
            env={**os.environ, **variables, **reportlog.variables({**os.environ, **variables})},
            log=results / f"{suite}.log",
        )
    if mutation.log:
        mutation.log(log)
    return judge(mutation, suite, log, done.exit_code)


def _narrowed(words: Sequence[str], file: str) -> list[str]:
    """Return pytest's arguments with a folder narrowed to its file of that name, if there is one to narrow to."""
    return [f"{word}/{file}" if file and (paths.REPOSITORY / word / file).is_file() else word for word in words]


if __name__ == "__main__":
    sys.exit(main())
