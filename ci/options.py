"""The options of a session. Each is declared here once; `Options` holds their values.

The command lines of ``python -m ci`` and of nox' sessions (after ``--``) are both made from these declarations.
"""

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, dataclass, field, fields
import difflib
from enum import StrEnum
import os
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any, Self

from ci import paths
from ci.errors import SelectionError
from ci.matrix.cells import Cell, Runtime

if TYPE_CHECKING:
    from dataclasses import Field

RUN_VARIABLE = "PYXIS_MATRIX_RUN"
"""Environment variable with the id of the run that a session belongs to."""

_KEY = "option"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_CONTAINERS = frozenset({Runtime.NVIDIA, Runtime.EMBEDDED})
_MOST_NODES = 16
_MOST_PORT = 65535
# Words less similar than this are not taken for a typing mistake; pytest's --strict-config is 0.7 like our --strict.
_NEAR = 0.8


class Scope(StrEnum):
    """What an option is about. A command offers the options of some scopes. The value is the title in its help."""

    IMAGES = "options of images"
    CLUSTER = "options of the cluster"
    RESULT = "options of the result"
    COMMAND = "options of the command"
    NOX = "options of a nox session"


@dataclass(frozen=True, kw_only=True)
class _Declaration:
    scope: Scope
    help: str
    metavar: str = ""
    """Placeholder of the value in help; empty for an option without a value."""
    read: Callable[[str], object] = str
    flag: str = ""
    """The option's name on the command line, if it is not made from the field's name."""
    runtimes: frozenset[Runtime] = frozenset(Runtime)
    """The option is refused for cells of other runtimes."""


