"""The options of a session. Each is declared here once; `Options` holds their values.

The command lines of ``python -m ci`` and of nox' sessions (after ``--``) are both made from these declarations.
"""

# What `_option` returns is a dataclass' field.
# ruff: noqa: RUF009

import argparse
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
import os
from pathlib import Path
from typing import Any, Self

from packaging.version import Version

from ci import paths
from ci.errors import SelectionError, suite_session, typed
from ci.matrix import profile_files
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import VERSION_AXES
from ci.options import values
from ci.options.values import Origin, RunsOn

# In the metadata of a field: where its declaration is.
_KEY = "option"
_CONTAINERS = frozenset({Runtime.NVIDIA, Runtime.EMBEDDED})
_REAL = frozenset({Runtime.NVIDIA})
_WHY = {
    Runtime.LEGACY: "a legacy cell is plain Slurm, of packages: it has neither containers, GPUs nor a registry",
    Runtime.EMBEDDED: "an embedded cell has neither enroot nor Pyxis",
}
"""Why options cannot be used with a cell."""
_MOST_NODES = 16


class Scope(StrEnum):
    """What an option is about. A command offers the options of some scopes. The value is the title in its help."""

    IMAGES = "options of images"
    CLUSTER = "options of the cluster"
    RESULT = "options of the result"
    COMMAND = "options of the command"
    SUITE = "options of a suite of your own"


@dataclass(frozen=True, kw_only=True)
class _Declaration:
    scope: Scope
    help: str
    metavar: str = ""
    """Placeholder of the value in help; empty for an option without a value."""
    read: Callable[[str], object] = str
    write: Callable[[Any], str] = str
    """The reverse of ``read``."""
    flag: str = ""
    """The option's name on the command line, if it is not made from the field's name."""
    runtimes: frozenset[Runtime] = frozenset(Runtime)
    """The option is refused for cells of other runtimes."""
    variable: str = ""
    """The environment variable that says the same; sessions have it in the option's place."""


