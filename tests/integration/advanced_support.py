"""What the advanced suite adds: one image for the SDK's tasks per run, and jobs that are cleaned up after."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
import shlex
import subprocess
from typing import TYPE_CHECKING, Any
import uuid

from filelock import FileLock
import pytest

from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from tests.integration.container_support import JOB_LIMIT, Node, Registry, Shell

if TYPE_CHECKING:
    from slurm import Cluster
    from slurm.job import Job

TASKS = Path(__file__).with_name("container_tasks.py")
TEST_MARKER = "/etc/pyxis-matrix-test"

_SHARED = "sdk/shared"
_NEEDLESS = (
    "/var/cache",
    "/var/lib/apt",
    "/usr/share/doc",
    "/usr/share/perl*",
    "/usr/share/zoneinfo",
    "/usr/lib/*/perl*",
    "/usr/lib/python3/dist-packages/pip*",
    "/usr/lib/python3/dist-packages/setuptools*",
)


# -- one image for all tests that need no build of their own ----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SdkImage:
    """An image in the environment's registry that holds the suite's tasks."""

    reference: str
    """HOST:PORT/NAME:TAG, as the SDK wants it."""
    marker: str
    """What ``/etc/pyxis-matrix-test`` holds in this image and nowhere else."""

    def packaging(self, **more: object) -> dict[str, object]:
        """Return the SDK's packaging configuration that uses the image as it is."""
        return {"type": "container", "image": self.reference, "push": False, **more}

    def context(self, folder: Path, *lines: str) -> Path:
        """Make a build context in a folder for an image on top of this one, with further lines of the Containerfile."""
        text = "\n".join([f"FROM {self.reference}", *lines]) + "\n"
        (folder / "Containerfile").write_text(text, encoding="utf-8")
        return folder

    def holding(self, task: Any, **options: object) -> Any:  # noqa: ANN401 - slurm's tasks are untyped
        """Return a variant of a task that runs in the image; ``options`` are sbatch's."""
        packaging = {f"packaging_{name}": value for name, value in self.packaging().items()}
        return task.with_options(**packaging, **options)