def _whole(least: int, most: int | None, what: str) -> Callable[[str], int]:
    """Return a reader of whole numbers between two bounds, both included."""

    def number(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{value} is not {what}")
        return value

    return number


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _run_id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a run id: up to 60 of letters, digits, '.', '_' and '-'")
    return text


_port = _whole(0, _MOST_PORT, "a port")


def _declare(scope: Scope, help: str, **more: Any) -> dict[str, _Declaration]:  # noqa: A002, ANN401 - as argparse has it
    """Return the metadata of a field that is an option."""
    return {_KEY: _Declaration(scope=scope, help=help, **more)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of all options."""

    subject: Path | None = field(
        default=None,
        metadata=_declare(Scope.IMAGES, "a checkout to test in place of the release", metavar="PATH", read=_folder),
    )
    mirror: Path | None = field(
        default=None,
        metadata=_declare(
            Scope.IMAGES, "folder with upstream's releases (air-gapped sites)", metavar="DIR", read=_folder
        ),
    )
    accounting: bool = field(
        default=False, metadata=_declare(Scope.IMAGES, "record jobs (slurmdbd, MariaDB), so that sacct works")
    )
    nodes: int = field(
        default=0,
        metadata=_declare(
            Scope.CLUSTER,
            f"number of Slurm nodes, 1 to {_MOST_NODES} (default: that of matrix.toml)",
            metavar="N",
            read=_whole(1, _MOST_NODES, f"between 1 and {_MOST_NODES}"),
        ),
    )
    gpus: int = field(
        default=0,
        metadata=_declare(
            Scope.CLUSTER,
            "pass the engine's first N GPUs to each node",
            metavar="N",
            read=_whole(0, None, "a number of GPUs"),
            runtimes=_CONTAINERS,
        ),
    )
    registry_port: int = field(
        default=0,
        metadata=_declare(
            Scope.CLUSTER,
            "a fixed port for the registry (default: a free one)",
            metavar="PORT",
            read=_port,
            runtimes=_CONTAINERS,
        ),
    )
    ssh_port: int = field(
        default=0,
        metadata=_declare(Scope.CLUSTER, "a fixed port for SSH (default: a free one)", metavar="PORT", read=_port),
    )
    keep: bool = field(
        default=False, metadata=_declare(Scope.CLUSTER, "leave the environment up and say how to enter it")
    )
    run: str = field(
        default_factory=lambda: os.environ.get(RUN_VARIABLE) or paths.new_run_id(),
        metadata=_declare(
            Scope.RESULT, f"id of the run (default: ${RUN_VARIABLE}, else a new one)", metavar="ID", read=_run_id
        ),
    )
    results: Path = field(
        default_factory=paths.results_dir,
        metadata=_declare(Scope.RESULT, "where results go", metavar="DIR", read=_folder),
    )
    name: str = field(
        default="command", metadata=_declare(Scope.COMMAND, "name of the result folder", metavar="NAME", flag="--as")
    )
    plain: bool = field(
        default=False,
        metadata=_declare(
            Scope.COMMAND,
            "set the variables of [suite-environment] for the command; one of them is a password",
        ),
    )
    pytest: bool = field(
        default=False,
        metadata=_declare(Scope.COMMAND, "the command is pytest: judge it by its tests, not only by its exit code"),
    )
    suite: Path | None = field(
        default=None,
        metadata=_declare(
            Scope.NOX, "run this suite of your own (legacy_integration only)", metavar="PATH", read=_folder
        ),
    )
    suite_cell: str = field(
        default="",
        metadata=_declare(Scope.NOX, "the cell to run your own suite on", metavar="CELL", flag="--cell"),
    )
    strict: bool = field(default=False, metadata=_declare(Scope.NOX, "a cell that would be skipped is an error"))

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """Return what a parser made by `add_to` has read; options that it does not have keep their defaults."""
        given = vars(parsed)
        return cls(**{it.name: given[it.name] for it in fields(cls) if it.name in given})

    def folder(self, cell: Cell) -> Path:
        """Return the result folder on a cell: ``results/RUN/CELL/NAME``."""
        return self.results / self.run / cell.id / self.name

    def words(self, *scopes: Scope) -> list[str]:
        """Return the options of these scopes that differ from their defaults, as command line arguments."""
        words: list[str] = []
        for it, declared in _declared(scopes):
            value = getattr(self, it.name)
            if value != it.default:
                words += [_flag(it), str(value)] if declared.metavar else [_flag(it)]
        return words

    def check(self, cell: Cell) -> None:
        """Refuse options that do not fit the cell.

        :raises SelectionError: for such options; the text names them.
        """
        wrong = [
            _flag(it)
            for it, declared in _declared(tuple(Scope))
            if cell.runtime not in declared.runtimes and getattr(self, it.name) != it.default
        ]
        if wrong:
            raise SelectionError(
                f"{' and '.join(wrong)} does not fit {cell.id}",
                why="a legacy cell is plain Slurm: it has neither containers, GPUs nor a registry",
                next_step="leave it out, or take a container cell: python -m ci cells",
            )


def add_to(parser: argparse.ArgumentParser, *scopes: Scope) -> None:
    """Add the options of some scopes to a parser."""
    for scope in scopes:
        group = parser.add_argument_group(scope.value)
        for it, declared in _declared((scope,)):
            default = it.default if it.default_factory is MISSING else it.default_factory()
            if declared.metavar:
                group.add_argument(
                    _flag(it),
                    dest=it.name,
                    default=default,
                    type=declared.read,
                    metavar=declared.metavar,
                    help=declared.help,
                )
            else:
                group.add_argument(_flag(it), dest=it.name, action="store_true", help=declared.help)


_BEHIND_NOX = (Scope.IMAGES, Scope.CLUSTER, Scope.NOX)


def split(posargs: Sequence[str]) -> tuple[Options, list[str]]:
    """Split the arguments after ``--`` on nox' command line into our options and pytest's arguments.

    :raises SelectionError: for a misspelt option of ours, such as ``--node``.
    """
    parser = _nox_parser()
    parsed, rest = parser.parse_known_args(list(posargs))
    words = [word for word in rest if word != "--"]
    _refuse_slips(words, [_flag(it) for it, _ in _declared(_BEHIND_NOX)])
    return Options.of(parsed), words


def nox_help() -> str:
    """Return the help on our options of a nox session."""
    return _nox_parser().format_help()


def _nox_parser() -> argparse.ArgumentParser:
    # Without abbreviations, so that no option of pytest is taken for one of ours.
    parser = argparse.ArgumentParser(
        prog="nox -s SESSION --",
        usage="nox -s SESSION -- [options] [pytest's options]",
        allow_abbrev=False,
        add_help=False,
    )
    add_to(parser, *_BEHIND_NOX)
    return parser


def _refuse_slips(words: Sequence[str], flags: Collection[str]) -> None:
    for word in words:
        name = word.partition("=")[0]
        near = difflib.get_close_matches(name, flags, n=1, cutoff=_NEAR) if name.startswith("--") else []
        if near:
            raise SelectionError(
                f"unknown option {name}; did you mean {near[0]}?",
                where=f"behind -- on nox' command line: {' '.join(words)}",
                next_step="nox -s pyxis_basic -- --help lists the options",
            )


def _declared(scopes: Collection[Scope]) -> "list[tuple[Field[Any], _Declaration]]":
    pairs = [(it, it.metadata[_KEY]) for it in fields(Options)]
    return [(it, declared) for it, declared in pairs if declared.scope in scopes]


def _flag(it: "Field[Any]") -> str:
    declared: _Declaration = it.metadata[_KEY]
    return declared.flag or f"--{it.name.replace('_', '-')}"
