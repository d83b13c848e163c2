"""Beyond the main job: arrays, mounts, workflows, failures, cancellation, several users and several nodes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
import hashlib
from pathlib import Path
import secrets
import shlex
from typing import TYPE_CHECKING, Any
import uuid

import pytest
from slurm.errors import DownloadError, PackagingError

from ci.environment.ssh import Completed
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from tests.integration import container_tasks as tasks
from tests.integration.advanced_registry import (
    content_of,
    manifest_of,
    processes,
    stalling_registry,
    wait_until_gone,
    work_folders,
)
from tests.integration.advanced_support import (
    TEST_MARKER,
    SdkImage,
    SdkJobs,
    container_of,
    give_key,
    remove_containers,
    remove_containers_below,
    result_of,
    sdk_cluster,
    write_slurmfile,
)
from tests.integration.container_support import (
    IMAGE_MARKER,
    IMAGE_MARKER_TEXT,
    JOB_LIMIT,
    Node,
    Registry,
    Shell,
    enroot_form,
    open_gpu,
    shell,
)
from tests.integration.expectations import answer
from tests.integration.oci import Layer, TinyImage, busybox_image, new_marker, push

if TYPE_CHECKING:
    from slurm.array_job import ArrayJob

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

Packaging = Callable[..., dict[str, object]]


# -- arrays and chains ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sdk_on_pyxis_cluster")
def test_array_job_with_containers(sdk_image: SdkImage, environment: EnvironmentFile, every_node: list[Node]) -> None:
    """The first element ends last, and its result still comes first."""
    in_image = sdk_image.holding(tasks.element)
    items = [{"number": 0, "after": 2}, {"number": 1, "after": None}, {"number": 2, "after": 1}]
    array: ArrayJob[Any] = in_image.map(items)
    try:
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
    finally:
        remove_containers(every_node, environment.login.user, [container_of(job) for job in array])


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
    slurm_pyxis_cluster: Shell,
    every_node: list[Node],
    tmp_path: Path,
) -> None:
    """The SDK's way: the workflow's container has no Slurm, it enters the login node over SSH and submits from there.

    It takes the connection's settings from the Slurmfile, whose paths are those inside the container; key and known
    hosts are mounted there.
    """
    user, node = environment.login.user, environment.nodes[0]
    home = slurm_pyxis_cluster.run("mktemp --directory ~/workflow-XXXXXXXXXX").stdout.strip()
    inside = f"/home/{user}/.ssh"
    write_slurmfile(tmp_path / "Slurmfile.toml", home=home, node=node, user=user, key=f"{inside}/key")
    give_key(slurm_pyxis_cluster, f"{home}/ssh")
    with ExitStack() as stack:
        stack.callback(slurm_pyxis_cluster.run_unchecked, f"rm -rf {home}")
        cluster = stack.enter_context(sdk_cluster(environment, user, job_base_dir=home))
        cluster.slurmfile_path = str(tmp_path / "Slurmfile.toml")
        jobs = SdkJobs(cluster=cluster, node=node)
        packaging = sdk_image.packaging(mounts=[f"{home}/ssh:{inside}:ro"])
        stack.callback(remove_containers_below, every_node, slurm_pyxis_cluster, home)
        stack.callback(jobs.end)
        got = jobs.run(tasks.double_all, packaging, [1, 21])
    assert [child["value"] for child in got["answers"]] == [2, 42]
    assert {child["marker"] for child in got["answers"]} == {sdk_image.marker} == {got["marker"]}
    job_ids = {got["job"], *(child["job"] for child in got["answers"])}
    assert len(job_ids) == 3, "the children did not run as jobs of their own"
    assert got["workflow"] == got["job"]


# -- mounts and named containers --------------------------------------------------------------------------------------


def test_container_with_mounts(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, tiny_image: TinyImage, slurm_pyxis_cluster: Shell
) -> None:
    """A read-only mount can be read and not written, a writable one both ways; what can't be mounted fails the job."""
    folder = slurm_pyxis_cluster.run("mktemp --directory ~/mounts-XXXXXXXXXX").stdout.strip()
    text = uuid.uuid4().hex
    slurm_pyxis_cluster.run(f"mkdir {folder}/ro {folder}/rw && echo {text} > {folder}/ro/given")
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
    listing = slurm_pyxis_cluster.run(f"cat {folder}/rw/taken && ls {folder}/ro").stdout.split()
    assert listing == [text, "given"]
    assert not refused.wait(timeout=JOB_LIMIT, poll_interval=1.0)
    assert refused.get_status()["JobState"] == "FAILED"
    with pytest.raises(DownloadError, match="/nowhere"):
        refused.get_result()
    with pytest.raises(PackagingError, match="Invalid container mount"):
        sdk_jobs.submit(tasks.look, sdk_image.packaging(mounts=["/tmp"]))
    slurm_pyxis_cluster.run(f"rm -rf {folder}")