@pytest.fixture(scope="session")
def sdk_image(
    environment: EnvironmentFile,
    local_registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> SdkImage:
    """Build and push the shared image once per environment, whichever process comes first."""
    content = TASKS.read_bytes()
    tag = hashlib.sha256(content + str(environment.job_image).encode()).hexdigest()[:16]
    image = SdkImage(reference=f"{local_registry.address}/{_SHARED}:{tag}", marker=f"shared-{environment.run}-{tag}")
    base = tmp_path_factory.getbasetemp()
    common = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with FileLock(common / "sdk-image.lock"):
        if tag not in local_registry.tags(_SHARED):
            _build(environment, image, tmp_path_factory.mktemp("sdk-image"))
    return image


def _build(environment: EnvironmentFile, image: SdkImage, context: Path) -> None:
    package = context / "tests" / "integration"
    package.mkdir(parents=True)
    (package / TASKS.name).write_bytes(TASKS.read_bytes())
    # Each job unpacks the image anew, and the SDK's jobs are many: without what no task needs, and in one layer, that
    # takes half the time.
    lines = (
        f"FROM {environment.job_image} AS whole",
        f"RUN rm -rf {' '.join(_NEEDLESS)} && mkdir -p /var/cache && echo {image.marker} > {TEST_MARKER}",
        "FROM scratch",
        "COPY --from=whole / /",
        "COPY tests /opt/tasks/tests",
        "ENV PYTHONPATH=/opt/tasks PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    (context / "Containerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = str(context / "Containerfile")
    platform = Arch(environment.arch).platform
    engine(environment, "build", "--tag", image.reference, "--platform", platform, "--file", file, str(context))
    # Podman asks for https even on loopback.
    plain = ["--tls-verify=false"] if Path(environment.engine_client).name == "podman" else []
    engine(environment, "push", *plain, image.reference)


def engine(environment: EnvironmentFile, *arguments: str) -> str:
    """Run the engine's client and return what it wrote; the test fails with that if the client does."""
    done = subprocess.run(
        [environment.engine_client, *arguments],
        env={**os.environ, **environment.engine_environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}"
    return done.stdout


# -- jobs of the SDK --------------------------------------------------------------------------------------------------


def container_of(job: "Job[Any]") -> str:
    """Return the name under which the SDK asks Pyxis for a job's container."""
    return f"slurm-sdk-{job.pre_submission_id}"


def result_of(job: "Job[Any]") -> Any:  # noqa: ANN401 - a task returns what it likes
    """Wait for a job and return its result; the test fails with the job's own words if it failed."""
    assert job.wait(timeout=JOB_LIMIT, poll_interval=1.0), f"{job.get_status()}\n{job.get_stderr()}"
    return job.get_result()


@dataclass(frozen=True, kw_only=True)
class SdkJobs:
    """Submits tasks to the first node (a container's name is known only on its node) and remembers the jobs."""

    cluster: "Cluster"
    node: str
    submitted: list["Job[Any]"] = field(default_factory=list)

    def submit(self, task: Any, packaging: Mapping[str, object], *arguments: object, **options: object) -> "Job[Any]":  # noqa: ANN401 - slurm's tasks are untyped
        """Submit a task with its arguments; ``options`` are sbatch's."""
        chosen: dict[str, Any] = {"nodelist": self.node, **options}
        submit: Any = self.cluster.submit(task, packaging_config=dict(packaging), **chosen)
        job: Job[Any] = submit(*arguments)
        self.submitted.append(job)
        return job

    def call(self, task: Any, image: SdkImage, *arguments: object) -> "Job[Any]":  # noqa: ANN401 - as above
        """Call a task as a user's script does; other jobs among its arguments become dependencies."""
        job: Job[Any] = image.holding(task, nodelist=self.node)(*arguments)
        self.submitted.append(job)
        return job

    def run(self, task: Any, packaging: Mapping[str, object], *arguments: object, **options: object) -> Any:  # noqa: ANN401 - as above
        """Submit a task and return its result."""
        return result_of(self.submit(task, packaging, *arguments, **options))

    def end(self) -> None:
        """Cancel what a failed test has left running."""
        for job in self.submitted:
            if not job.is_completed():
                job.cancel()
                job.wait(timeout=JOB_LIMIT, poll_interval=0.5)


def remove_containers(nodes: list[Node], user: str, names: list[str]) -> None:
    """Remove containers of a user; one that is not there is no error.

    The SDK names every container, and Pyxis keeps what has a name; hundreds of megabytes would stay per job.
    """
    words = " ".join(f"pyxis_{name}" for name in names)
    for node in nodes:
        node.run(
            f"enroot list | sed 's/ .*//' > /tmp/list.$$; for name in {words}; do "
            'grep --line-regexp --fixed-strings "$name" /tmp/list.$$ && enroot remove --force "$name"; done; '
            "rm -f /tmp/list.$$",
            user=user,
        )


@pytest.fixture
def every_node(environment: EnvironmentFile) -> list[Node]:
    """Return all nodes' own containers."""
    return [Node.of(environment, index) for index in range(len(environment.nodes))]


@pytest.fixture
def sdk_jobs(
    sdk_on_pyxis_cluster: "Cluster", environment: EnvironmentFile, every_node: list[Node]
) -> Iterator[SdkJobs]:
    """Return what submits the SDK's jobs; their containers are removed afterwards."""
    jobs = SdkJobs(cluster=sdk_on_pyxis_cluster, node=environment.nodes[0])
    yield jobs
    jobs.end()
    remove_containers(every_node, environment.login.user, [container_of(job) for job in jobs.submitted])


@contextmanager
def sdk_cluster(environment: EnvironmentFile, user: str, **more: object) -> Iterator["Cluster"]:
    """Connect the SDK to the login node as another user."""
    from slurm import Cluster  # noqa: PLC0415 - the subject may be another package, which has no such module

    login = environment.login
    settings: dict[str, Any] = {
        "backend_type": "ssh",
        "hostname": login.host,
        "port": login.port,
        "username": user,
        "key_filename": login.private_key,
        "allow_agent": False,
        "look_for_keys": False,
        "host_key_policy": "reject",
        "job_base_dir": f"/home/{user}/sdk-{uuid.uuid4().hex[:12]}",
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", login.home)
        with Cluster(**settings) as cluster:
            yield cluster


# -- workflows --------------------------------------------------------------------------------------------------------


def write_slurmfile(path: Path, *, home: str, node: str, user: str, key: str) -> None:
    """Write what a workflow learns the cluster from: it runs in a container, and ``key`` is a path in there."""
    lines = (
        "[default.cluster]",
        'backend = "ssh"',
        f'job_base_dir = "{home}"',
        "[default.cluster.backend_config]",
        f'hostname = "{node}"',
        f'username = "{user}"',
        f'key_filename = "{key}"',
        'host_key_policy = "reject"',
        "allow_agent = false",
        "look_for_keys = false",
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def give_key(login: Shell, folder: str) -> None:
    """Make a folder on the cluster with the run's key and the login node's host key, as a user has it in ~/.ssh."""
    settings = login.environment.login
    host_key = Path(settings.known_hosts).read_text(encoding="utf-8").splitlines()[0].partition(" ")[2]
    login.run(f"mkdir -m 700 {folder} && echo {login.environment.nodes[0]} {host_key} > {folder}/known_hosts")
    login.run(f"umask 077 && cat > {folder}/key", stdin=Path(settings.private_key).read_text(encoding="utf-8"))


def remove_containers_below(nodes: list[Node], login: Shell, folder: str) -> None:
    """Remove the containers of a workflow and its children: they are named after their folders."""
    found = login.run_unchecked(f"find {folder} -name metadata.json -printf '%h\\n'").stdout.splitlines()
    names = [f"slurm-sdk-{Path(path).name}" for path in found]
    remove_containers(nodes, login.environment.login.user, names)
