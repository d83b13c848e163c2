"""What each command of ``python -m ci`` does; every function returns an exit code."""

import argparse
from collections.abc import Callable
from contextlib import suppress
import json
import os
from pathlib import Path
import secrets
import sys

from rich.console import Console as RichConsole
from rich.table import Table

from ci import environment_file, paths
from ci.artefacts import sources
from ci.artefacts.sources import Sources
from ci.engine import host
from ci.engine.connection import LABEL_CELL, LABEL_RUN, Engine, connect, left
from ci.environment import cluster, launching
from ci.environment_file import EnvironmentFile
from ci.errors import ArtefactError, EngineError, LaunchError, PyxisMatrixError, SelectionError
from ci.images import building as image_builds
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.asked import default_group
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.results import report as reports
from ci.results import store
from ci.results.outcomes import Outcome
from ci.session import running
from ci.terminal import console


def cells(asked: argparse.Namespace) -> int:
    """Print the ids of a group, one per line, or everything about its cells as JSON."""
    rows = loading.load()
    if asked.excluded:
        for left_out in rows.excluded():
            _print(f"{left_out.cell.id}\t{left_out.reason}" + (f"\t{left_out.issue}" if left_out.issue else ""))
        return 0
    chosen = rows.cells(asked.group or default_group(rows, os.environ), Arch.host())
    if asked.json:
        _print(json.dumps([cell.as_json() for cell in chosen], indent=2))
    else:
        for cell in chosen:
            _print(cell.id)
    return 0


def images(asked: argparse.Namespace) -> int:
    """Build the images of cells and print, per image, whether it was built or reused, its seconds and its size."""
    rows = loading.load()
    host = Arch.host()
    if asked.cells:
        chosen = tuple(rows.cell(name, host) for name in asked.cells)
    else:
        group = rows.cells(asked.group or default_group(rows, os.environ), host)
        chosen = tuple(cell for cell in group if cell.arch is host)
        if left := len(group) - len(chosen):
            console.say(f"{left} cells of another architecture are left to an engine of their own")
    where = Sources.from_environment(asked.mirror)
    engine = connect()
    builder = image_builds.Builder(engine, logs=asked.results / asked.run / "images")
    lacking: list[str] = []
    for cell in chosen:
        if reason := sources.missing(cell, where):
            lacking.append(f"{cell.id}: {reason}")
            console.warn(lacking[-1])
            continue
        with console.step(f"images of {cell.id}"):
            launching.prepare(
                engine,
                builder,
                cell,
                what=rows.subject,
                checkout=asked.subject,
                where=where,
                with_accounting=asked.accounting or cell.slurm.accounting,
            )
    _print_images(builder)
    if lacking:
        raise ArtefactError(
            f"{len(lacking)} of {len(chosen)} cells could not be built",
            why="; ".join(lacking),
            next_step="give a mirror with --mirror DIR or PYXIS_MATRIX_MIRROR, or build the other cells by name",
        )
    return 0


def run(asked: argparse.Namespace) -> int:
    """Start a cell, run a command against it, take it down, and show the summary."""
    if not asked.command:
        raise SelectionError(
            "there is no command to run",
            next_step=f"python -m ci run {asked.cell} -- COMMAND, or python -m ci up {asked.cell}",
        )
    rows = loading.load()
    cell = rows.cell(asked.cell, Arch.host())
    code, result = running.run(cell, rows, _request(asked, rows, cell), asked.command)
    with suppress(OSError):  # nobody reads any more; what came of it stands in the exit code and the result
        reports.show([result], stream=sys.stderr, root=asked.results / asked.run)
    if asked.keep:
        _say_how_to_enter(result.run, cell)
    return code


def up(asked: argparse.Namespace) -> int:
    """Start a cell and leave it up."""
    asked.keep, asked.suite, asked.plain, asked.pytest = True, "up", True, False
    rows = loading.load()
    cell = rows.cell(asked.cell, Arch.host())
    _, result = running.run(cell, rows, _request(asked, rows, cell), [])
    if result.outcome is Outcome.PASSED:
        _say_how_to_enter(result.run, cell)
    return result.exit_code


def shell(asked: argparse.Namespace) -> int:
    """Enter the login node as the job user."""
    folder, file = _one_up(asked.which)
    engine = connect()
    where = ["--interactive", *(["--tty"] if sys.stdin.isatty() else [])]
    user = ["--user", file.login.user, "--workdir", f"/home/{file.login.user}"]
    console.say(f"{file.cell}: node {file.nodes[0]}, registry {file.registry or 'none'}; files in {folder}")
    command = [str(engine.build_client.path), "exec", *where, *user, file.containers[0], "bash", "--login"]
    os.execvpe(command[0], command, {**os.environ, **engine.found.environment})  # noqa: S606 - it is to replace us


def logs(asked: argparse.Namespace) -> int:
    """Print what the daemons wrote."""
    _, file = _one_up(asked.which)
    engine = connect()
    nodes = tuple(
        cluster.Node(hostname=hostname, container=engine.api.containers.get(name))
        for hostname, name in zip(file.nodes, file.containers, strict=True)
    )
    for name, text in cluster.collect_logs(engine, cluster.Cluster(nodes=nodes)).items():
        _print(f"==> {name} <==\n{text.rstrip()}\n")
    return 0


def down(asked: argparse.Namespace) -> int:
    """Take environments down: the one named, the only one, or everything with this project's label."""
    engine = connect()
    if asked.all:
        removed = engine.reap()
        if stuck := left(engine.api):
            raise EngineError(
                f"{len(stuck)} objects could not be removed",
                where=", ".join(stuck),
                why="what the engine said stands above",
                next_step="mend the engine (often: restart it), and try again",
            )
        # Also those whose run was killed before it could write what is in it.
        launching.forget_all()
        console.say(f"removed {len(removed)} leftovers" if removed else "nothing is left")
        return 0
    folder, file = _one_up(asked.which)
    _down(engine, folder, file)
    return 0


