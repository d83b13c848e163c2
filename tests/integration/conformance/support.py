"""How the conformance tests run a step: with a proof that it ran inside the image, or that nothing ran at all."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import shlex
import uuid

from ci.environment.ssh import RemoteAnswer
from ci.environment.wait import NotYet, wait_for
from ci.matrix.cells import Cell
from ci.reproducing.case import ASIDE
from tests.support.cluster import Shell, waited
from tests.support.enroot import LISTING_FAILED
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind, proven, ran_or_refused

# Far more than any step here needs, on a machine that others use as well.
PATIENCE = 120.0

_RAN = "the-command-ran"
_ON_THE_HOST = "on-the-host"

NOT_IMPORTED = "failed to import docker image"
"""What Pyxis says of every import that failed."""
NOT_STARTED = "container start failed"
"""What Pyxis says of every container that was there and did not start."""


@dataclass(frozen=True, kw_only=True)
class Background:
    """A step that is running until the block ends."""

    name: str
    """Name of its job."""
    output: str
    """File with all that it wrote so far, standard error included."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Job steps in containers, as a user starts them with srun."""

    shell: Shell
    cell: Cell
    jobs: dict[str, str] = field(default_factory=dict)
    """By the name of a container: the job that its steps are of. Other steps are jobs of their own."""

    def inside(
        self, image: TinyImage, script: str, *options: str, variables: Mapping[str, str] | None = None
    ) -> list[str]:
        """Run ``script`` by the image's ``sh`` and return the lines it wrote; fail unless it ran in that image."""
        return self.outcome(image, script, *options, variables=variables)[0]

    def outcome(
        self, image: TinyImage, script: str, *options: str, variables: Mapping[str, str] | None = None
    ) -> tuple[list[str], str]:
        """Do as `inside`; return the lines of standard output, and standard error, where Pyxis has its say."""
        done = self.srun(image.reference, script, *options, variables=variables)
        return proven(done, image), done.stderr

    def failing(
        self, image: TinyImage, script: str, *options: str, variables: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a script in the image that has to fail there; return its status and all it said."""
        done = self.srun_unchecked(image.reference, script, *options, variables=variables)
        assert done.status != 0, str(done)
        proven(done, image)
        return done.status, done.stdout + done.stderr

    def refused(self, image: str, says: str, *options: str, variables: Mapping[str, str] | None = None) -> str:
        """Start a step that has to be refused: it fails, says why, and its command is never run. Return what was said.

        ``image`` is the argument of ``--container-image``; empty for none. ``says`` are words of Slurm, Pyxis or enroot
        for this very reason: a step that fails for another one is not refused.
        """
        done = self._run(image, ["sh", "-c", f"echo {_RAN}"], options, variables)
        assert done.status != 0, str(done)
        assert _RAN not in done.stdout, str(done)
        said = done.stdout + done.stderr
        assert says in said, f"it does not say {says!r}: {done}"
        return said

    def either(
        self,
        image: TinyImage,
        script: str,
        *options: str,
        refusals: Iterable[str],
        variables: Mapping[str, str] | None = None,
    ) -> tuple[list[str] | None, str]:
        """Run a script in the image, where that may be refused; return its lines, None if it was, and what was said.

        Anything else fails: a step that ran somewhere else, or that was refused without one of these words.
        """
        return ran_or_refused(
            self.srun_unchecked(image.reference, script, *options, variables=variables), image, refusals
        )

    def on_the_host(self, script: str, *options: str, variables: Mapping[str, str] | None = None) -> list[str]:
        """Run a script in a step that has no container, and return its lines; fail if it ran in an image."""
        absent = f"test ! -e {IMAGE_MARKER} && echo {_ON_THE_HOST} && {{ {script}\n}}"
        done = self._run("", ["sh", "-c", absent], options, variables)
        assert done.status == 0, str(done)
        return behind(done, _ON_THE_HOST, "on the host")

    def srun(self, image: str, script: str, *options: str, variables: Mapping[str, str] | None = None) -> RemoteAnswer:
        """Run a script that first shows the image's marker, and expect it to succeed."""
        done = self.srun_unchecked(image, script, *options, variables=variables)
        assert done.status == 0, str(done)
        return done

    def srun_unchecked(
        self, image: str, script: str, *options: str, variables: Mapping[str, str] | None = None
    ) -> RemoteAnswer:
        """Run a script that first shows the image's marker, whatever comes of it."""
        return self._run(image, ["sh", "-c", f"cat {IMAGE_MARKER} && {{ {script}\n}}"], options, variables)

    def _run(
        self, image: str, command: list[str], options: tuple[str, ...], variables: Mapping[str, str] | None
    ) -> RemoteAnswer:
        container = [f"--container-image={image}"] if image else []
        words = shlex.join(["srun", self.shell.here, *self.job_of(options), *container, *options, *command])
        done = self.shell.run_unchecked(f"{assignments(variables)}{words}", limit=PATIENCE)
        # Else a step that has to be refused would seem to be. The plugin of the suites runs such a test again.
        assert LISTING_FAILED not in done.stderr, str(done)
        return done

    def new_name(self) -> str:
        """Return a name that nothing else has; on a site, by it the run finds again what it has left."""
        environment = self.shell.environment
        return f"conformance-{f'{environment.run}-' if environment.site else ''}{uuid.uuid4().hex[:12]}"

    @contextmanager
    def running(
        self, image: str, script: str, *options: str, ready: str = "ready", variables: Mapping[str, str] | None = None
    ) -> Iterator[Background]:
        """Have a step running that has written ``ready``; it is cancelled at the end of the block."""
        name = self.new_name()
        output = f"{self.shell.environment.folder or '/tmp'}/{name}.out"
        container = [f"--container-image={image}"] if image else []
        # Whoever has no such file does not get as far as being ready.
        proof = f"test -e {IMAGE_MARKER} && " if image else ""
        command = ["sh", "-c", f"{proof}{{ {script}\n}}"]
        where = [self.shell.here, *self.job_of(options)]
        words = shlex.join(["srun", "--unbuffered", *where, f"--job-name={name}", *container, *options, *command])
        self.shell.run(f"{assignments(variables)}nohup {words} > {output} 2>&1 < /dev/null &")
        try:
            self.wait_for_text(output, ready)
            yield Background(name=name, output=output)
        finally:
            steps = f"squeue --steps --noheader --format='%i %j' | sed -n 's/ {name}$//p'"  # also those of another job
            self.shell.run(f"scancel --name={name}; {steps} | xargs --no-run-if-empty scancel; rm -f {output}{ASIDE}")

    @contextmanager
    def in_one_job(self, name: str) -> Iterator[None]:
        """Have all steps that name this container in one job, where a profile has containers belong to their job."""
        if not self.cell.says("container_scope=job"):
            yield
            return
        said = self.shell.run(f"salloc --no-shell {self.shell.here} --job-name={name}").stderr
        self.jobs[name] = said.partition("Granted job allocation ")[2].split()[0]
        try:
            yield
        finally:
            self.shell.run(f"scancel {self.jobs.pop(name)}")

    def job_of(self, options: Iterable[str]) -> list[str]:
        """Return what makes a step one of the job that the container which its options name belongs to."""
        for option in options:
            if job := self.jobs.get(option.removeprefix("--container-name=").partition(":")[0]):
                return [f"--jobid={job}", "--overlap"]
        return []

    def enroot_name(self, name: str) -> str:
        """Return what enroot calls a container with this name."""
        return "_".join(filter(None, ("pyxis", self.jobs.get(name), name)))

    def tracked_by_cgroups(self) -> bool:
        """Tell whether Slurm holds the processes of a step together by cgroups; the cluster is asked."""
        return "proctrack/cgroup" in self.shell.run("scontrol show config | grep '^ProctrackType '").stdout

    def containers(self) -> list[str]:
        """Return the names of the user's containers on the node where the steps run."""
        return self.shell.run("enroot list").stdout.splitlines()

    def remove_containers(self, part: str) -> None:
        """Remove all containers on the node that have ``part`` in their names.

        Where containers go with their job, Pyxis removes its own; who does it at the same time has the node drained.
        """
        if self.cell.says("container_scope=job"):
            self.wait_for_removal(part, prefix="pyxis_")
        for name in self.containers():
            if part in name:
                self.shell.run(f"enroot remove --force {shlex.quote(name)}")

    def wait_for_removal(self, part: str, *, prefix: str = "") -> None:
        """Wait until no container on the node has a name that begins with ``prefix`` and has ``part`` in it."""

        def probe() -> bool | NotYet:
            left = [name for name in self.containers() if name.startswith(prefix) and part in name]
            return True if not left else NotYet(f"still there: {left}")

        wait_for(f"removal of the container {part}", probe, limit=PATIENCE, poll=0.3)
        waited(f"while enroot list | grep -q {shlex.quote(f'^{prefix}.*{part}')}; do sleep 0.3; done")

    def wait_for_text(self, file: str, text: str) -> str:
        """Wait until a file on the login node has ``text`` in it; return its content."""

        def probe() -> str | NotYet:
            content = self.shell.connection.run(f"cat {file}").stdout
            return content if text in content else NotYet(content)

        content = wait_for(f"{text!r} in {file}", probe, limit=PATIENCE, poll=0.3)
        waited(f"until grep -q -F -e {shlex.quote(text.strip())} {file}; do sleep 0.3; done")
        return content

    def wait_for_output(self, command: str) -> str:
        """Wait until a command line on the login node succeeds; return what it writes."""

        def probe() -> str | NotYet:
            done = self.shell.connection.run(command)
            return done.stdout if done.status == 0 else NotYet(str(done))

        output = wait_for(command, probe, limit=PATIENCE, poll=0.3)
        waited(f"until {command}; do sleep 0.3; done")
        return output

    def wait_until_fails(self, command: str, description: str) -> None:
        """Wait until a command line on the login node fails."""

        def probe() -> bool | NotYet:
            done = self.shell.connection.run(command)
            return True if done.status != 0 else NotYet(str(done))

        wait_for(description, probe, limit=PATIENCE, poll=0.3)
        waited(f"while {command}; do sleep 0.3; done")


def assignments(variables: Mapping[str, str] | None) -> str:
    """Return what sets environment variables in front of a command line."""
    return "".join(f"{name}={shlex.quote(value)} " for name, value in (variables or {}).items())


def rootfs(shell: Shell, container: str) -> str:
    """Return where enroot keeps a container's files."""
    data = shell.environment.enroot_data or f"/var/lib/enroot-data/data/user-{shell.run('id -u').stdout.strip()}"
    return f"{data}/{container}"
