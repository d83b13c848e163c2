"""Checks of this machine, with the fix for what is missing."""

import argparse
from collections.abc import Callable
import os

from ci.artefacts import sources
from ci.artefacts.sources import Sources
from ci.engine import emulation, host
from ci.engine.connection import connect
from ci.errors import EngineError, LaunchError, PyxisMatrixError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.mentioned import default_group
from ci.terminal import console


def examine(_: argparse.Namespace) -> int:
    """Check this machine; each line with an error has the fix."""
    failures = 0

    def check(name: str, ask: Callable[[], str]) -> None:
        nonlocal failures
        try:
            console.say(f"ok      {name}: {ask()}")
        except PyxisMatrixError as error:
            # All checks are made: a machine may lack more than one thing.
            failures += 1
            console.fail(f"{name}: {error}")

    def obstacle(found: EngineError | None) -> str:
        if found:
            raise found
        return "yes"

    def engine() -> str:
        connected = connect()
        at = connected.found
        return f"{at.kind} {at.version} at {at.url}, builds with {connected.build_client.path}"

    check("engine", engine)
    check("user namespaces", lambda: obstacle(host.user_namespaces()))
    check("FUSE device", lambda: obstacle(host.fuse()))
    check("cgroups", host.cgroups)
    for arch in (other for other in Arch if other is not Arch.host()):
        if found := emulation.obstacle(arch):  # it is not a fault if images of other architectures can't be built
            console.say(f"none    emulator for {arch} ({found.why}); only for images of {arch}: {found.next_step}")
        else:
            console.say(f"ok      emulator for {arch}: images build here, containers do not start")
    # A matrix with a fault ends the command here, with the exit code of its error.
    rows = loading.load()
    check("matrix", lambda: f"{len(rows.cells('full', Arch.host()))} cells")
    for cell in rows.cells(default_group(rows, os.environ), Arch.host()):
        if reason := sources.missing(cell, Sources.from_environment()):
            console.warn(f"{cell.id}: {reason}")
        else:
            console.say(f"ok      artefacts of {cell.id}")
    return LaunchError.exit_code if failures else 0
