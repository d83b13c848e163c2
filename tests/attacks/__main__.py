"""Tries to make results say more than was seen: ``nox -s attacks -- [CELL] [--only NAME] [--without-cell]``.

Each attack goes against the real program. It ends with status 1 where an answer was not honest.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
import sys
import tempfile

from ci import paths
from ci.errors import PyxisMatrixError, SelectionError
from ci.matrix import loading
from ci.matrix.suites import check_subject
from ci.terminal import console
from tests.attacks import by_command, made_up, on_a_cell
from tests.attacks.attack import Attack, Seen
from tests.attacks.ground import Ground
from tests.support.program import cell_of, guarded, parser_of

ATTACKS = (*made_up.attack, *by_command.attack, *on_a_cell.attack)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the attacks; return an exit code."""
    parser = parser_of("attacks", __doc__)
    parser.add_argument("cell", nargs="?", metavar="CELL", help="where (default: the embedded cell of the group smoke)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument(
        "--without-cell", action="store_true", help="only those that start no cell: no engine is needed"
    )
    parser.add_argument("--list", action="store_true", help="print the table of all, as CONTRIBUTING.md has it")
    asked = parser.parse_args(arguments)
    return guarded(lambda: _run(asked), "what the attacks asked of it")


def _run(asked: argparse.Namespace) -> int:
    if asked.list:
        sys.stdout.write(table(ATTACKS))
        return 0
    matrix = loading.load()
    check_subject(matrix.subject, "pyxis_basic")
    cell = cell_of(asked.cell, matrix)
    if unknown := sorted(set(asked.only) - {attack.name for attack in ATTACKS}):
        names = ", ".join(attack.name for attack in ATTACKS)
        raise SelectionError(f"no attack is called {' or '.join(unknown)}", why=f"there are: {names}")
    chosen = [
        it for it in ATTACKS if (not asked.only or it.name in asked.only) and not (asked.without_cell and it.cell)
    ]
    seen = []
    for attack in chosen:
        with console.step(f"attack: {attack.name}"), tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
            seen.append(_made(attack, Ground(folder=Path(folder), cell=cell.id, run=paths.new_run_id())))
    sys.stdout.write(table(chosen, seen))
    sys.stdout.flush()
    return 0 if all(it.held for it in seen) else 1


def _made(attack: Attack, ground: Ground) -> Seen:
    """Make an attack. One that leaves something on the engine is not held, whatever the answer was."""
    left: list[str] = []
    with ExitStack() as stack:
        if attack.cell:
            left = stack.enter_context(on_a_cell.swept(ground.run))
        try:
            seen = attack.made(ground)
        except PyxisMatrixError as problem:
            seen = Seen(held=False, text=f"the attack itself failed: {problem.what}")
    return Seen(held=False, text=f"{seen.text}; left, and removed now: {', '.join(left)}") if left else seen


def table(attacks: Sequence[Attack], seen: Sequence[Seen] = ()) -> str:
    """Return attacks as a table in Markdown: what is tried and what is honest, and what was seen where it was."""
    head = ["attack", "what it tries", "the honest answer", *(["held", "seen"] if seen else [])]
    rows = [[it.name, it.tries, it.honest] for it in attacks]
    for row, it in zip(rows, seen, strict=False):
        row += ["yes" if it.held else "**no**", it.text.replace("|", "¦")]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    sys.exit(main())
