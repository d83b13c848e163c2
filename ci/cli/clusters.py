"""Commands for a cluster to work on by hand: up, shell, logs, down."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
import os
from pathlib import Path
import sys

from ci import environment_file, paths
from ci.artefacts import candidates, checkout
from ci.engine.connection import Engine, connect
from ci.engine.labels import LABEL_CELL, LABEL_OWNER, LABEL_RUN, owner
from ci.environment import cluster, launching
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment_file import EnvironmentFile
from ci.errors import EngineError, SelectionError, typed
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.model import Matrix
from ci.options import Options
from ci.record.outcomes import Outcome
from ci.record.store import LOGS_FOLDER
from ci.session import running
from ci.session.checks import check_profile
from ci.session.record import Record
from ci.terminal import console
from ci.terminal.quantities import count


def plan_cell(name: str, matrix: Matrix, options: Options) -> EnvironmentPlan:
    """Plan the environment of a cell of the matrix, with the candidates in it that the options name."""
    cell = matrix.cell(name, Arch.host())
    chosen = candidates.read(options, matrix)
    plan = replace(plan_environment(chosen.into(cell), matrix, chosen.options), commit=checkout.of_this_program())
    check_profile(plan)
    return plan


def up(parsed: argparse.Namespace) -> int:
    """Start a cell and leave it up."""
    options = replace(Options.of(parsed), keep=True, name=paths.UP_FOLDER, plain=True, pytest=False)
    plan = plan_cell(parsed.cell, loading.load(), options)
    _, result = running.run(Record(plan=plan))
    if result.outcome is Outcome.SUCCEEDED:
        say_how_to_enter(plan)
    return result.exit_code


def shell(parsed: argparse.Namespace) -> int:
    """Enter the login node as the job user, or run a shell command there; its exit code then is ours."""
    inherited = os.environ.get(environment_file.VARIABLE)
    # Within `python -m ci run` that environment is meant.
    file = environment_file.load(inherited) if inherited and not parsed.which else _one_up(parsed.which)[1]
    engine = connect()
    home = f"/home/{file.login.user}"
    # What a login has, and nothing of the container's own: its variables would be in every job that is submitted here.
    variables = {"HOME": home, "USER": file.login.user, "LOGNAME": file.login.user, "SHELL": "/bin/bash"}
    where = ["--interactive", "--user", file.login.user, "--workdir", home]
    if parsed.command:
        facts = {"user": file.login.user, "registry": file.registry, "cell": file.cell}
        facts |= {"job-image": file.container_image, "job-image-docker": file.job_reference}
        variables |= loading.load().suite_environment.render(facts)
        # As ssh does it: the words become one line, which the shell there reads.
        what = ["-c", " ".join(parsed.command)]
    else:
        what = []
        if sys.stdin.isatty():
            # Without a terminal on this side the client refuses this option.
            where.append("--tty")
            variables["TERM"] = os.environ.get("TERM", "xterm")
        console.say(f"{file.cell}: node {file.nodes[0]}, registry {file.registry or 'none'}")
    login = [
        "env",
        "--ignore-environment",
        *(f"{name}={value}" for name, value in variables.items()),
        "bash",
        "--login",
    ]
    # The engine's own client, which knows how to hand a terminal through. The first node is the login node.
    program = [str(engine.build_client.path), "exec", *where, file.containers[0], *login, *what]
    os.execvpe(program[0], program, {**os.environ, **engine.found.environment})  # noqa: S606 - it is to replace us


def logs(parsed: argparse.Namespace) -> int:
    """Print what the daemons wrote."""
    _, file = _one_up(parsed.which)
    for name, text in _logs_of(connect(), file).items():
        sys.stdout.write(f"==> {name} <==\n{text.rstrip()}\n\n")
    return 0


def _logs_of(engine: Engine, file: EnvironmentFile) -> dict[str, str]:
    """Return the logs of an environment's nodes by their file names."""
    nodes = tuple(
        cluster.Node(hostname=hostname, container=engine.api.containers.get(name))
        for hostname, name in zip(file.nodes, file.containers, strict=True)
    )
    return cluster.collect_logs(engine, cluster.Cluster(nodes=nodes))


