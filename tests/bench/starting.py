"""Comparisons of starting: until usable, the first container job, and the whole way against bare commands."""

from collections.abc import Iterator
import os
import sys
import time

from ci import environment_file, paths
from ci.environment import launching, ssh
from ci.environment.launching import Environment
from ci.errors import LaunchError
from ci.matrix.cells import Runtime
from ci.options import Scope
from ci.session import running
from ci.terminal import console
from ci.terminal.console import Timings
from tests.bench.bare import Bare
from tests.bench.measuring import Bench, Sides, comparison, timed
from tests.support import first_job
from tests.support.cluster import Node

_PEERS_SLEEP = 10.0
_PEERS_POLL = 1.0
# A script of one's own would ask about as often as `ci.environment.wait` does.
_OWN_POLL = 0.1
_JOBS = 5
_CONF = "/etc/enroot/enroot.conf.d/50-node.conf"


@comparison(
    "start",
    goal=0.3,
    ours="from the first container's start until usable, by conditions that are asked for",
    other=f"the same containers, then a sleep of {_PEERS_SLEEP:g} s and a look every second, as peers do",
    times=5,
)
def start(bench: Bench) -> Iterator[Sides]:
    """Compare how long a cell takes to be usable."""
    plan, images = bench.plan(), bench.images()

    def ours() -> float:
        timings = Timings()
        with launching.launch(bench.engine, plan, images, timings=timings):
            return sum(timings.as_dict()[phase] for phase in ("launch", "ready"))

    def other() -> float:
        bare = Bare(bench.engine, plan, images)
        try:
            return timed(lambda: _as_peers(bare))
        finally:
            bare.down()

    yield Sides(ours=ours, other=other)


def _as_peers(bare: Bare) -> None:
    bare.up()
    time.sleep(_PEERS_SLEEP)
    bare.wait(_PEERS_POLL)


@comparison(
    "first-job",
    goal=0.4,
    ours="a node's first job in the job image, with this project's settings of enroot",
    other="the same with enroot's own settings of compression",
    runtimes=frozenset({Runtime.NVIDIA}),
)
def first(bench: Bench) -> Iterator[Sides]:
    """Compare the first container job of a node."""
    with running.opened(bench.plan()) as launched:
        node = Node.of(launched.file)
        node.run(f"cp {_CONF} /root/ours.conf && sed -E '/^ENROOT_(SQUASH|ZSTD)_OPTIONS/d' {_CONF} > /root/theirs.conf")

        def job(settings: str) -> float:
            # What enroot has kept of earlier jobs would be taken again.
            node.run(f"cp /root/{settings}.conf {_CONF} && rm -rf /var/lib/enroot-data/cache/*")
            return timed(lambda: _job(node, launched))

        yield Sides(ours=lambda: job("ours"), other=lambda: job("theirs"))


def _job(node: Node, launched: Environment) -> None:
    answer = node.run_unchecked(f"cd && {first_job.command(launched.file)}", user=launched.file.login.user)
    if problem := first_job.problem(launched.file, answer):
        raise LaunchError(problem)


@comparison(
    "harness",
    goal=1.1,
    ours=f"`python -m ci run`: start, {_JOBS} jobs in containers, down",
    other=f"bare docker commands: start, {_JOBS} times `srun --container-image`, down",
)
def harness(bench: Bench) -> Iterator[Sides]:
    """Compare the whole way with the same done by hand."""
    plan, images = bench.plan(), bench.images()
    script = f"import sys; from tests.bench.starting import jobs; sys.exit(jobs({_JOBS}))"
    words = bench.options.words(Scope.IMAGES, Scope.CLUSTER)
    command = [sys.executable, "-m", "ci", "run", bench.cell.id, *words, "--as", "harness"]
    command += ["--run", f"{bench.options.run}-harness", "--results", str(bench.folder / "harness")]
    command += ["--", sys.executable, "-c", script]

    def ours() -> float:
        done = console.call(command, cwd=paths.REPOSITORY, env=dict(os.environ), log=bench.folder / "harness.log")
        return done.check(LaunchError, "the harness failed").seconds

    def other() -> float:
        bare = Bare(bench.engine, plan, images)
        return timed(lambda: _by_hand(bare))

    ours()  # what the first start of a cell keeps for the next ones (the filled registry) is there for both sides
    yield Sides(ours=ours, other=other)


def _by_hand(bare: Bare) -> None:
    try:
        bare.up()
        bare.wait(_OWN_POLL)
        bare.push()
        for _ in range(_JOBS):
            bare.job()
    finally:
        bare.down()


def jobs(count: int) -> int:
    """Run jobs in the environment that ``python -m ci run`` hands to its command; return an exit code."""
    file = environment_file.current()
    with ssh.connect(file.login) as connection:
        for _ in range(count):
            if problem := first_job.problem(file, connection.run(first_job.command(file))):
                sys.stderr.write(f"{problem}\n")
                return 1
    return 0
