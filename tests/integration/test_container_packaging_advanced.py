"""Beyond the main job: arrays, mounts, workflows, failures and cancellation.

More of the suite is in the folder ``advanced``: images, users and nodes.
"""

from contextlib import ExitStack
from pathlib import Path
import shlex
import signal
from typing import TYPE_CHECKING, Any
import uuid

import pytest
from slurm import task
from slurm.errors import DownloadError, PackagingError

from ci.environment_file import EnvironmentFile
from tests.integration.advanced import tasks
from tests.integration.advanced.image import SdkImage
from tests.integration.advanced.jobs import SdkJobs, result_of, sdk_cluster
from tests.integration.advanced.stalling_registry import (
    settled_processes,
    stalling_registry,
    wait_until_gone,
    work_folders,
)
from tests.integration.advanced.workflows import give_key, write_slurmfile
from tests.support.cluster import JOB_LIMIT, Node, Shell
from tests.support.enroot import enroot_form
from tests.support.markers import IMAGE_MARKER_TEXT, TEST_MARKER
from tests.support.oci.tiny import TinyImage
from tests.support.sdk_containers import container_of, remove_containers, remove_containers_below
from tests.support.sdk_project import Project

if TYPE_CHECKING:
    from slurm import Cluster
    from slurm.array_job import ArrayJob

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


# -- arrays and chains ------------------------------------------------------------------------------------------------


@pytest.mark.integration_test
def test_array_job_with_containers(slurm_pyxis_cluster: "Cluster", local_registry: str, project: Project) -> None:
    """Test array jobs using container packaging."""

    @task(
        time="00:10:00",
        mem="512M",
        packaging="container",
        packaging_dockerfile=project.dockerfile(),
        packaging_registry=f"{local_registry}/test/",
        packaging_platform=project.platform,
        packaging_tls_verify=False,
    )
    def process_item(item: int) -> tuple[int, str]:
        from pathlib import Path

        return item * 2, Path("/etc/pyxis-matrix-test").read_text(encoding="utf-8").strip()

    with slurm_pyxis_cluster:
        items = [1, 2, 3, 4, 5]
        # The design has `slurm_pyxis_cluster.map(process_item, items)`; slurm-sdk 0.4.6 has `map` at the task.
        array_job: ArrayJob[tuple[int, str]] = process_item.map(items)
        results = array_job.get_results(timeout=JOB_LIMIT)
    assert results == [(number, project.marker) for number in (2, 4, 6, 8, 10)]


@pytest.mark.usefixtures("sdk_jobs")
def test_results_of_an_array_keep_their_order(sdk_image: SdkImage) -> None:
    """The first element ends last, and its result still comes first."""
    in_image = sdk_image.holding(tasks.element)
    items = [{"number": 0, "after": 2}, {"number": 1, "after": None}, {"number": 2, "after": 1}]
    array: ArrayJob[Any] = in_image.map(items)
    results = [result_of(job) for job in array]
    assert results == [
        {
            "number": number,
            "in time": True,
            "index": str(number),
            "image": IMAGE_MARKER_TEXT,
            "marker": sdk_image.marker,
        }
        for number in range(3)
    ]
    assert array.get_results(timeout=JOB_LIMIT) == results


def test_a_reference_in_enroots_own_form_is_left_alone(sdk_jobs: SdkJobs, sdk_image: SdkImage) -> None:
    """HOST:PORT#NAME:TAG is what the SDK makes of HOST:PORT/NAME:TAG; a user may already write it so."""
    written = enroot_form(sdk_image.reference)
    assert "#" in written
    seen = sdk_jobs.run(tasks.look, sdk_image.packaging(image=written))
    assert seen["marker"] == sdk_image.marker


def test_dependency_chain_between_container_tasks(sdk_jobs: SdkJobs, sdk_image: SdkImage) -> None:
    """A task that is given another one's job starts after it, in a container of its own, with its result."""
    first = sdk_jobs.submit(tasks.double, sdk_image.packaging(), 20)
    second = sdk_jobs.call(tasks.increase, sdk_image, first, 2)
    last = result_of(second)
    assert last == {
        "value": 42,
        "job": second.id,
        "marker": sdk_image.marker,
        "previous": {"value": 40, "job": first.id, "marker": sdk_image.marker},
    }


