"""Nodes that one test has for itself, to change their plugins: what follows of that would break the jobs of others.

slurmstepd and the epilog read plugstack.conf whenever they start, so no daemon has to be started anew. A reservation
keeps other jobs away, and it is only given when none is running there. Whatever comes of the test, the nodes are as
they were before it is given back: the files, the containers, and Slurm's word that they can be used.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
import re
import shlex
import uuid

from ci.environment.ssh import RemoteAnswer
from ci.environment.wait import NotYet, wait_for
from tests.support.cluster import JOB_LIMIT, Node, Shell, waited
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.tiny import TinyImage

_PLUGINS = "/etc/slurm/plugstack.conf.d"
_FILES = (_PLUGINS, "/etc/enroot/enroot.conf.d")
_USABLE = ("idle", "reserved")
_ON_THE_HOST = "on-the-host"
_SHOW = f'echo "$SLURMD_NODENAME" "$(cat {IMAGE_MARKER} 2>/dev/null || echo {_ON_THE_HOST})"'


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """How a batch job ended."""

    state: str
    exit_code: str
    ran: tuple[str, ...]
    """What it has shown of where it runs."""
    output: str


@dataclass(frozen=True, kw_only=True)
class SpareNodes:
    """Nodes with a reservation, and the steps and jobs that run there."""

    names: tuple[str, ...]
    nodes: tuple[Node, ...]
    login: Node
    shell: Shell
    reservation: str
    plugin: str
    """Path of the installed Pyxis."""

    def load(self, *lines: str) -> None:
        """Have these lines in place of the one that loads Pyxis; the login node keeps its own.

        The epilog of an earlier job would read them, too: it is waited for.
        """
        self.wait_until_ended()
        self._all(f"rm {_PLUGINS}/*.conf && printf '%s\\n' {shlex.join(lines)} > {_PLUGINS}/changed.conf")

    def set_enroot(self, line: str) -> None:
        """Have a line in enroot.conf; of two with one key the first holds, and this one is read before the others."""
        self._all(f"echo {shlex.quote(line)} > /etc/enroot/enroot.conf.d/00-changed.conf")

    def where(self, marker: str = _ON_THE_HOST) -> tuple[str, ...]:
        """Return what a step or script shows if it runs on all of the nodes: in an image, or on the host."""
        return tuple(f"{name} {marker}" for name in self.names)

    def shown(self, lines: list[str]) -> tuple[str, ...]:
        """Return those lines of a job in which it shows where it ran, without those of Pyxis among them."""
        return tuple(sorted(line for line in lines if line.split(" ")[0] in self.names))

    def step(self, *options: str, limit: str = "") -> tuple[tuple[str, ...], RemoteAnswer]:
        """Run a step that shows where it runs, whatever comes of it; return what it has shown, and all else.

        :param limit: seconds, after which srun is ended.
        """
        words = ["srun", *self._here(), *options, "sh", "-c", _SHOW]
        done = self.shell.run_unchecked(shlex.join(["timeout", limit, *words] if limit else words))
        return self.shown(done.stdout.splitlines()), done

    def script(self, *options: str) -> BatchJob:
        """Run a batch script that shows where it runs to the end of its job, whatever comes of it."""
        words = shlex.join(["sbatch", "--wait", "--parsable", *self._here(), *options])
        # In the home, which all nodes see.
        command = f"out=$(mktemp ~/spare-XXXXXXXXXX); trap 'rm $out' EXIT; {words} --output=$out; cat $out"
        done = self.shell.run(command, stdin=f"#!/bin/sh\n{_SHOW}\n")
        job, _, output = done.stdout.partition("\n")
        assert job.isdecimal(), str(done)
        self.wait_until_ended()
        facts, ran = self.shell.facts_of(job), self.shown(output.splitlines())
        return BatchJob(state=facts["JobState"], exit_code=facts["ExitCode"], ran=ran, output=output)

    def states(self) -> dict[str, str]:
        """Return what Slurm says of each node: its state."""
        said = self.shell.run(f"sinfo --noheader --Node --nodes={','.join(self.names)} --format='%N %T'").stdout
        found = dict(line.split(maxsplit=1) for line in said.splitlines())
        assert found.keys() == {*self.names}, said
        return found

    def drained_because(self) -> str:
        """Return why the one node was drained, and have it used again; fails if it was not."""
        self.wait_until_ended()
        (name,) = self.names
        assert self.states() == {name: "drained"}
        reason = self.shell.run(f"sinfo --noheader --nodes={name} --format=%E").stdout.strip()
        self.resume()
        return reason

    def in_use(self) -> bool:
        """Tell whether the nodes are none the worse for the jobs that have ended."""
        self.wait_until_ended()
        return all(state in _USABLE for state in self.states().values())

    def wait_until_ended(self) -> None:
        """Wait until no job is left on the nodes, and Slurm has heard of the end of their epilogs."""
        command = f"squeue --noheader --reservation={self.reservation}"

        def probe() -> bool | NotYet:
            said = self.login.run(command).stdout
            return NotYet(said) if said else True

        wait_for(f"the end of the jobs on {', '.join(self.names)}", probe, limit=JOB_LIMIT, poll=0.3)
        waited(f'while test -n "$({command})"; do sleep 0.3; done')

    def resume(self) -> None:
        """Have Slurm use the nodes again."""

        def probe() -> bool | NotYet:
            left = [name for name, state in self.states().items() if state not in _USABLE]
            for name in left:
                self.login.run_unchecked(f"scontrol update nodename={name} state=resume")
            return NotYet(str(self.states())) if left else True

        wait_for(f"{', '.join(self.names)} to be used again", probe, limit=JOB_LIMIT, poll=0.3)

    def _here(self) -> list[str]:
        count = str(len(self.names))
        nodes = f"--nodelist={','.join(self.names)}"
        return [f"--reservation={self.reservation}", nodes, f"--nodes={count}", f"--ntasks={count}", "--chdir=/tmp"]

    def _all(self, command: str) -> None:
        for node in self.nodes:
            node.run(command)


@contextmanager
def spare_nodes(shell: Shell, every_node: list[Node], names: tuple[str, ...], image: TinyImage) -> Iterator[SpareNodes]:
    """Have nodes for the block alone; afterwards they run containers again, or this fails.

    :param image: what they have to run then.
    """
    nodes = tuple(every_node[-len(names) :])
    find = f"awk '$1 == \"required\" {{ print $2 }}' {_PLUGINS}/*.conf"
    plugin = nodes[0].run(find).stdout.strip()
    assert re.fullmatch(r"/\S+\.so", plugin), f"{_PLUGINS} does not load one plugin: {plugin}"
    spare = SpareNodes(
        names=names,
        nodes=nodes,
        login=every_node[0],
        shell=shell,
        reservation=f"spare-{uuid.uuid4().hex[:12]}",
        plugin=plugin,
    )
    with ExitStack() as stack:
        _reserve(spare)
        stack.callback(spare.login.run, f"scontrol delete reservationname={spare.reservation}")
        stack.callback(_prove, spare, image)
        for node in nodes:
            before = set(node.run("enroot list", user=node.user).stdout.split())
            stack.callback(_remove_containers, node, before)
        stack.callback(spare.resume)
        for node in nodes:
            for path in _FILES:
                node.run(f"cp --archive --no-target-directory {path} {path}.kept")
                stack.callback(node.run, f"rm -r {path} && mv {path}.kept {path}")
        stack.callback(spare.wait_until_ended)
        stack.callback(spare.login.run, f"scancel --reservation={spare.reservation}")
        yield spare


def _reserve(spare: SpareNodes) -> None:
    """Make the reservation as soon as no job is left on the nodes."""
    words = f"nodes={','.join(spare.names)} users={spare.shell.environment.login.user} starttime=now duration=UNLIMITED"

    def probe() -> bool | NotYet:
        done = spare.login.run_unchecked(f"scontrol create reservation reservationname={spare.reservation} {words}")
        return True if done.status == 0 else NotYet(str(done))

    wait_for(f"a reservation of {', '.join(spare.names)}", probe, limit=JOB_LIMIT, poll=0.5)


def _prove(spare: SpareNodes, image: TinyImage) -> None:
    """Fail unless containers run on the nodes."""
    ran, done = spare.step(f"--container-image={image.reference}")
    assert ran == spare.where(image.marker), f"the nodes are not as they were: {done}"


def _remove_containers(node: Node, before: set[str]) -> None:
    """Remove what is left of the containers of broken jobs."""
    for name in set(node.run("enroot list", user=node.user).stdout.split()) - before:
        node.run(f"enroot remove --force {shlex.quote(name)}", user=node.user)