def down(parsed: argparse.Namespace) -> int:
    """Take environments down: the one named, all of a run, the only one, everything of one's own, or of everyone."""
    engine = connect()
    if parsed.all or parsed.everyone:
        whose = {} if parsed.everyone else {LABEL_OWNER: owner()}
        # Counted before anything is removed.
        others = _objects({name: number for name, number in engine.owners().items() if name != owner()})
        if others and parsed.everyone:
            console.say(f"also taking down {others}")
        removed = engine.reap(whose)
        if stuck := engine.left(whose):
            raise EngineError(
                f"{count(len(stuck), 'object')} could not be removed",
                where=", ".join(stuck),
                why="the engine's messages are shown above",
                next_step="repair the engine (often: restart it), and try again",
            )
        # Also the folders of runs that were killed before they wrote the environment's file.
        launching.forget_all()
        console.say(f"removed {count(len(removed), 'leftover')}" if removed else "nothing is left")
        if others and not parsed.everyone:
            console.say(f"left alone: {others}; {typed('down --everyone')} takes all of it")
        return 0
    # A run is known by what the engine has of it, too: its folder may be gone, or lie in another cache.
    if parsed.which and (parsed.which in launching.runs() or engine.left({LABEL_RUN: parsed.which})):
        _down(engine, parsed.which)
    else:
        _, file = _one_up(parsed.which)
        _down(engine, file.run, file.cell)
    return 0


def say_how_to_enter(plan: EnvironmentPlan) -> None:
    """Print how to enter an environment that stays up, and how to take it down."""
    run = plan.options.run
    file = environment_file.load(launching.state_dir(run, plan.cell.id) / launching.ENVIRONMENT_FILE)
    login = file.login
    console.say(f"{plan.cell.id} is up (run {run})")
    console.say(
        f"  over SSH:      ssh -p {login.port} -i {login.private_key} -o UserKnownHostsFile={login.known_hosts} "
        f"{login.user}@{login.host}"
    )
    if plan.options.password_file:
        console.say(f"  password:      that of {plan.options.password_file}")
    elif login.password:  # made for this run; whoever reads this has to type it
        console.say(f"  password:      {login.password}")
    if file.registry:
        names = " and ".join(filter(None, (file.registry, file.registry_name)))
        console.say(f"  registry:      {names} (http), on this machine and on the nodes")
    console.say(f"  enter it:      {typed(f'shell {run}')}")
    console.say(f"  its logs:      {typed(f'logs {run}')}")
    console.say(f"  take it down:  {typed(f'down {run}')}")


def _all_up() -> list[tuple[Path, EnvironmentFile]]:
    """Return the environments whose files can be read here, by run and cell."""
    files = [folder / launching.ENVIRONMENT_FILE for run in launching.runs() for folder in launching.state_dirs(run)]
    # Others who share the cache may have runs whose keys are not ours to read.
    return [(path.parent, environment_file.load(path)) for path in files if os.access(path, os.R_OK)]


def _one_up(which: str | None) -> tuple[Path, EnvironmentFile]:
    """Return the environment of a run or cell, whosever it is; where none is named, the one of one's own."""
    found = [
        (folder, file)
        for folder, file in _all_up()
        if (which in {file.cell, file.matrix_cell, file.run} if which else launching.is_own(folder))
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{file.cell} (run {file.run})" for _, file in _all_up())
    raise SelectionError(
        f"{len(found) or 'no'} environments are up" + (f" for {which}" if which else ""),
        why=f"up now: {known or 'none'}",
        next_step="name one by its cell or run" if found else typed("up CELL"),
    )


def _objects(owners: Mapping[str, int]) -> str:
    """Return whose how many objects are."""
    return ", ".join(
        f"{count(number, 'object')} of {name or 'unknown owner'}" for name, number in sorted(owners.items())
    )


def _down(engine: Engine, run: str, cell: str = "") -> None:
    """Take down all of a run, or one cell of it; what its daemons wrote is kept among its results.

    :raises TeardownError: naming what is left.
    """
    mine = {LABEL_RUN: run} | ({LABEL_CELL: cell} if cell else {})
    with console.step(f"taking down {cell or 'all'} of run {run}"):
        folders = launching.state_dirs(run, cell)
        # One that was killed while it started has a folder, and no file in it.
        paths_there = filter(Path.is_file, (folder / launching.ENVIRONMENT_FILE for folder in folders))
        files = [environment_file.load(path) for path in paths_there]
        # Before the containers go: the logs are read inside of them.
        for file in files:
            launching.save_logs(partial(_logs_of, engine, file), Path(file.results) / LOGS_FOLDER)
        engine.reap(mine)
        stuck = [*engine.left(mine), *(name for file in files for name in _untag(engine, file))]
    if stuck:
        raise launching.left_of(run, stuck)
    for folder in folders:
        launching.forget(run, folder.name)


def _untag(engine: Engine, file: EnvironmentFile) -> list[str]:
    """Remove the local names of what was pushed to an environment's registry; return those that are left."""
    addresses = [address for address in (file.registry, file.registry_name) if address]
    for address in addresses:
        engine.untag(f"{address}/")
    return [name for address in addresses for name in engine.names_below(f"{address}/")]
