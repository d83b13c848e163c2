"""How tests talk to a cluster: a shell over SSH, and a node's own container."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
import os
import re
import shlex
import subprocess

from ci import environment_file
from ci.environment import ssh
from ci.environment.ssh import Connection, RemoteAnswer
from ci.environment.wait import NotYet, wait_for
from ci.environment_file import EnvironmentFile
from tests.support.enroot import enroot_form
from tests.support.not_asked import needs

_LONGEST_INPUT = 4000
# An import of the job image takes seconds; this leaves room for a loaded machine, not for a job that hangs.
JOB_LIMIT = 300.0
_NOT_ENDED = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING"}
_SUBMITS = re.compile(r"\b(?:srun|sbatch)\b")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node's own container, entered through the engine as root. Checked calls fail the test, as those of `Shell`.

    Those of a site are entered over SSH, as its user; what needs another one is not asked there.
    """

    name: str
    client: str
    variables: tuple[tuple[str, str], ...]
    user: str
    """The job user: for what does not need root."""
    of_site: bool = False

    @classmethod
    def of(cls, environment: EnvironmentFile, index: int = 0) -> "Node":
        """Take it from the environment's file."""
        return cls(
            name=(environment.nodes if environment.site else environment.containers)[index],
            client=environment.engine_client,
            variables=tuple(environment.engine_environment.items()),
            user=environment.login.user,
            of_site=bool(environment.site),
        )

    def run(self, command: str, *, user: str = "root") -> RemoteAnswer:
        """Run a command line on the node, in no job, and expect it to succeed."""
        done = self.run_unchecked(command, user=user)
        assert done.status == 0, str(done)
        return done

    def run_unchecked(self, command: str, *, user: str = "root") -> RemoteAnswer:
        """Run a command line on the node, in no job, whatever comes of it; on a site's other nodes in a job."""
        if self.of_site:
            return self._over_ssh(command, user)
        done = subprocess.run(
            [self.client, "exec", "--user", user, self.name, "/bin/bash", "-c", command],
            env={**os.environ, **dict(self.variables)},
            capture_output=True,
            text=True,
            timeout=JOB_LIMIT,
            check=False,
        )
        # Only that it was run: what root sees is none of the answers that a test is about.
        print(f"# {command}\n[exit status {done.returncode}]")  # noqa: T201 - as below
        return RemoteAnswer(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def _over_ssh(self, command: str, user: str) -> RemoteAnswer:
        if user != self.user:
            needs("root on a node" if user == "root" else "another user")
        environment = environment_file.current()
        here = self.name == environment.nodes[0] and not environment.logs_in_elsewhere
        words = shlex.join(["srun", f"--nodelist={self.name}", "--ntasks=1", "bash", "-c", command])
        with shell(environment) as opened:
            return opened.run_unchecked(command if here else words)

    def below(self, folder: str, *, named: str) -> list[str]:
        """Name what lies at any depth below a folder under a name of this pattern.

        Bash looks for it: find fails at a folder that another job removes meanwhile, even with -ignore_readdir_race.
        """
        looked = self.run(f"shopt -s globstar dotglob nullglob; printf '%s\\n' {shlex.quote(folder)}/**/{named}")
        return looked.stdout.split()


@dataclass(frozen=True, kw_only=True)
class Shell:
    """The login node as a user sees it. Checked calls fail the test with command, status and output.

    Steps and batch jobs run on this very node unless their options say otherwise: what they leave is looked for here.
    """

    connection: Connection
    environment: EnvironmentFile

    def run(
        self, command: str, *, limit: float = JOB_LIMIT, stdin: str | None = None, secret: bool = False
    ) -> RemoteAnswer:
        """Run a command line and expect it to succeed.

        :param secret: its input is not shown.
        """
        done = self.run_unchecked(command, limit=limit, stdin=stdin, secret=secret)
        assert done.status == 0, str(done)
        return done

    def run_unchecked(
        self, command: str, *, limit: float = JOB_LIMIT, stdin: str | None = None, secret: bool = False
    ) -> RemoteAnswer:
        """Run a command line, whatever comes of it. Where a site's login node is no other, enroot is run by a job."""
        of_enroot = ("enroot", self.environment.enroot_data or "enroot")
        if any(it in command for it in of_enroot) and not _SUBMITS.search(command):
            command = self._of_the_node(command)
        done = self.connection.run(command, limit=limit, stdin=stdin)
        shown = with_input(command, stdin, secret=secret)
        print(replace(done, command=shown))  # noqa: T201 - pytest shows it with a test that fails
        return done

    def on_the_node(self, command: str) -> RemoteAnswer:
        """Run a command line on the node where steps run, and expect it to succeed: for what only that node sees."""
        return self.run(self._of_the_node(command))

    def _of_the_node(self, command: str) -> str:
        if not self.environment.logs_in_elsewhere:
            return command
        return shlex.join(["srun", self.here, "--ntasks=1", "bash", "-c", command])

    def facts_of(self, job: str) -> dict[str, str]:
        """Return what scontrol says of a job, by its own names: JobState and ExitCode, for example."""
        text = self.run(f"scontrol --oneliner --details show job {job}").stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def facts_of_ended(self, job: str) -> dict[str, str]:
        """Return what scontrol says of a job once its nodes have done with it, which is after `sbatch --wait`."""

        def probe() -> dict[str, str] | NotYet:
            facts = self.facts_of(job)
            return NotYet(facts["JobState"]) if facts["JobState"] in _NOT_ENDED else facts

        return wait_for(f"the end of job {job}", probe, limit=JOB_LIMIT, poll=0.5)

    def srun(self, *arguments: str, image: str | None = None, limit: float = JOB_LIMIT) -> RemoteAnswer:
        """Run a job step and expect it to succeed; ``image`` defaults to the run's job image, "" means none."""
        done = self.srun_unchecked(*arguments, image=image, limit=limit)
        assert done.status == 0, str(done)
        return done

    def srun_unchecked(self, *arguments: str, image: str | None = None, limit: float = JOB_LIMIT) -> RemoteAnswer:
        """Run a job step, whatever comes of it. The arguments are words, not shell text."""
        chosen = self.image if image is None else image
        option = [f"--container-image={chosen}"] if chosen else []
        return self.run_unchecked(shlex.join(["srun", self.here, *option, *arguments]), limit=limit)

    def sbatch(
        self, script: str, *options: str, limit: float = JOB_LIMIT, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run a batch script to its end, expect its job to succeed, and return what it wrote."""
        status, output = self.sbatch_unchecked(script, *options, limit=limit, variables=variables)
        assert status == 0, f"the job's exit code is {status}\n{output}"
        return output

    def sbatch_unchecked(
        self, script: str, *options: str, limit: float = JOB_LIMIT, variables: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a batch script to its end, whatever comes of it; return its job's exit code and what it wrote.

        :param variables: what sbatch itself finds in its environment.
        """
        set_for_sbatch = [f"{name}={value}" for name, value in (variables or {}).items()]
        words = shlex.join(["env", *set_for_sbatch, "sbatch", "--wait", self.here, *options])
        in_folder = f" {self.environment.folder}/out-XXXXXXXXXX" if self.environment.folder else ""
        done = self.run(
            f"cd && out=$(mktemp{in_folder}) && "
            f"{words} --output=$out <<'END_OF_SCRIPT'\n{script}\n"
            'END_OF_SCRIPT\nstatus=$?; cat "$out"; rm -f "$out"; echo "status=$status"',
            limit=limit,
        )
        output, _, status = done.stdout.rpartition("status=")
        return int(status), output

    @property
    def here(self) -> str:
        """The option that has Slurm use this node, with others where more are asked for."""
        return f"--nodelist={self.environment.nodes[0]}"

    @property
    def image(self) -> str:
        """The run's job image as every version of enroot takes it: HOST:PORT#NAME:TAG."""
        if self.environment.site and not self.environment.job_reference:
            needs("a registry")
        assert self.environment.job_reference
        return enroot_form(self.environment.job_reference)


def with_input(command: str, stdin: str | None, *, secret: bool = False) -> str:
    """Return a command line with its input, as a shell takes it; a secret or a long one is only counted."""
    if stdin is None:
        return command
    if secret or len(stdin) > _LONGEST_INPUT:
        return f"{command}  # ({len(stdin)} characters of input)"
    end = "" if stdin.endswith("\n") else "\n"
    return f"{{ {command}\n}} <<'END_OF_INPUT'\n{stdin}{end}END_OF_INPUT"


def waited(command: str) -> None:
    """Show, between the commands of a test, what it waited for: this one, to succeed."""
    print(RemoteAnswer(command=command, status=0, stdout="", stderr=""))  # noqa: T201 - as above


@contextmanager
def shell(environment: EnvironmentFile, user: str | None = None) -> Iterator[Shell]:
    """Open a shell on the login node."""
    if environment.site and user == "":
        needs("a second user")
    with ssh.connect(environment.login, user) as connection:
        yield Shell(connection=connection, environment=environment)
