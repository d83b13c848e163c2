"""What commands of comparisons need that no command of a person does: ``python -m tests.bench.sides VERB …``."""

import argparse
from contextlib import suppress
import os
from pathlib import Path
import secrets
import shlex
import subprocess
import sys
import time
import tomllib
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
from ci.matrix.model import Subject
from ci.options import Options, Scope, add_to
from ci.python import venvs
from ci.python.venvs import Packages
from ci.record import store
from ci.record.outcomes import Outcome
from tests.bench import bare
from tests.support import first_job
from tests.support.program import guarded

_GROUPS = ("run", "test")
_JOBS = 5


def main() -> int:
    """Do what a verb says; return an exit code."""
    parser = argparse.ArgumentParser()
    verbs = {it.__name__: it for it in (answers, bare_commands, fresh, forget, jobs, node, packages, venv)}
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("how", nargs="?", choices=["at-once", "images-first"])
    add_to(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)
    asked = parser.parse_args()
    return guarded(lambda: verbs[asked.verb](asked), "what a side asked of it")


def bare_commands(asked: argparse.Namespace) -> int:
    """Print the cell's cluster as commands of the docker client."""
    engine, matrix, options = connect(), loading.load(), Options.of(asked)
    plan = plan_environment(matrix.cell(os.environ["CELL"], Arch.host()), matrix, options)
    images = Builder(engine, sources_of(options), logs=options.results / "images").build(plan.images)
    sys.stdout.write(bare.script(engine, plan, images, options.results))
    return 0


def node(_asked: argparse.Namespace) -> int:
    """Print functions of bash for the first node of the environment that is up: as_root COMMAND, job."""
    file = environment_file.current()
    inside = [file.engine_client, "exec", "--user"]
    variables = [f"export {name}={shlex.quote(value)}" for name, value in file.engine_environment.items()]
    run = shlex.join([*inside, "root", file.containers[0], "bash", "-c"])
    job = shlex.join([*inside, file.login.user, file.containers[0], "bash", "-lc", f"cd && {first_job.command(file)}"])
    lines = ["CONF=/etc/enroot/enroot.conf.d/50-node.conf", f'as_root() {{ {run} "$1"; }}', f"job() {{ {job}; }}"]
    sys.stdout.write("\n".join([*variables, *lines]) + "\n")
    return 0


def jobs(_asked: argparse.Namespace) -> int:
    """Run jobs in the environment that `run` hands to its command."""
    file = environment_file.current()
    with ssh.connect(file.login) as connection:
        for _ in range(_JOBS):
            if problem := first_job.problem(file, connection.run(first_job.command(file))):
                sys.stderr.write(f"{problem}\n")
                return 1
    return 0


def fresh(asked: argparse.Namespace) -> int:
    """Print an address of Debian's packages that no image was built from yet."""
    sys.stdout.write(_fresh(Options.of(asked).results) + "\n")
    return 0


def _fresh(folder: Path) -> str:
    """Return one, and note it. Names of hosts may be written in capitals, and another address is another image."""
    address = urlsplit(mirror(job_os().family))
    host = "".join(secrets.choice((letter.lower(), letter.upper())) for letter in address.netloc)
    found = address._replace(netloc=host).geturl()
    with (folder / "fresh").open("a", encoding="utf-8") as file:
        file.write(found + "\n")
    return found


def forget(asked: argparse.Namespace) -> int:
    """Remove the images that were built from fresh addresses."""
    engine, matrix, options = connect(), loading.load(), Options.of(asked)
    cells = [matrix.cell(it) for name in ("VARIANT_CELLS", "COMPILED_CELLS") for it in os.environ[name].split()]
    noted = options.results / "fresh"
    with suppress(FileNotFoundError):
        for address in noted.read_text(encoding="utf-8").splitlines():
            os.environ[job_os().family.mirror_variable] = address
            builder = Builder(engine, sources_of(options), logs=options.results / "images")
            for image in (it for cell in cells for it in plan_environment(cell, matrix, options).images.all()):
                builder.has(image)
            for tag in [it.tag for it in reversed(builder.done) if "registry:2" not in it.plan.pulled_as]:
                engine.untag_exactly(tag)
        noted.unlink()
    return 0


def answers(asked: argparse.Namespace) -> int:
    """Run the first of the suites on cells of compiled Slurms, and note when the first one had its answer."""
    folder, cells = Options.of(asked).results, os.environ["COMPILED_CELLS"].split()
    run = f"{Options.of(asked).run}-{asked.how}"
    words = [*Options.of(asked).words(Scope.IMAGES, Scope.CLUSTER), "--run", run, "--results", str(folder)]
    commands = [["images", *cells, *words]] if asked.how == "images-first" else []
    commands += [["matrix", *cells, "--suite", os.environ["SUITE"], *words, "--quiet"]]
    environment = {**os.environ, job_os().family.mirror_variable: _fresh(folder)}
    began = time.time()
    for command in commands:
        full = [sys.executable, "-m", "ci", *command]
        done = subprocess.run(full, cwd=paths.REPOSITORY, env=environment, check=False)
        if done.returncode:
            return done.returncode
    answered = [it for it in store.load_run(folder / run)[0] if it.outcome is Outcome.PASSED]
    if len(answered) < len(cells):
        raise ResultsError(f"{len(answered)} of {len(cells)} cells have an answer", where=str(folder / run))
    first = min(it.started.timestamp() + it.seconds for it in answered)
    (folder / f"part-{os.environ['SIDE']}").write_text(f"{first - began}\n", encoding="utf-8")
    return 0


def packages_of(subject: Subject, project: Path) -> Packages:
    """Return what a session of a suite installs."""
    groups = tomllib.loads(project.read_text(encoding="utf-8"))["dependency-groups"]
    requirements = [requirement for group in _GROUPS for requirement in groups[group]]
    return Packages(requirements=(*requirements, subject.requirement), constraints=subject.constraints)


def packages(asked: argparse.Namespace) -> int:
    """Write what a session of a suite installs, for pip."""
    its = packages_of(loading.load().subject, paths.REPOSITORY / "pyproject.toml")
    for name, lines in (("wanted", its.requirements), ("limits", its.constraints)):
        (Options.of(asked).results / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def venv(asked: argparse.Namespace) -> int:
    """Make the virtual environment of a session of a suite, as sessions do."""
    its = packages_of(loading.load().subject, paths.REPOSITORY / "pyproject.toml")
    venvs.shared(Options.of(asked).results / "venv", "bench", its)
    return 0


if __name__ == "__main__":
    sys.exit(main())
