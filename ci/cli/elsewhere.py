"""What is needed where there is no checkout and no nox: a matrix file, an engine, the environment of tests."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
import os
from pathlib import Path
import sys

from ci import paths, templates
from ci.cli import completing
from ci.errors import INSTALLED, CheckoutNeededError, SelectionError, as_here, session, typed
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.profiles import Profile
from ci.options import packages, values
from ci.terminal import console


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `init` to its parser."""
    parser.add_argument("cells", nargs="*", metavar="CELL", help="the cells of the group (default: those of smoke)")
    parser.add_argument("--subject", type=values.requirement, metavar="PACKAGE", help="the package to test")
    parser.add_argument(
        "--profile", type=values.profile, metavar="NAME|DIR", help="a site's settings; the file says how to use them"
    )


def init(parsed: argparse.Namespace) -> int:
    """Write a matrix file of one's own into the current folder.

    :raises SelectionError: if there is one, or for cells that there are not.
    """
    file = Path.cwd() / paths.MATRIX_FILE.name
    # Without a file of one's own: what is written says how it differs from the project's.
    rows, host = loading.load(paths.MATRIX_FILE), Arch.host()
    names = parsed.cells or [cell.id for cell in rows.cells(None, host)]
    cells = [rows.cell(name, host) for name in names]
    if parsed.profile:
        Profile.of(parsed.profile)
    text = _text(rows, cells, parsed.subject or "", parsed.profile or "")
    try:
        # "x" fails where the file exists, in one step: nobody's file is overwritten.
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise SelectionError(
            "matrix.toml exists already, and was not changed",
            where=str(file),
            next_step=f"edit it ({typed('cells --group full')} says what is wrong in it), or move it away",
        ) from error
    console.say(f"written: {file}")
    console.say(f"next: edit it; {typed('doctor')}; {as_here(_run(parsed.profile or ''))}")
    return 0


def _run(profile: str) -> str:
    return session("matrix", f"--profile {profile}" if profile else "")


def _text(rows: Matrix, cells: Sequence[Cell], subject: str, profile: str) -> str:
    """Return the file with these cells; the subject is that of pyxis-matrix where none is named."""
    return (
        templates.environment(Path(__file__).parent)
        .get_template("init.toml.j2")
        .render(
            matrix=_run(profile),
            cells_command=typed("cells --group full"),
            project_file=paths.MATRIX_FILE,
            subject=subject,
            default_subject=rows.subject.requirement,
            selections=[_selection(cell) for cell in cells],
        )
    )


def _selection(cell: Cell) -> str:
    """Return what selects one cell in a group."""
    axes = {name: value for name, value in cell.axes.items() if value}
    if cell.runtime is not Runtime.NVIDIA:
        axes["runtime"] = cell.runtime.value
    # So the same file selects the cells of another machine when it is taken there.
    if cell.arch is Arch.host():
        axes["arch"] = "host"
    return ", ".join(f'{name} = "{value}"' for name, value in axes.items())


def setup(parsed: argparse.Namespace) -> int:
    """Set the machine up as ``ci/bootstrap`` does, but for the virtual environment: whoever runs this has one."""
    words = [flag for flag, wanted in (("--dry-run", parsed.dry_run), ("--emulate", parsed.emulate)) if wanted]
    program = [sys.executable, str(paths.REPOSITORY / "ci" / "machine"), "--without-venv", *words]
    # In a process of its own, as ci/bootstrap starts it.
    code = console.attach(program).exit_code
    if INSTALLED and not (code or parsed.dry_run):
        shell = Path(os.environ.get("SHELL", "")).name
        console.say(
            f"commands are completed with TAB by: {completing.how(shell if shell in completing.SHELLS else 'bash')}"
        )
    return code


def check_checkout(what: str) -> None:
    """Refuse, in an installed program, what is done to this project's own files.

    :raises CheckoutNeededError: names what it is.
    """
    if INSTALLED:
        raise CheckoutNeededError(
            f"{what} needs a checkout of pyxis-matrix",
            where=str(paths.REPOSITORY),
            why="this is an installed program: nothing is written into its files, and they have no history",
            next_step="run it in a clone; versions of your own are rows of your matrix.toml",
        )


def enter(words: Sequence[str]) -> None:
    """Go on in the environment of tests, which is that of nox' sessions; it is made if it is missing.

    :param words: this program's arguments, which say which packages are named.
    :raises PyxisMatrixError: where the environment can't be made.
    """
    # A suite's packages stand behind the `--`, too; behind that of other commands are pytest's words.
    named = list(words) if words[0] == "suite" else [*words, "--"][: [*words, "--"].index("--")]
    folder = paths.cache_dir() / "venvs"
    there = Path(sys.prefix).is_relative_to(folder)  # this process is what was gone on with
    with nullcontext() if there else console.step("environment of the tests"):
        venv = packages.environment(
            folder,
            packages.SUITES_NEED,
            loading.load().subject,
            named=[word for word in named if word != "--"],
        )
    # In that environment already: this process is what the call below has started.
    if Path(sys.prefix).resolve() == venv.resolve():
        return
    python = str(venv / "bin" / "python")
    path = f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # As `activate` sets them: what tests start finds the programs of this environment.
    own = {**os.environ, "VIRTUAL_ENV": str(venv), "PATH": path}
    os.execve(python, [python, *paths.program()[1:], *words], own)  # noqa: S606 - it is to replace us