def test_workflow_submits_child_tasks_from_inside_its_container(
    *,
    sdk_image: SdkImage,
    environment: EnvironmentFile,
    cluster_shell: Shell,
    every_node: list[Node],
    tmp_path: Path,
) -> None:
    """The SDK's way: the workflow's container has no Slurm, it enters the login node over SSH and submits from there.

    It takes the connection's settings from the Slurmfile, whose paths are those inside the container; key and known
    hosts are mounted there.
    """
    user, node = environment.login.user, environment.nodes[0]
    home = cluster_shell.run("mktemp --directory ~/workflow-XXXXXXXXXX").stdout.strip()
    inside = f"/home/{user}/.ssh"
    write_slurmfile(tmp_path / "Slurmfile.toml", home=home, node=node, user=user, key=f"{inside}/key")
    give_key(cluster_shell, f"{home}/ssh")
    with ExitStack() as stack:
        stack.callback(cluster_shell.run_unchecked, f"rm -rf {home}")
        cluster = stack.enter_context(sdk_cluster(environment, user, job_base_dir=home))
        cluster.slurmfile_path = str(tmp_path / "Slurmfile.toml")
        jobs = SdkJobs(cluster=cluster, node=node)
        packaging = sdk_image.packaging(mounts=[f"{home}/ssh:{inside}:ro"])
        stack.callback(remove_containers_below, every_node, cluster_shell, home)
        stack.callback(jobs.end)
        got = jobs.run(tasks.double_all, packaging, [1, 21])
    assert [child["value"] for child in got["answers"]] == [2, 42]
    assert {child["marker"] for child in got["answers"]} == {sdk_image.marker} == {got["marker"]}
    job_ids = {got["job"], *(child["job"] for child in got["answers"])}
    assert len(job_ids) == 3, "the children did not run as jobs of their own"
    assert got["workflow"] == got["job"]


# -- mounts and named containers --------------------------------------------------------------------------------------


@pytest.mark.integration_test
def test_container_with_mounts(
    slurm_pyxis_cluster: "Cluster",
    local_registry: str,
    tmp_path: Path,
    project: Project,
    pyxis_container: dict[str, Any],
) -> None:
    """Test container with volume mounts."""
    (tmp_path / "input.txt").write_text("test data", encoding="utf-8")
    # What is mounted has to be on the node, where this machine's folders are not.
    data_dir = f"{pyxis_container['job_base_dir']}/data-{project.marker}"
    slurm_pyxis_cluster.backend.upload_file(str(tmp_path / "input.txt"), f"{data_dir}/input.txt")

    @task(
        time="00:10:00",
        mem="1G",
        packaging="container",
        packaging_dockerfile=project.dockerfile(),
        packaging_registry=f"{local_registry}/test/",
        packaging_platform=project.platform,
        packaging_tls_verify=False,
        packaging_mounts=[f"{data_dir}:/data:ro"],
    )
    def read_mounted_file() -> tuple[str, str]:
        from pathlib import Path

        marker = Path("/etc/pyxis-matrix-test").read_text(encoding="utf-8").strip()
        return Path("/data/input.txt").read_text(encoding="utf-8"), marker

    with slurm_pyxis_cluster:
        job = read_mounted_file()
        assert job.wait(timeout=JOB_LIMIT), job.get_stderr()
        result = job.get_result()
    assert result == ("test data", project.marker)


def test_what_mounts_allow_and_what_can_not_be_mounted(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, tiny_image: TinyImage, cluster_shell: Shell
) -> None:
    """A read-only mount can be read and not written, a writable one both ways; what can't be mounted fails the job."""
    folder = cluster_shell.run("mktemp --directory ~/mounts-XXXXXXXXXX").stdout.strip()
    text = uuid.uuid4().hex
    cluster_shell.run(f"mkdir {folder}/ro {folder}/rw && echo {text} > {folder}/ro/given")
    wanted = sdk_image.packaging(
        mounts=[f"{folder}/ro:/mounted/ro:ro", {"source": f"{folder}/rw", "target": "/mounted/rw"}]
    )
    # This one never comes to run, so any image will do.
    tiny = {"type": "container", "image": tiny_image.pushed.written("/", ":1"), "push": False}
    missing = {**tiny, "mounts": [f"{folder}/nowhere:/mounted/nowhere:ro"]}
    honoured = sdk_jobs.submit(tasks.use_mounts, wanted, "/mounted/ro", "/mounted/rw", text)
    refused = sdk_jobs.submit(tasks.look, missing)
    assert result_of(honoured) == {
        "marker": sdk_image.marker,
        "read": text,
        "write readonly": "EROFS",
        "write writable": "written",
    }
    listing = cluster_shell.run(f"cat {folder}/rw/taken && ls {folder}/ro").stdout.split()
    assert listing == [text, "given"]
    assert not refused.wait(timeout=JOB_LIMIT, poll_interval=1.0)
    assert refused.get_status()["JobState"] == "FAILED"
    with pytest.raises(DownloadError, match="/nowhere"):
        refused.get_result()
    with pytest.raises(PackagingError, match="Invalid container mount"):
        sdk_jobs.submit(tasks.look, sdk_image.packaging(mounts=["/tmp"]))
    cluster_shell.run(f"rm -rf {folder}")


