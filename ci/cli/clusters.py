"""Commands for a cluster to work on by hand: up, shell, logs, down."""

import argparse
from dataclasses import replace
import os
from pathlib import Path
import sys

from ci import environment_file, paths
from ci.artefacts import candidates
from ci.engine.connection import LABEL_CELL, LABEL_RUN, Engine, connect, left
from ci.environment import cluster, launching
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment_file import EnvironmentFile
from ci.errors import EngineError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.model import Matrix
from ci.options import Options
from ci.results.outcomes import Outcome
from ci.session import running
from ci.terminal import console


def plan_asked(name: str, matrix: Matrix, options: Options) -> EnvironmentPlan:
    """Plan the environment of a cell of the matrix, with the candidates in it that the options name."""
    cell = matrix.cell(name, Arch.host())
    options.check(cell)
    put = candidates.read(options, matrix)
    return plan_environment(put.into(cell), matrix, put.options)


def up(asked: argparse.Namespace) -> int:
    """Start a cell and leave it up."""
    options = replace(Options.of(asked), keep=True, name="up", plain=True, pytest=False)
    plan = plan_asked(asked.cell, loading.load(), options)
    _, result = running.run(plan, [])
    if result.outcome is Outcome.SUCCEEDED:
        say_how_to_enter(plan)
    return result.exit_code


def shell(asked: argparse.Namespace) -> int:
    """Enter the login node as the job user, or run a shell command there; its exit code then is ours."""
    inherited = os.environ.get(environment_file.VARIABLE)
    # Within `python -m ci run` that environment is meant.
    file = environment_file.load(inherited) if inherited and not asked.which else _one_up(asked.which)[1]
    engine = connect()
    user = ["--user", file.login.user, "--workdir", f"/home/{file.login.user}"]
    if asked.command:
        facts = {"user": file.login.user, "registry": file.registry, "job-image": file.job_reference, "cell": file.cell}
        told = loading.load().suite_environment.render(facts)
        where = [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
        what = ["-c", " ".join(asked.command)]
    else:
        where, what = ["--interactive", *(["--tty"] if sys.stdin.isatty() else [])], []
        console.say(f"{file.cell}: node {file.nodes[0]}, registry {file.registry or 'none'}")
    program = [str(engine.build_client.path), "exec", *where, *user, file.containers[0], "bash", "--login", *what]
    os.execvpe(program[0], program, {**os.environ, **engine.found.environment})  # noqa: S606 - it is to replace us


def logs(asked: argparse.Namespace) -> int:
    """Print what the daemons wrote."""
    _, file = _one_up(asked.which)
    engine = connect()
    nodes = tuple(
        cluster.Node(hostname=hostname, container=engine.api.containers.get(name))
        for hostname, name in zip(file.nodes, file.containers, strict=True)
    )
    for name, text in cluster.collect_logs(engine, cluster.Cluster(nodes=nodes)).items():
        sys.stdout.write(f"==> {name} <==\n{text.rstrip()}\n\n")
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
                why="the engine's messages are shown above",
                next_step="repair the engine (often: restart it), and try again",
            )
        # Also the folders of runs that were killed before they wrote the environment's file.
        launching.forget_all()
        console.say(f"removed {len(removed)} leftovers" if removed else "nothing is left")
        return 0
    folder, file = _one_up(asked.which)
    _down(engine, folder, file)
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
    if login.password:  # made for this run, or chosen by whoever reads this
        console.say(f"  password:      {login.password}")
    if file.registry:
        names = " and ".join(filter(None, (file.registry, file.registry_name)))
        console.say(f"  registry:      {names} (http), on this machine and on the nodes")
    console.say(f"  enter it:      python -m ci shell {run}")
    console.say(f"  its logs:      python -m ci logs {run}")
    console.say(f"  take it down:  python -m ci down {run}")


def _all_up() -> list[tuple[Path, EnvironmentFile]]:
    """Return the environments whose files are on this machine, oldest first."""
    found = sorted((paths.cache_dir() / "environments").glob(f"*/*/{launching.ENVIRONMENT_FILE}"))
    return [(path.parent, environment_file.load(path)) for path in found]


def _one_up(which: str | None) -> tuple[Path, EnvironmentFile]:
    found = [(folder, file) for folder, file in _all_up() if which in (None, file.cell, file.matrix_cell, file.run)]
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
        for registry in filter(None, (file.registry, file.registry_name)):
            engine.untag(f"{registry}/")
        launching.forget(file.run, folder.name)