def _option(
    scope: Scope,
    help: str,  # noqa: A002 - as argparse has it
    metavar: str = "",
    read: Callable[[str], object] = str,
    *,
    default: object = None,
    **more: Any,  # noqa: ANN401 - the other fields of a declaration
) -> Any:  # noqa: ANN401 - a field of whatever type
    """Return a field that is an option; a default that is a function is called for each `Options`."""
    metadata = {_KEY: _Declaration(scope=scope, help=help, metavar=metavar, read=read, **more)}
    # A folder or a run id depends on the environment of the moment, and not on that of the import.
    given: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    return field(**given, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of all options."""

    subject: Path | None = _option(Scope.IMAGES, "a checkout to test in place of the release", "PATH", values.folder)
    mirror: Path | None = _option(
        Scope.IMAGES, "folder with upstream's releases (air-gapped sites)", "DIR", values.folder
    )
    slurm: Origin | None = _option(
        Scope.IMAGES,
        "a Slurm in place of the cell's: a source archive, or a git checkout (at a revision)",
        "PATH[@REV]",
        values.origin,
        runtimes=_CONTAINERS,
    )
    enroot: Path | None = _option(
        Scope.IMAGES,
        "a folder with the two packages of an enroot in place of the cell's",
        "DIR",
        values.folder,
        runtimes=_REAL,
    )
    pyxis: Origin | None = _option(
        Scope.IMAGES,
        "a Pyxis in place of the cell's: a git checkout (at a revision), or a source archive",
        "PATH[@REV]",
        values.origin,
        runtimes=_REAL,
    )
    answers_of: tuple[tuple[str, Version], ...] = _option(
        Scope.CLUSTER,
        "expect the answers of this version, whatever the cell's is: pyxis=0.21.0 (repeatable)",
        "AXIS=VERSION",
        values.answers,
        default=(),
        write="{0[0]}={0[1]}".format,
    )
    strict: bool = _option(
        Scope.IMAGES, "refuse what would be skipped, and release files without a known checksum", default=False
    )
    accounting: bool = _option(Scope.IMAGES, "record jobs (slurmdbd, MariaDB), so that sacct works", default=False)
    nodes: int = _option(
        Scope.CLUSTER,
        f"number of Slurm nodes, 1 to {_MOST_NODES} (default: that of matrix.toml)",
        "N",
        values.whole(1, _MOST_NODES, f"between 1 and {_MOST_NODES}"),
        default=0,
    )
    profile: str = _option(
        Scope.CLUSTER,
        f"a site's settings, laid over the nodes: {', '.join(profile_files.shipped())}, or a folder",
        "NAME|DIR",
        values.profile,
        default="",
        runtimes=_CONTAINERS,
    )
    gpus: int = _option(
        Scope.CLUSTER,
        "pass the engine's first N GPUs to each node",
        "N",
        values.whole(0, None, "a number of GPUs"),
        default=0,
        runtimes=_CONTAINERS,
    )
    registry_port: int = _option(
        Scope.CLUSTER,
        "a fixed port for the registry (default: a free one)",
        "PORT",
        values.port,
        default=0,
        runtimes=_CONTAINERS,
    )
    ssh_port: int = _option(Scope.CLUSTER, "a fixed port for SSH (default: a free one)", "PORT", values.port, default=0)
    user: str = _option(
        Scope.CLUSTER,
        "name of the job user (default: tester); created on the nodes, unless it is slurm, which exists there",
        "NAME",
        values.user,
        default="",
    )
    password_file: Path | None = _option(
        Scope.CLUSTER,
        "a file with the job user's password, that not everybody may read (default: none, or a new one)",
        "PATH",
        values.password_file,
    )
    container_name: str = _option(
        Scope.CLUSTER,
        "name of the login node's container (default: made of run and cell)",
        "NAME",
        values.container,
        default="",
    )
    registry_name: str = _option(
        Scope.CLUSTER,
        "a second host name of the registry; on this machine it has to resolve to 127.0.0.1 already",
        "NAME",
        values.host,
        default="",
        runtimes=_CONTAINERS,
    )
    base_image: tuple[str, ...] = _option(
        Scope.CLUSTER,
        "another name for the job image on the engine during the run, for a Dockerfile's FROM (repeatable)",
        "NAME",
        values.image,
        default=(),
        runtimes=_CONTAINERS,
    )
    node_package: tuple[str, ...] = _option(
        Scope.CLUSTER,
        "a package that pip finds on the nodes and in base images, beside the subject (repeatable)",
        "PACKAGE",
        values.requirement,
        default=(),
    )
    partition: tuple[str, ...] = _option(
        Scope.CLUSTER, "one more partition beside debug, the default (repeatable)", "NAME", values.partition, default=()
    )
    job_image: str = _option(
        Scope.IMAGES,
        f"what job images run on: {values.JOB_OS} (Python 3.11), or {values.NODE} (the nodes' system and its Python)",
        f"{values.JOB_OS}|{values.NODE}",
        values.job_image,
        default=values.JOB_OS,
        runtimes=_CONTAINERS,
    )
    image_package: tuple[str, ...] = _option(
        Scope.IMAGES,
        "a package to install in the job image beside the subject (repeatable)",
        "PACKAGE",
        values.requirement,
        default=(),
        runtimes=_CONTAINERS,
    )
    keep: bool = _option(Scope.CLUSTER, "leave the environment up and say how to enter it", default=False)
    run: str = _option(
        Scope.RESULT,
        f"id of the run (default: ${paths.RUN_VARIABLE}, else a new one)",
        "ID",
        values.run_id,
        default=lambda: os.environ.get(paths.RUN_VARIABLE) or paths.new_run_id(),
        variable=paths.RUN_VARIABLE,
    )
    results: Path = _option(
        Scope.RESULT,
        "where results go",
        "DIR",
        values.folder,
        default=paths.results_dir,
        variable=paths.RESULTS_VARIABLE,
    )
    name: str = _option(
        Scope.COMMAND, "name of the result folder", "NAME", values.result_name, default="command", flag="--as"
    )
    plain: bool = _option(
        Scope.COMMAND,
        "set the variables of [suite-environment] for the command; one of them is a password",
        default=False,
    )
    pytest: bool = _option(
        Scope.COMMAND, "the command is pytest: judge it by its tests, not only by its exit code", default=False
    )
    suite: Path | None = _option(
        Scope.SUITE,
        "a suite of your own in place of the session's, run in its project's folder",
        "PATH",
        values.folder,
    )
    on: RunsOn = _option(
        Scope.SUITE,
        "where the suite runs: host, or login (the login node, as the job user)",
        "host|login",
        values.runs_on,
        default=RunsOn.HOST,
    )
    beside: tuple[str, ...] = _option(
        Scope.SUITE,
        "a package to install beside the suite, pytest's plugins too (repeatable)",
        "PACKAGE",
        values.requirement,
        default=(),
        flag="--with",
    )
    env: tuple[tuple[str, str], ...] = _option(
        Scope.SUITE,
        "an environment variable for the suite, where it runs; results name it, so no password (repeatable)",
        "NAME=VALUE",
        values.variable,
        default=(),
        write="{0[0]}={0[1]}".format,
    )
    shell_command: str = _option(
        Scope.SUITE,
        "run this shell command in the suite's folder in place of pytest; its exit code decides (bash, pipefail)",
        "COMMAND",
        default="",
        flag="--command",
    )

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """Return what a parser made by `add_to` has read; options that it does not have keep their defaults."""
        # argparse collects what is repeatable in lists; only as a tuple it can be equal to its default.
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in vars(parsed).items()
        }
        return cls(**{option.name: given[option.name] for option in fields(cls) if option.name in given})

    @property
    def unreleased(self) -> tuple[str, ...]:
        """The axes on which they name something unreleased."""
        return tuple(axis for axis in VERSION_AXES if getattr(self, axis))

    def folder(self, cell: Cell) -> Path:
        """Return the result folder on a cell: ``results/RUN/CELL/NAME``."""
        return self.results / self.run / cell.id / self.name

    def words(self, *scopes: Scope) -> list[str]:
        """Return the options of these scopes that differ from their defaults, as command line arguments."""
        words: list[str] = []
        for option, declared in _declared(scopes):
            value = getattr(self, option.name)
            # The run and the results folder have a function as default, so they are always handed on.
            if value == option.default:
                continue
            for each in value if isinstance(value, tuple) else (value,):
                words += _words(_flag(option), declared.write(each)) if declared.metavar else [_flag(option)]
        return words

    def check(self, cell: Cell) -> None:
        """Refuse options that cannot be used with the cell.

        :raises SelectionError: for such options; the text names them.
        """
        if self.on is RunsOn.LOGIN and not self.suite:
            raise SelectionError(
                "--on login has no suite to run",
                why="what runs on the login node is copied there first",
                next_step=suite_session("suite", "CELL", "PATH --on login"),
            )
        wrong = [
            _flag(option)
            for option, declared in _declared(tuple(Scope))
            # Only what was given: a default holds for every cell.
            if cell.runtime not in declared.runtimes and getattr(self, option.name) != option.default
        ]
        if wrong:
            raise SelectionError(
                f"{' and '.join(wrong)} cannot be used with {cell.id}",
                why=_WHY[cell.runtime],
                next_step=f"leave it out, or take a container cell: {typed('cells')}",
            )


def add_to(parser: argparse.ArgumentParser, *scopes: Scope) -> None:
    """Add the options of some scopes to a parser."""
    for scope in scopes:
        group = parser.add_argument_group(scope.value)
        for option, declared in _declared((scope,)):
            default: Any = option.default if option.default_factory is MISSING else option.default_factory()
            if declared.metavar:
                group.add_argument(
                    _flag(option),
                    dest=option.name,
                    # A tuple as default is what makes an option repeatable.
                    action="append" if isinstance(default, tuple) else "store",
                    # A default that is text is read like a value; one that is empty would be refused.
                    default=default or argparse.SUPPRESS if isinstance(default, str | tuple) else default,
                    type=declared.read,
                    metavar=declared.metavar,
                    help=declared.help,
                )
            else:
                group.add_argument(_flag(option), dest=option.name, action="store_true", help=declared.help)
        if scope is Scope.CLUSTER:  # as it was once written; argparse would take it for the beginning of another one
            group.add_argument(
                "--password", type=values.visible_password, default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )


def flags(*scopes: Scope) -> list[str]:
    """Return the names of the options of some scopes, as they stand on the command line."""
    return [_flag(option) for option, _ in _declared(scopes)]


def variable(flag: str) -> str:
    """Return the environment variable that says the same as an option; empty if there is none."""
    return next((declared.variable for option, declared in _declared(tuple(Scope)) if _flag(option) == flag), "")


def _declared(scopes: Collection[Scope]) -> list[tuple[Field[Any], _Declaration]]:
    pairs = [(option, option.metadata[_KEY]) for option in fields(Options)]
    return [(option, declared) for option, declared in pairs if declared.scope in scopes]


def _flag(option: Field[Any]) -> str:
    declared: _Declaration = option.metadata[_KEY]
    return declared.flag or f"--{option.name.replace('_', '-')}"


def _words(flag: str, value: str) -> list[str]:
    # As a word of its own, a value that begins with a dash would be read as an option.
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