def test_named_container_of_a_task_is_used_again(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, cluster_shell: Shell, every_node: list[Node]
) -> None:
    """The SDK names each job's container and offers no name of one's own: srun joins it, and finds it afterwards.

    That it is still there is what fills disks, so that it can be removed is part of the promise.
    """
    left, text = "/opt/left-behind", uuid.uuid4().hex
    job = sdk_jobs.submit(tasks.linger, sdk_image.packaging(srun_args=["--container-writable"]), left, text)
    name = container_of(job)
    cluster_shell.run(f"until test -e {job.target_job_dir}/ready; do sleep 0.2; done")
    show = f"cat {left} {TEST_MARKER}"
    while_running = cluster_shell.run(f"srun --jobid={job.id} --overlap --container-name={name} {show}")
    cluster_shell.run(f"touch {job.target_job_dir}/go")
    assert result_of(job) == {"written": "written", "seen": True, "marker": sdk_image.marker}
    assert while_running.stdout.split() == [text, sdk_image.marker]
    afterwards = cluster_shell.run(f"srun --nodelist={sdk_jobs.node} --container-name={name} {show}")
    assert afterwards.stdout.split() == [text, sdk_image.marker]
    listed = f"srun --nodelist={sdk_jobs.node} enroot list"
    assert f"pyxis_{name}" in cluster_shell.run(listed).stdout.split()
    remove_containers(every_node, cluster_shell.environment.login.user, [name])
    assert f"pyxis_{name}" not in cluster_shell.run(listed).stdout.split()


# -- failures ---------------------------------------------------------------------------------------------------------


def test_failing_task_surfaces_its_traceback(sdk_jobs: SdkJobs, sdk_image: SdkImage) -> None:
    reason = f"on purpose {uuid.uuid4().hex}"
    job = sdk_jobs.submit(tasks.fail, sdk_image.packaging(), reason)
    assert not job.wait(timeout=JOB_LIMIT, poll_interval=1.0)
    assert job.get_status()["JobState"] == "FAILED"
    with pytest.raises(DownloadError) as caught:
        job.get_result()
    report = str(caught.value)
    # The marker in the message is what only the image has: the task failed inside it.
    assert f"ZeroDivisionError: {reason} in {sdk_image.marker}" in report
    assert "Traceback (most recent call last)" in report
    assert "in _fail_deeply" in report


def test_a_task_that_is_killed(sdk_jobs: SdkJobs, sdk_image: SdkImage) -> None:
    """It leaves neither a traceback nor a result, and its job is no less failed."""
    job = sdk_jobs.submit(tasks.end_by_a_signal, sdk_image.packaging(), signal.SIGKILL.value)
    assert not job.wait(timeout=JOB_LIMIT, poll_interval=1.0)
    assert job.get_status()["JobState"] == "FAILED"
    with pytest.raises(DownloadError):
        job.get_result()


def test_cancel_while_importing(
    *, sdk_jobs: SdkJobs, cluster_shell: Shell, login_node: Node, environment: EnvironmentFile
) -> None:
    """A job that is cancelled during its import ends as CANCELLED, and leaves no process, no work folder, no container.

    Half a layer may stay in enroot's cache, under a name that no import looks for: enroot removes it as it exits, and
    may be killed before it has. Both were seen, so neither is asserted.
    """
    user, repository = environment.login.user, f"stalls-{uuid.uuid4().hex[:12]}"
    with stalling_registry(cluster_shell) as registry:
        packaging = {"type": "container", "image": f"localhost:{registry.port}/{repository}:1", "push": False}
        job = sdk_jobs.submit(tasks.look, packaging)
        registry.wait_until_asked(job)
        importing = settled_processes(login_node, repository, user)
        folders = work_folders(importing)
        assert folders, f"the import works nowhere; this test looks in the wrong place: {importing}"
        assert job.cancel()
        assert not job.wait(timeout=JOB_LIMIT, poll_interval=0.5)
        assert job.get_status()["JobState"] == "CANCELLED"
        wait_until_gone(login_node, repository, user)
        for half_a_layer in login_node.below("/var/lib/enroot-data", named=f"*{registry.digest}*"):
            login_node.run(f"rm --recursive --force {shlex.quote(half_a_layer)}")
    left = login_node.run(f"for folder in {shlex.join(folders)}; do test ! -e $folder || echo $folder; done")
    assert not left.stdout, str(left)
    assert login_node.below("/run", named=f"*{job.id}.*") == []
    assert login_node.below("/run", named=f"*{repository}*") == []
    assert container_of(job) not in login_node.run("enroot list", user=user).stdout
