"""Plain http: the environment's own registry, and what happens where there is none or no such image."""

import pytest

from ci.environment.registry_client import RegistryClient
from ci.matrix.cells import Cell
from tests.integration.registry.support import (
    HTTPS_ONLY,
    Marked,
    Registries,
    new_name,
    refused,
    runs,
    srun,
)
from tests.support.cluster import Shell
from tests.support.expectations import differs
from tests.support.oci.images import push
from tests.support.oci.tiny import TinyImage

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


def test_plain_http(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    runs(cluster_shell, tiny_image.reference, tiny_image.marker)


def test_one_word_repository(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    # Only Docker Hub has a `library/`; asked for with it, this image would not be found (NVIDIA/enroot#7, #70).
    pushed = push(registry_client, marked.marker, "1", marked.image)
    assert "/" not in pushed.repository
    runs(cluster_shell, pushed.reference, marked.marker)


def test_own_registry_by_its_name(cluster_shell: Shell, registries: Registries, marked: Marked) -> None:
    own = registries.start(new_name("plain"))
    runs(cluster_shell, own.push("team/img", "1", marked.image).reference, marked.marker)


def test_unknown_tag_is_reported_once(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    # Two tasks on one node share one import, so there is one failure to read and not one per task.
    missing = tiny_image.pushed.written("#", ":nothing-has-this-tag")
    said = refused(cluster_shell, missing, options=("--nodes=1", "--ntasks=2"))
    assert said.count("failed to import docker image") == 1, said


def test_unknown_tag_is_named(cluster_shell: Shell, tiny_image: TinyImage, cell: Cell) -> None:
    said = refused(cluster_shell, tiny_image.pushed.written("#", ":nothing-has-this-tag"))
    assert ("manifest unknown" if differs(cell, "words of a registry that refuses") else "404 Not Found") in said


def test_stopped_registry_fails_at_once(cluster_shell: Shell, registries: Registries, marked: Marked) -> None:
    own = registries.start(new_name("stopped"))
    pushed = own.push("team/img", "1", marked.image)
    # Its name goes with it, and its address may be another one's soon; the next test has the connection itself refused.
    own.container.kill()
    said = refused(cluster_shell, pushed.reference)
    assert "could not resolve host" in said.lower() or f"lookup {own.name}" in said.lower(), said


def test_nothing_listens_on_the_port(cluster_shell: Shell) -> None:
    # Port 1 of the node itself: the connection is refused at once, and nothing is asked twice.
    said = refused(cluster_shell, "localhost:1#team/img:1")
    assert "refused" in said.lower() or "couldn't connect" in said.lower() or "failed to connect" in said.lower(), said


@pytest.mark.usefixtures("https_on_request")
def test_job_can_not_turn_plain_http_on(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    said = refused(cluster_shell, tiny_image.reference, {**HTTPS_ONLY, "ENROOT_ALLOW_HTTP": "yes"})
    assert "SSL" in said or "TLS" in said or "HTTPS client" in said, said


def test_job_can_not_turn_plain_http_off(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    runs(cluster_shell, tiny_image.reference, tiny_image.marker, {"ENROOT_ALLOW_HTTP": "no"})


@pytest.mark.usefixtures("https_on_request")
@pytest.mark.parametrize(("allowed", "works"), [("yes", True), ("no", False)])
def test_enroot_itself_reads_the_variable(
    cluster_shell: Shell, tiny_image: TinyImage, *, allowed: str, works: bool
) -> None:
    done = cluster_shell.run_unchecked(
        f"cd $(mktemp -d) && env PYXIS_MATRIX_PLAIN_HTTP=no ENROOT_ALLOW_HTTP={allowed}"
        f" enroot import --output image.sqsh 'docker://{tiny_image.reference}'"
        " && unsquashfs -cat image.sqsh etc/pyxis-matrix-image"
    )
    assert (done.status == 0) is works, str(done)
    assert (tiny_image.marker in done.stdout) is works, str(done)


def test_import_leaves_nothing_behind_when_it_fails(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    missing = tiny_image.pushed.written("#", ":nothing-has-this-tag")
    done = srun(cluster_shell, missing, options=(f"--container-name={tiny_image.marker}",))
    assert done.status != 0, str(done)
    assert tiny_image.marker not in cluster_shell.run("enroot list").stdout