def test_named_container_of_a_task_is_used_again(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, slurm_pyxis_cluster: Shell, every_node: list[Node]
) -> None:
    """The SDK names each job's container and offers no name of one's own: srun joins it, and finds it afterwards.

    That it is still there is what fills disks, so that it can be removed is part of the promise.
    """
    left, text = "/opt/left-behind", uuid.uuid4().hex
    job = sdk_jobs.submit(tasks.linger, sdk_image.packaging(srun_args=["--container-writable"]), left, text)
    name = container_of(job)
    slurm_pyxis_cluster.run(f"until test -e {job.target_job_dir}/ready; do sleep 0.2; done")
    show = f"cat {left} {TEST_MARKER}"
    while_running = slurm_pyxis_cluster.run(f"srun --jobid={job.id} --overlap --container-name={name} {show}")
    slurm_pyxis_cluster.run(f"touch {job.target_job_dir}/go")
    assert result_of(job) == {"written": "written", "seen": True, "marker": sdk_image.marker}
    assert while_running.stdout.split() == [text, sdk_image.marker]
    afterwards = slurm_pyxis_cluster.run(f"srun --nodelist={sdk_jobs.node} --container-name={name} {show}")
    assert afterwards.stdout.split() == [text, sdk_image.marker]
    listed = f"srun --nodelist={sdk_jobs.node} enroot list"
    assert f"pyxis_{name}" in slurm_pyxis_cluster.run(listed).stdout.split()
    remove_containers(every_node, slurm_pyxis_cluster.environment.login.user, [name])
    assert f"pyxis_{name}" not in slurm_pyxis_cluster.run(listed).stdout.split()


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


def test_cancel_while_importing(
    *, sdk_jobs: SdkJobs, slurm_pyxis_cluster: Shell, pyxis_container: Node, environment: EnvironmentFile
) -> None:
    """A job that is cancelled during its import ends as CANCELLED, and leaves no process, no work folder, no container.

    Half a layer may stay in enroot's cache, under a name that no import looks for: enroot removes it as it exits, and
    may be killed before it has. Both were seen, so neither is asserted.
    """
    user, repository = environment.login.user, f"stalls-{uuid.uuid4().hex[:12]}"
    with stalling_registry(slurm_pyxis_cluster) as registry:
        packaging = {"type": "container", "image": f"localhost:{registry.port}/{repository}:1", "push": False}
        job = sdk_jobs.submit(tasks.look, packaging)
        registry.wait_until_asked(job)
        importing = processes(pyxis_container, repository, user)
        folders = work_folders(importing)
        assert folders, f"the import works nowhere; this test looks in the wrong place: {importing}"
        assert job.cancel()
        assert not job.wait(timeout=JOB_LIMIT, poll_interval=0.5)
        assert job.get_status()["JobState"] == "CANCELLED"
        wait_until_gone(pyxis_container, repository, user)
        pyxis_container.run(f"find /var/lib/enroot-data -name '*{registry.digest}*' -delete")
    assert not pyxis_container.run(f"ls --directory {shlex.join(folders)}").stdout
    files = pyxis_container.run(f"find /run/pyxis /run/enroot -name '*{job.id}.*' -o -name '*{repository}*'")
    assert not files.stdout, str(files)
    assert container_of(job) not in pyxis_container.run("enroot list", user=user).stdout


# -- images: digests, secrets, tags -----------------------------------------------------------------------------------


def test_digest_is_recorded_with_the_job(
    *,
    sdk_jobs: SdkJobs,
    sdk_image: SdkImage,
    tmp_path: Path,
    built_from: Packaging,
    local_registry: Registry,
) -> None:
    """`use_digest` writes down the digest that the registry has; the job itself goes by the unique tag.

    The SDK asks registries for digests over https only. Ours speaks plain http, so what it records comes from the
    engine that pushed the image, and has to be the same.
    """
    name = f"digest-{uuid.uuid4().hex[:8]}"
    context = sdk_image.context(tmp_path, f"RUN echo {name} > {TEST_MARKER}")
    job = sdk_jobs.submit(tasks.look, built_from(context, name, tag="pinned", use_digest=True))
    assert result_of(job)["marker"] == name
    _, digest = manifest_of(local_registry, f"sdk/{name}", "pinned")
    assert f"# Container digest: {local_registry.address}/sdk/{name}@{digest}" in job.get_script().splitlines()


