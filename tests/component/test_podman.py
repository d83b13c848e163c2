"""Podman as engine: it starts a cluster, its client builds and pushes an image, and a job runs in that."""

from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import subprocess

import pytest

from ci.artefacts.sources import Sources
from ci.engine.connection import Engine, connect
from ci.engine.labels import LABEL, LABEL_RUN
from ci.environment import launching
from ci.environment.launching import Environment
from ci.environment.plan import plan_environment
from ci.environment.registry_client import V2S2
from ci.images.building import Builder
from ci.matrix.arch import Arch
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.conftest import SUITE, new_run
from tests.component.weather import left_behind, until
from tests.support.cluster import Node, shell
from tests.support.enroot import enroot_form
from tests.support.markers import TEST_MARKER
from tests.support.registry_client import RegistryClient

EMBEDDED = f"slurm22.05-embedded-debian12-{Arch.host()}"
_ALIAS = "pyxis-matrix-component-base:1"
"""A name as in somebody's Dockerfile: without a host, so Podman takes it for one of Docker Hub."""
_ROOT = 0
# The capabilities are those of Debian's package, which are fewer than Podman's own. Podman gives containers as many
# open files as there can be; where root itself is held down (in a sandbox, in a container) that is refused: "error
# setting rlimit type 7: operation not permitted".
_SETTINGS = """\
[containers]
default_capabilities = [
  "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
  "SYS_CHROOT",
]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return this machine's Podman, with its images, behind a socket of the tests' own."""
    program = shutil.which("podman")
    if program is None:
        pytest.skip("Podman is not installed: apt-get install podman (it runs beside Docker)")
    if os.getuid() != _ROOT:
        pytest.skip("these tests are for Podman with root's rights: run them as root")
    folder = tmp_path_factory.mktemp("podman")
    socket = folder / "podman.sock"
    settings = folder / "containers.conf"
    settings.write_text(_SETTINGS, encoding="utf-8")
    environ = {**os.environ, "CONTAINERS_CONF": str(settings)}
    command = [program, "system", "service", "--time=0", f"unix://{socket}"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as service:
        try:
            until("Podman's socket", socket.exists)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DOCKER_HOST", f"unix://{socket}")
                found = connect()
            assert found.found.kind == "podman"
            yield found
        finally:
            service.terminate()


@pytest.fixture(scope="module")
def podmans(podman: Engine, rows: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Return a container cell of two nodes that Podman started; nothing but images may be left of it."""
    folder, run = tmp_path_factory.mktemp("run"), new_run()
    options = Options(run=run, name=SUITE, results=folder, nodes=2, base_image=(_ALIAS,))
    plan = plan_environment(rows.cell(EMBEDDED), rows, options)
    images = Builder(podman, Sources.from_environment(), logs=folder).build(plan.images)
    with launching.launch(podman, plan, images, timings=Timings()) as up:
        yield up
    assert left_behind(podman.api, run) == []
    # What was pushed lost the name that it was pushed under, and nothing else.
    assert images.job
    assert podman.image(images.job.tag).tags == [podman.local_name(images.job.tag)]
    assert not podman.image_exists(_ALIAS)


def client(up: Environment, name: str, *words: str) -> str:
    """Run a program of the folder that suites have first on PATH; return what it wrote."""
    file = up.file
    done = subprocess.run(
        [Path(file.engine_client).with_name(name), *words],
        env={**os.environ, **file.engine_environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(("name", "based_on"), [("podman", ""), ("docker", ""), ("podman", _ALIAS)])
def test_jobs_on_all_nodes_run_in_an_image_that_the_client_built_and_pushed(
    podmans: Environment, tmp_path: Path, name: str, based_on: str
) -> None:
    """Also for a subject that calls ``docker``, whatever else has that name on this machine."""
    file = podmans.file
    assert "podman version" in client(podmans, name, "--version")
    reference = f"{file.registry}/test/{tmp_path.name}:1"
    text = f"built by {name} upon {based_on or 'the job image'} in {file.run}"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {based_on or file.job_image}\nRUN echo '{text}' > {TEST_MARKER}\n", encoding="utf-8"
    )
    client(podmans, name, "build", "--tag", reference, "--platform", Arch(file.arch).platform, str(tmp_path))
    client(podmans, name, "push", "--tls-verify=false", reference)
    with shell(file) as login:
        done = login.srun("--nodes=2", "cat", TEST_MARKER, image=enroot_form(reference))
    assert done.stdout.splitlines() == [text, text]


def test_images_are_pushed_in_the_format_that_real_enroot_asks_for(podmans: Environment) -> None:
    file = podmans.file
    assert file.registry
    assert file.job_reference
    repository, tag = file.job_reference.removeprefix(f"{file.registry}/").split(":")
    assert RegistryClient(file.registry).manifest(repository, tag, V2S2).headers["Content-Type"] == V2S2


def test_what_is_removed_by_label_is_of_one_run_only(podman: Engine) -> None:
    """Of several labels, Podman 4.3 takes one to be enough for a volume."""
    runs = [new_run(), new_run()]
    for run in runs:
        podman.api.volumes.create(run, labels={LABEL: "1", LABEL_RUN: run})
        podman.api.networks.create(run, labels={LABEL: "1", LABEL_RUN: run})
    try:
        assert podman.reap({LABEL_RUN: runs[0]}) == [runs[0]] * 2
        assert left_behind(podman.api, runs[1]) == [runs[1]] * 2
    finally:
        assert podman.reap({LABEL_RUN: runs[1]}) == [runs[1]] * 2


def test_no_path_of_proc_is_masked_on_a_node(podmans: Environment) -> None:
    """A masked /proc can't be mounted again in a user namespace, and that is how containers start."""
    done = Node.of(podmans.file).run_unchecked("grep -c ' /proc/' /proc/self/mountinfo", user=podmans.file.login.user)
    assert done.stdout.strip() == "0", str(done)
