"""Checks before anything is built: problems that would make a later step fail, with the command that fixes them."""

from collections.abc import Sequence
from contextlib import suppress
import re
import shlex
import sys

from ci.engine import host
from ci.engine.connection import Engine
from ci.environment.plan import EnvironmentPlan
from ci.errors import DiskFullError, ResultsError, SelectionError
from ci.matrix import pytest_words
from ci.matrix.cells import Cell, Runtime
from ci.options.inputs import OwnSuite, check_localhost, check_open_to_jobs, check_registry_name
from ci.record import store
from ci.session.arguments import by_variable
from ci.terminal import console

# With less free space, a build was seen to fail halfway.
_LEAST_FREE_BYTES = 3 * 1024**3


def check_names(plan: EnvironmentPlan) -> None:
    """Refuse a checkout that jobs can't read, and host names that do not mean this machine's loopback.

    :raises EngineError, SelectionError, SubjectError: with what to do.
    """
    options = plan.options
    if options.subject:
        check_open_to_jobs(options.subject)
    if plan.images.registry:
        check_localhost()
    if options.registry_name:
        check_registry_name(options.registry_name)


def check_profile(plan: EnvironmentPlan) -> None:
    """Refuse a profile if its run has results of another profile with the same name: their cells have the same ids.

    :raises SelectionError: before any of these results is replaced.
    """
    if not (profile := plan.profile):
        return
    options = plan.options
    for path in (options.results / options.run).glob(f"*+{profile.name}/*/{store.RESULT_FILE}"):
        with suppress(ResultsError):  # an unreadable result names no profile
            earlier = store.load(path).versions.get("profile", profile.label)
            if earlier != profile.label:
                raise SelectionError(
                    f"the run {options.run} has results of another profile {profile.name}",
                    where=str(path),
                    why=f"its files were not those of {profile.folder}, and cells of both have the same ids",
                    next_step="leave PYXIS_MATRIX_RUN and --run out to begin a run of its own, or rename the folder",
                )


def check_options(suite: OwnSuite, command: Sequence[str]) -> None:
    """Refuse options that pytest does not know in the suite's project, before anything is built for it.

    :raises SelectionError: naming them.
    """
    # Behind `pytest TESTS`.
    if not pytest_words.unknown(command[2:]):
        return
    said = console.call([*command, "--markers"], cwd=suite.project).output  # parses all options, and collects no test
    # argparse's words, which pytest passes on: "pytest: error: unrecognized arguments: --slo".
    if found := re.search("error: unrecognized arguments: (.*)", said):
        raise SelectionError(
            f"unknown option {found[1]}",
            where=shlex.join(command),
            why="it is neither an option of a session nor one of pytest with the suite's plugins",
            next_step=by_variable(found[1].split()) or "correct it, or install the plugin that has it: --with PACKAGE",
        )


def check_host(engine: Engine, cell: Cell) -> None:
    """Refuse a host without user namespaces, without FUSE, or without room for a cell.

    :raises DiskFullError, EngineError: with the command that fixes it.
    """
    # It is a path on the engine's machine, and tells something only where that is this one.
    if engine.found.data_root and engine.found.local:
        free = host.free_bytes(engine.found.data_root)
        if free < _LEAST_FREE_BYTES:
            raise DiskFullError(
                f"only {free / 1024**3:.1f} GiB are free where the engine keeps its images",
                where=str(engine.found.data_root),
                why=f"a cell needs about {_LEAST_FREE_BYTES / 1024**3:.0f} GiB",
                next_step="docker image prune --all --filter label=pyxis-matrix, or free the disk otherwise",
            )
    # Elsewhere than on Linux the engine runs in a virtual machine, whose kernel is not seen from here.
    if cell.runtime is Runtime.LEGACY or not engine.found.local or sys.platform != "linux":
        return
    for obstacle in filter(None, (host.user_namespaces(), host.fuse())):
        raise obstacle
