"""What commands of comparisons need that no command of a person does: ``python -m tests.bench.sides VERB …``."""

import argparse
import json
import os
from pathlib import Path
import secrets
import shlex
import subprocess
import sys
import time
from urllib.parse import urlsplit

from ci import environment_file, paths
from ci.engine.connection import connect
from ci.environment import ssh
from ci.environment.plan import plan_environment
from ci.errors import ResultsError
from ci.images.building import Builder, sources_of
from ci.images.plan import job_os, mirror
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.options import Options, Scope, add_to
from ci.record.outcomes import Outcome
from ci.report import finding
from ci.report.finding import FoundResult
from tests.bench import bare
from tests.support import first_job
from tests.support.program import guarded

_JOBS = 5
_FRESH = "fresh"


def main() -> int:
    """Do what a verb says; return an exit code."""
    parser = argparse.ArgumentParser()
    verbs = {verb.__name__: verb for verb in (answers, bare_commands, fresh, forget, jobs, node)}
    parser.add_argument("verb", choices=verbs)
    add_to(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)
    arguments = parser.parse_args()
    return guarded(lambda: verbs[arguments.verb](Options.of(arguments)) or 0, "what a side asked of it")


def bare_commands(options: Options) -> None:
    """Print the cell's cluster as commands of the docker client."""
    engine, matrix = connect(), loading.load()
    plan = plan_environment(matrix.cell(os.environ["CELL"], Arch.host()), matrix, options)
    images = Builder(engine, sources_of(options), logs=options.results / "images").build(plan.images)
    sys.stdout.write(bare.script(engine, plan, images, options.results))


def node(_options: Options) -> None:
    """Print functions of bash for the first node of the environment that is up: as_root COMMAND, job."""
    file = environment_file.current()
    inside = [file.engine_client, "exec", "--user"]
    variables = [f"export {name}={shlex.quote(value)}" for name, value in file.engine_environment.items()]
    run = shlex.join([*inside, "root", file.containers[0], "bash", "-c"])
    job = shlex.join([*inside, file.login.user, file.containers[0], "bash", "-lc", f"cd && {first_job.command(file)}"])
    lines = ["CONF=/etc/enroot/enroot.conf.d/50-node.conf", f'as_root() {{ {run} "$1"; }}', f"job() {{ {job}; }}"]
    sys.stdout.write("\n".join([*variables, *lines]) + "\n")


def jobs(_options: Options) -> None:
    """Run jobs in the environment that `run` hands to its command."""
    file = environment_file.current()
    with ssh.connect(file.login) as connection:
        for _ in range(_JOBS):
            first_job.run(file, connection)


def fresh(options: Options) -> None:
    """Print an address of Debian's packages that no image was built from yet, and note it.

    Names of hosts may be written in capitals, and another address is another image.
    """
    address = urlsplit(mirror(job_os().family))
    host = "".join(secrets.choice((letter.lower(), letter.upper())) for letter in address.netloc)
    with (options.results / _FRESH).open("a", encoding="utf-8") as file:
        for stream in (file, sys.stdout):
            stream.write(f"{address._replace(netloc=host).geturl()}\n")


def forget(options: Options) -> None:
    """Remove the images that were built from fresh addresses."""
    engine, matrix, noted = connect(), loading.load(), options.results / _FRESH
    cells = [matrix.cell(cell) for name in ("VARIANT_CELLS", "COMPILED_CELLS") for cell in os.environ[name].split()]
    for address in noted.read_text(encoding="utf-8").splitlines() if noted.exists() else ():
        os.environ[job_os().family.mirror_variable] = address
        builder = Builder(engine, sources_of(options), logs=options.results / "images")
        for cell in cells:
            for image in plan_environment(cell, matrix, options).images.all():
                builder.has(image)
        for built in reversed(builder.done):
            if "registry:2" not in built.plan.pulled_as:
                engine.untag_exactly(built.tag)
    noted.unlink(missing_ok=True)


def answers(options: Options) -> int:
    """Run the first of the suites on cells of compiled Slurms, and note when the first one had its answer.

    The other side has built all images before.
    """
    folder, cells, side = options.results, os.environ["COMPILED_CELLS"].split(), os.environ["SIDE"]
    run = f"{options.run}-{side}"
    words = [*cells, *options.words(Scope.IMAGES, Scope.CLUSTER), "--run", run, "--results", str(folder)]
    commands = [["images", *words]] if side == "other" else []
    began = time.time()
    for command in (*commands, ["matrix", *words, "--suite", os.environ["SUITE"], "--quiet"]):
        full = [sys.executable, "-m", "ci", *command]
        if status := subprocess.run(full, cwd=paths.REPOSITORY, check=False).returncode:
            return status
    results = [found.result for found in finding.find([folder / run]) if isinstance(found, FoundResult)]
    answered = [result for result in results if result.outcome is Outcome.PASSED]
    if len(answered) < len(cells):
        raise ResultsError(f"{len(answered)} of {len(cells)} cells have an answer", where=str(folder / run))
    first = min(result.started.timestamp() + result.seconds for result in answered)
    note_first(folder / "first-answer.json", side, first - began)
    return 0


def note_first(file: Path, side: str, seconds: float) -> None:
    """Note a turn of what is measured on the way, as hyperfine does."""
    turns = json.loads(file.read_bytes())["results"] if file.exists() else []
    file.write_text(json.dumps({"results": [*turns, {"command": side, "times": [seconds]}]}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
