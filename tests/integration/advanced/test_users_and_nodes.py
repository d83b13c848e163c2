"""Several users, many jobs at once, several tasks, nodes and GPUs."""

from concurrent.futures import ThreadPoolExecutor
import hashlib
import re
import secrets
import uuid

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.errors import suite_session
from ci.matrix.arch import Arch
from tests.integration.advanced import tasks
from tests.integration.advanced.image import SdkImage
from tests.integration.advanced.jobs import SdkJobs, result_of, sdk_cluster
from tests.support.cluster import Node, Shell, shell
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import push
from tests.support.oci.layers import Layer
from tests.support.oci.tiny import TinyImage, busybox_image, new_marker
from tests.support.proof import behind, open_gpu
from tests.support.registry_client import RegistryClient
from tests.support.sdk_containers import container_of, remove_containers

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


def test_two_users_at_once(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, environment: EnvironmentFile, every_node: list[Node]
) -> None:
    """Two users' jobs take the same image at the same time; each runs as its user, in a container of its own."""
    users = (environment.login.user, environment.second_user)
    with sdk_cluster(environment, environment.second_user) as theirs:
        others = SdkJobs(cluster=theirs, node=sdk_jobs.node)
        jobs = [each.submit(tasks.look, sdk_image.packaging()) for each in (sdk_jobs, others)]
        try:
            seen = [result_of(job) for job in jobs]
            lists = [every_node[0].run("enroot list", user=user).stdout for user in users]
        finally:
            others.end()
            remove_containers(every_node, environment.second_user, [container_of(job) for job in others.submitted])
    uids = [int(every_node[0].run(f"id -u {user}").stdout) for user in users]
    assert [(it["uid"], it["marker"]) for it in seen] == [(uid, sdk_image.marker) for uid in uids]
    where = [[container_of(job) in listed for job in jobs] for listed in lists]
    assert where == [[True, False], [False, True]], "a container is not its user's own"


def test_many_imports_of_one_image_at_once(
    *, environment: EnvironmentFile, registry_client: RegistryClient, login_node: Node, cluster_shell: Shell
) -> None:
    """Six steps of two users start together on an image of several layers that no cache has."""
    marker = new_marker()
    content = [secrets.token_bytes(2_000_000) for _ in range(6)]
    bulk = [Layer.of({f"/srv/{number}": data}) for number, data in enumerate(content)]
    image = busybox_image(login_node, marker, Arch(environment.arch)).plus(*bulk)
    pushed = push(registry_client, f"advanced/{marker}", "1", image)
    show = f"cat {IMAGE_MARKER} && cat /srv/* | sha256sum && id -u"
    with shell(environment, environment.second_user) as theirs, ThreadPoolExecutor(6) as pool:

        def run(who: Shell) -> RemoteAnswer:
            return who.srun_unchecked("sh", "-c", show, image=pushed.reference)

        done = list(pool.map(run, [cluster_shell, theirs] * 3))
    assert [it.status for it in done] == [0] * 6, "\n".join(str(it) for it in done if it.status)
    uids = [
        login_node.run(f"id -u {user}").stdout.strip() for user in (environment.login.user, environment.second_user)
    ]
    whole = hashlib.sha256(b"".join(content)).hexdigest()
    assert [it.stdout.splitlines()[1].split()[0] for it in done] == [whole] * 6
    assert [it.stdout.splitlines()[0] for it in done] == [marker] * 6
    assert [it.stdout.splitlines()[2] for it in done] == uids * 3


def test_tasks_of_one_step_share_a_container(
    *, cluster_shell: Shell, tiny_image: TinyImage, environment: EnvironmentFile
) -> None:
    """Several tasks on a node: one import, one container, in which all of them see each other's files."""
    folder = f"/tmp/{uuid.uuid4().hex}"
    script = (
        f"mkdir -p {folder} && touch {folder}/$SLURM_PROCID; "
        f"until test $(ls {folder} | wc -l) = 4; do sleep 0.1; done; cat {IMAGE_MARKER}; stat -c %d:%i {folder}"
    )
    step = ["--nodes=1", f"--nodelist={environment.nodes[0]}", "--ntasks=4", "--container-writable"]
    done = cluster_shell.srun(*step, "sh", "-c", script, image=tiny_image.reference)
    lines = done.stdout.splitlines()
    assert lines.count(tiny_image.marker) == 4, str(done)
    assert len({line for line in lines if re.fullmatch(r"\d+:\d+", line)}) == 1, str(done)
    assert done.stderr.count("imported docker image") == 1, str(done)


def test_multi_node_job(
    *,
    cluster_shell: Shell,
    tiny_image: TinyImage,
    three_nodes: tuple[str, ...],
    sdk_jobs: SdkJobs,
    sdk_image: SdkImage,
) -> None:
    """Every node imports the image and runs in it, within one step and for a job of the SDK on the last node."""
    done = cluster_shell.srun(
        f"--nodes={len(three_nodes)}",
        f"--ntasks={len(three_nodes)}",
        "sh",
        "-c",
        f"echo $SLURMD_NODENAME $(cat {IMAGE_MARKER})",
        image=tiny_image.reference,
    )
    assert {f"{node} {tiny_image.marker}" for node in three_nodes} <= set(done.stdout.splitlines()), str(done)
    seen = sdk_jobs.run(tasks.look, sdk_image.packaging(), nodelist=three_nodes[-1])
    assert (seen["host"], seen["marker"]) == (three_nodes[-1], sdk_image.marker)


def test_gpu_is_seen_in_the_image(cluster_shell: Shell, tiny_image: TinyImage, environment: EnvironmentFile) -> None:
    """Slurm gives a GPU out, and the job can open its device in the image."""
    if not environment.gpus:
        command = suite_session("pyxis_advanced", environment.cell, "--gpus 1")
        pytest.skip(f"it needs a GPU in the nodes, which the engine has to have: {command}")
    done = cluster_shell.srun(*open_gpu(), image=tiny_image.reference)
    device, opened = behind(done, tiny_image.marker)
    assert opened == "opened"
    assert int(device) in range(environment.gpus)