def test_digest_pins_an_image_whose_tag_has_moved(
    *, slurm_pyxis_cluster: Shell, local_registry: Registry, tiny_image: TinyImage, cell: Cell
) -> None:
    repository = f"advanced/{new_marker()}"
    old, new = new_marker(), new_marker()
    pinned = push(local_registry.address, repository, "1", tiny_image.image.plus(_marked(old)))
    moved = push(local_registry.address, repository, "1", tiny_image.image.plus(_marked(new)))
    assert slurm_pyxis_cluster.srun("cat", IMAGE_MARKER, image=moved.reference).stdout.strip() == new
    reference = pinned.written("#", f"@{pinned.digest}")
    done = slurm_pyxis_cluster.srun_unchecked("cat", IMAGE_MARKER, image=reference)
    # enroot before 4.0.0 knows no digests: it has to say so, and not to run anything else instead.
    expected = answer(cell, {("enroot", "<4.0.0"): (False, ""), ("enroot", ">=4.0.0"): (True, old)})
    assert (done.status == 0, done.stdout.strip()) == expected, str(done)


def test_build_secrets_are_used_and_stay_out_of_the_image(
    *,
    sdk_jobs: SdkJobs,
    sdk_image: SdkImage,
    tmp_path: Path,
    built_from: Packaging,
    local_registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A secret from a variable and one from a file are there while the image is built, and in none of its parts."""
    values = {"by-file": secrets.token_hex(24), "by-variable": secrets.token_hex(24)}
    file = tmp_path_factory.mktemp("secrets") / "secret"
    file.write_text(values["by-file"], encoding="utf-8")
    monkeypatch.setenv("PYXIS_MATRIX_TEST_SECRET", values["by-variable"])
    name = f"secrets-{uuid.uuid4().hex[:8]}"
    context = sdk_image.context(
        tmp_path,
        *(
            f"RUN --mount=type=secret,id={secret} sha256sum < /run/secrets/{secret} | cut -c1-64 > /etc/{secret}"
            for secret in values
        ),
        f"RUN echo {name} > {TEST_MARKER}",
    )
    given = [{"id": "by-file", "file": str(file)}, {"id": "by-variable", "env": "PYXIS_MATRIX_TEST_SECRET"}]
    packaging = built_from(context, name, tag="1", build_secrets=given)
    seen = sdk_jobs.run(tasks.look, packaging, *(f"/etc/{secret}" for secret in values), "/run/secrets/by-file")
    assert seen["marker"] == name
    proofs = {f"/etc/{secret}": hashlib.sha256(value.encode()).hexdigest() for secret, value in values.items()}
    assert seen["files"] == {**proofs, "/run/secrets/by-file": None}
    manifest, _ = manifest_of(local_registry, f"sdk/{name}", "1")
    base_name, _, base_tag = sdk_image.reference.partition("/")[2].rpartition(":")
    base, _ = manifest_of(local_registry, base_name, base_tag)
    # The layers below were there before the secrets were made.
    older = {layer["digest"] for layer in base["layers"]}
    parts = {part["digest"] for part in (manifest["config"], *manifest["layers"])} - older
    contents = [content_of(local_registry, f"sdk/{name}", digest) for digest in sorted(parts)]
    proof = proofs["/etc/by-file"].encode()
    assert any(proof in content for content in contents), "the layer with the proof is not among those looked through"
    for value in values.values():
        assert not any(value.encode() in content for content in contents)


def test_rebuilt_tag_is_imported_again(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, tmp_path: Path, built_from: Packaging, local_registry: Registry
) -> None:
    name = f"rebuilt-{uuid.uuid4().hex[:8]}"
    context = sdk_image.context(tmp_path, f"RUN echo {name}-first > {TEST_MARKER}")
    containerfile = context / "Containerfile"
    first = sdk_jobs.run(tasks.look, built_from(context, name, tag="same"))
    text = containerfile.read_text(encoding="utf-8")
    containerfile.write_text(text.replace(f"{name}-first", f"{name}-second"), encoding="utf-8")
    second = sdk_jobs.run(tasks.look, built_from(context, name, tag="same"))
    assert [first["marker"], second["marker"]] == [f"{name}-first", f"{name}-second"]
    assert local_registry.tags(f"sdk/{name}") == ["same"]


def _marked(marker: str) -> Layer:
    return Layer.of({IMAGE_MARKER: f"{marker}\n"})


# -- several users, many jobs, several nodes --------------------------------------------------------------------------


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
    *, environment: EnvironmentFile, local_registry: Registry, pyxis_container: Node, slurm_pyxis_cluster: Shell
) -> None:
    """Six steps of two users start together on an image of several layers that no cache has."""
    marker = new_marker()
    content = [secrets.token_bytes(2_000_000) for _ in range(6)]
    bulk = [Layer.of({f"/srv/{number}": data}) for number, data in enumerate(content)]
    image = busybox_image(pyxis_container, marker, Arch(environment.arch)).plus(*bulk)
    pushed = push(local_registry.address, f"advanced/{marker}", "1", image)
    show = f"cat {IMAGE_MARKER} && cat /srv/* | sha256sum && id -u"
    with shell(environment, environment.second_user) as theirs, ThreadPoolExecutor(6) as pool:

        def run(who: Shell) -> Completed:
            return who.srun_unchecked("sh", "-c", show, image=pushed.reference)

        done = list(pool.map(run, [slurm_pyxis_cluster, theirs] * 3))
    assert [it.status for it in done] == [0] * 6, "\n".join(str(it) for it in done if it.status)
    uids = [
        pyxis_container.run(f"id -u {user}").stdout.strip()
        for user in (environment.login.user, environment.second_user)
    ]
    whole = hashlib.sha256(b"".join(content)).hexdigest()
    assert [it.stdout.splitlines()[1].split()[0] for it in done] == [whole] * 6
    assert [it.stdout.splitlines()[0] for it in done] == [marker] * 6
    assert [it.stdout.splitlines()[2] for it in done] == uids * 3


def test_tasks_of_one_step_share_a_container(
    *, slurm_pyxis_cluster: Shell, tiny_image: TinyImage, environment: EnvironmentFile
) -> None:
    """Several tasks on a node: one import, one container, in which all of them see each other's files."""
    folder = f"/tmp/{uuid.uuid4().hex}"
    script = (
        f"mkdir -p {folder} && touch {folder}/$SLURM_PROCID; "
        f"until test $(ls {folder} | wc -l) = 4; do sleep 0.1; done; cat {IMAGE_MARKER}; stat -c %d:%i {folder}"
    )
    step = ["--nodes=1", f"--nodelist={environment.nodes[0]}", "--ntasks=4", "--container-writable"]
    done = slurm_pyxis_cluster.srun(*step, "sh", "-c", script, image=tiny_image.reference)
    lines = done.stdout.splitlines()
    assert lines.count(tiny_image.marker) == 4, str(done)
    assert len(set(lines)) == 2, str(done)
    assert done.stderr.count("imported docker image") == 1, str(done)


def test_multi_node_job(
    *,
    slurm_pyxis_cluster: Shell,
    tiny_image: TinyImage,
    environment: EnvironmentFile,
    sdk_jobs: SdkJobs,
    sdk_image: SdkImage,
) -> None:
    """Every node imports the image and runs in it, within one step and for a job of the SDK on the last node."""
    nodes = environment.nodes
    if len(nodes) < 3:
        pytest.skip(
            f'it needs 3 nodes and there is {len(nodes)}: nox -s "pyxis_advanced({environment.cell})" -- --nodes 3'
        )
    done = slurm_pyxis_cluster.srun(
        f"--nodes={len(nodes)}",
        f"--ntasks={len(nodes)}",
        "sh",
        "-c",
        f"echo $SLURMD_NODENAME $(cat {IMAGE_MARKER})",
        image=tiny_image.reference,
    )
    assert sorted(done.stdout.split("\n")) == ["", *sorted(f"{node} {tiny_image.marker}" for node in nodes)]
    seen = sdk_jobs.run(tasks.look, sdk_image.packaging(), nodelist=nodes[-1])
    assert (seen["host"], seen["marker"]) == (nodes[-1], sdk_image.marker)


def test_gpu_is_seen_in_the_image(
    slurm_pyxis_cluster: Shell, tiny_image: TinyImage, environment: EnvironmentFile
) -> None:
    """Slurm gives a GPU out, and the job can open its device in the image."""
    if not environment.gpus:
        pytest.skip(
            "it needs a GPU in the nodes, which the engine has to have: "
            f'nox -s "pyxis_advanced({environment.cell})" -- --gpus 1'
        )
    done = slurm_pyxis_cluster.srun(*open_gpu(), image=tiny_image.reference)
    marker, device, opened = done.stdout.splitlines()
    assert (marker, opened) == (tiny_image.marker, "opened")
    assert int(device) in range(environment.gpus)