def report(asked: argparse.Namespace) -> int:
    """Show a run's results."""
    folder = paths.results_dir() / asked.run if asked.run else store.latest_run(paths.results_dir())
    reports.report(folder, format=reports.Format(asked.format), stream=sys.stdout)
    return 0


def pins(asked: argparse.Namespace) -> int:
    """Record the checksums of artefacts as upstream serves them now."""
    rows = loading.load()
    written = sources.write_pins(rows.cells(asked.group, Arch.host()), Sources.from_environment())
    for label in ("added", "changed", "unchanged"):
        console.say(f"{label}: {len(getattr(written, label))}")
    for path, why in (written.kept | written.unpinned).items():
        console.warn(f"{path}: {why}")
    if written.unpinned:
        raise ArtefactError(
            f"{len(written.unpinned)} artefacts could not be pinned",
            where=str(paths.PINS_FILE),
            why="upstream can't be asked from here",
            next_step="run `nox -s pins` where upstream is reachable, and commit the file",
        )
    return 0


def doctor(_: argparse.Namespace) -> int:
    """Check what this machine offers; every line that is not right says how to mend it."""
    failures = 0

    def check(name: str, ask: Callable[[], str]) -> None:
        nonlocal failures
        try:
            console.say(f"ok      {name}: {ask()}")
        except PyxisMatrixError as error:
            failures += 1
            console.fail(f"{name}: {error}")

    def obstacle(found: host.Obstacle | None) -> str:
        if found:
            raise LaunchError(found.what, where=found.where, why=found.why, next_step=found.fix)
        return "yes"

    def engine() -> str:
        found = connect()
        return f"{found.found.kind} {found.found.version} at {found.found.url}, builds with {found.build_client.path}"

    check("engine", engine)
    check("user namespaces", lambda: obstacle(host.user_namespaces()))
    check("FUSE device", lambda: obstacle(host.fuse()))
    check("matrix", lambda: f"{len(loading.load().cells('full', Arch.host()))} cells")
    rows = loading.load()
    for cell in rows.cells(default_group(rows, os.environ), Arch.host()):
        if reason := sources.missing(cell, Sources.from_environment()):
            console.warn(f"{cell.id}: {reason}")
        else:
            console.say(f"ok      artefacts of {cell.id}")
    return LaunchError.exit_code if failures else 0


def _request(asked: argparse.Namespace, rows: Matrix, cell: Cell) -> running.Request:
    if cell.runtime is Runtime.LEGACY and (asked.gpus or asked.registry_port):
        raise SelectionError(
            f"{cell.id} has neither GPUs nor a registry",
            why="a legacy cell is plain Slurm, with a configuration that is kept unchanged",
            next_step="leave --gpus and --registry-port out, or take a container cell: `python -m ci cells`",
        )
    checkout = asked.subject.expanduser().absolute() if asked.subject else None
    return running.Request(
        run=asked.run,
        suite=asked.suite,
        results=asked.results.absolute(),
        nodes=asked.nodes or rows.defaults.nodes,
        registry_port=asked.registry_port,
        ssh_port=asked.ssh_port,
        accounting=asked.accounting or cell.slurm.accounting,
        gpus=asked.gpus,
        checkout=checkout,
        mirror=asked.mirror,
        keep=asked.keep,
        password=secrets.token_urlsafe(16) if asked.plain else "",
        plain=asked.plain,
        pytest=asked.pytest,
    )


def _all_up() -> list[tuple[Path, EnvironmentFile]]:
    """Return the environments that left their keys on this machine, oldest first."""
    found = sorted((paths.cache_dir() / "environments").glob(f"*/*/{launching.ENVIRONMENT_FILE}"))
    return [(path.parent, environment_file.load(path)) for path in found]


def _one_up(which: str | None) -> tuple[Path, EnvironmentFile]:
    found = [(folder, file) for folder, file in _all_up() if which in (None, file.cell, file.run)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{file.cell} (run {file.run})" for _, file in _all_up())
    raise SelectionError(
        f"{len(found) or 'no'} environments are up" + (f" for {which}" if which else ""),
        why=f"up now: {known or 'none'}",
        next_step="name one by its cell or run" if found else "python -m ci up CELL",
    )


def _down(engine: Engine, folder: Path, file: EnvironmentFile) -> None:
    with console.step(f"taking down {file.cell} (run {file.run})"):
        engine.reap({LABEL_RUN: file.run, LABEL_CELL: file.cell})
        if file.registry:
            engine.untag(f"{file.registry}/")
        launching.forget(file.run, folder.name)


def _say_how_to_enter(run_id: str, cell: Cell) -> None:
    console.say(f"{cell.id} is up (run {run_id})")
    console.say(f"  enter it:      python -m ci shell {run_id}")
    console.say(f"  its logs:      python -m ci logs {run_id}")
    console.say(f"  take it down:  python -m ci down {run_id}")


def _print_images(builder: image_builds.Builder) -> None:
    table = Table("image", "variant", "", "seconds", "MB", box=None, header_style="bold")
    for built in builder.done.values():
        made = "built" if built.built else "reused"
        table.add_row(built.plan.folder, built.plan.variant, made, f"{built.seconds:.1f}", f"{built.size / 1e6:.0f}")
    # Not cut where there is no terminal whose width would be a reason.
    RichConsole(width=None if sys.stdout.isatty() else 160).print(table)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
