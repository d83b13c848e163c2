"""How the container suites talk to a cluster: a shell over SSH, the registry, the node's own container."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import http.client
import json
import os
import shlex
import subprocess
from typing import Any

from ci.environment import ssh
from ci.environment.ssh import Completed, Connection
from ci.environment_file import EnvironmentFile

# An import of the job image takes seconds; this leaves room for a loaded machine, not for a job that hangs.
JOB_LIMIT = 300.0

# Only the job image has this file, so whoever reads it ran inside the image.
IMAGE_MARKER = "/etc/pyxis-matrix-image"
IMAGE_MARKER_TEXT = "pyxis-matrix job image"

# Before 4.0.0 `enroot list --fancy` fails when any process in any container ends while it looks, and with it every step
# that names its container. test_enroot.py has that fault itself; a test that only meets it is run again.
LISTING_FAILED = "couldn't get list of existing container filesystems"

# Where enroot takes a reference for one of Docker Hub's, the request ends here and not outside.
NOWHERE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}


@dataclass(frozen=True, kw_only=True)
class SshConfig:
    """How to enter the login node."""

    host: str
    port: int
    user: str
    private_key: str
    known_hosts: str

    @classmethod
    def of(cls, environment: EnvironmentFile) -> "SshConfig":
        """Take it from the environment's file."""
        login = environment.login
        return cls(
            host=login.host,
            port=login.port,
            user=login.user,
            private_key=login.private_key,
            known_hosts=login.known_hosts,
        )


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The environment's registry."""

    address: str

    @classmethod
    def of(cls, environment: EnvironmentFile) -> "Registry":
        """Take it from the environment's file."""
        assert environment.registry, "a legacy environment has no registry"
        return cls(address=environment.registry)

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, as the registry itself lists them."""
        status, body = self._get(f"/v2/{repository}/tags/list")
        assert status in {200, 404}, (status, body)
        answer: dict[str, Any] = json.loads(body)
        return sorted(answer.get("tags") or [])

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@dataclass(frozen=True, kw_only=True)
class Node:
    """The login node's own container, entered through the engine as root."""

    name: str
    client: str
    variables: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, environment: EnvironmentFile, index: int = 0) -> "Node":
        """Take it from the environment's file."""
        return cls(
            name=environment.containers[index],
            client=environment.engine_client,
            variables=tuple(environment.engine_environment.items()),
        )

    def run(self, command: str, *, user: str = "root") -> Completed:
        """Run a command line on the node, in no job."""
        done = subprocess.run(
            [self.client, "exec", "--user", user, self.name, "/bin/bash", "-c", command],
            env={**os.environ, **dict(self.variables)},
            capture_output=True,
            text=True,
            timeout=JOB_LIMIT,
            check=False,
        )
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """The login node as a user sees it. Checked calls fail the test with command, status and output."""

    connection: Connection
    environment: EnvironmentFile

    def run(self, command: str, *, limit: float = JOB_LIMIT, stdin: str | None = None) -> Completed:
        """Run a command line and expect it to succeed."""
        done = self.run_unchecked(command, limit=limit, stdin=stdin)
        assert done.status == 0, str(done)
        return done

    def run_unchecked(self, command: str, *, limit: float = JOB_LIMIT, stdin: str | None = None) -> Completed:
        """Run a command line, whatever comes of it."""
        done = self.connection.run(command, limit=limit, stdin=stdin)
        print(done)  # noqa: T201 - pytest shows it with a test that fails
        return done

    def srun(self, *arguments: str, image: str | None = None, limit: float = JOB_LIMIT) -> Completed:
        """Run a job step and expect it to succeed; ``image`` defaults to the run's job image, "" means none."""
        done = self.srun_unchecked(*arguments, image=image, limit=limit)
        assert done.status == 0, str(done)
        return done

    def srun_unchecked(self, *arguments: str, image: str | None = None, limit: float = JOB_LIMIT) -> Completed:
        """Run a job step, whatever comes of it. The arguments are words, not shell text."""
        chosen = self.image if image is None else image
        option = [f"--container-image={chosen}"] if chosen else []
        return self.run_unchecked(shlex.join(["srun", *option, *arguments]), limit=limit)

    def sbatch(self, script: str, *options: str, limit: float = JOB_LIMIT) -> tuple[int, str]:
        """Run a batch script to its end; return its job's exit code and what it wrote."""
        done = self.run(
            f"cd && out=$(mktemp) && sbatch --wait --output=$out {shlex.join(options)} <<'END_OF_SCRIPT'\n{script}\n"
            'END_OF_SCRIPT\nstatus=$?; cat "$out"; rm -f "$out"; echo "status=$status"',
            limit=limit,
        )
        output, _, status = done.stdout.rpartition("status=")
        return int(status), output

    @property
    def image(self) -> str:
        """The run's job image as every version of enroot takes it: HOST:PORT#NAME:TAG."""
        assert self.environment.job_reference
        return enroot_form(self.environment.job_reference)


def open_gpu() -> list[str]:
    """Return srun's words for a job with a GPU: it writes the image's marker, the GPU's number, and "opened"."""
    script = (
        f'cat {IMAGE_MARKER} && echo "$CUDA_VISIBLE_DEVICES" && : < "/dev/nvidia$CUDA_VISIBLE_DEVICES" && echo opened'
    )
    return ["--gpus=1", "sh", "-c", script]


def enroot_form(reference: str) -> str:
    """Turn HOST:PORT/NAME:TAG into HOST:PORT#NAME:TAG, which every version of enroot understands."""
    return reference if "#" in reference else reference.replace("/", "#", 1)


@contextmanager
def shell(environment: EnvironmentFile, user: str | None = None) -> Iterator[Shell]:
    """Open a shell on the login node."""
    with ssh.connect(environment.login, user) as connection:
        yield Shell(connection=connection, environment=environment)
