"""Plain http: the environment's own registry, and what happens where there is none or no such image."""

from dataclasses import replace
import time

import pytest

from ci.matrix.cells import Cell
from tests.integration.registry.support import (
    HTTPS_ONLY,
    NOT_IMPORTED,
    Marked,
    Registries,
    new_name,
    refused,
    runs,
    srun_unchecked,
)
from tests.support.cluster import Shell
from tests.support.expectations import differs, no_such_image
from tests.support.oci.images import push
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

AT_ONCE = 30.0
"""In seconds; enroot's own limit for a connection that nobody answers (ENROOT_CONNECT_TIMEOUT)."""


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


def test_a_deleted_image_is_gone(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, cell: Cell
) -> None:
    pushed = push(registry_client, f"registry/{marked.marker}", "1", marked.image)
    runs(cluster_shell, pushed.reference, marked.marker)
    registry_client.delete_manifest(pushed.repository, pushed.digest)
    refused(cluster_shell, pushed.reference, no_such_image(cell))


def test_unknown_tag_is_reported_once(cluster_shell: Shell, tiny_image: TinyImage, cell: Cell) -> None:
    # Two tasks on one node share one import, so there is one failure to read and not one per task.
    missing = tiny_image.pushed.written("#", ":nothing-has-this-tag")
    said = refused(cluster_shell, missing, no_such_image(cell), options=("--nodes=1", "--ntasks=2"))
    assert said.count(NOT_IMPORTED) == 1, said


def test_unknown_tag_is_named(cluster_shell: Shell, tiny_image: TinyImage, cell: Cell) -> None:
    says = "manifest unknown" if differs(cell, "words of a registry that refuses") else "error code: 404 Not Found"
    refused(cluster_shell, tiny_image.pushed.written("#", ":nothing-has-this-tag"), says)


def test_stopped_registry_fails_at_once(cluster_shell: Shell, registries: Registries, marked: Marked) -> None:
    own = registries.start(new_name("stopped"))
    pushed = own.push("team/img", "1", marked.image)
    runs(cluster_shell, pushed.reference, marked.marker)
    # Its name goes with it, and its address may be another one's soon; the next test has the connection itself refused.
    own.container.kill()
    began = time.monotonic()
    refused(cluster_shell, pushed.reference, NOT_IMPORTED)
    assert time.monotonic() - began < AT_ONCE


def test_nothing_listens_on_the_port(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    # Port 1 of the node itself: the connection is refused at once, and nothing is asked twice.
    began = time.monotonic()
    refused(cluster_shell, replace(tiny_image.pushed, address="localhost:1").reference, NOT_IMPORTED)
    assert time.monotonic() - began < AT_ONCE
    # Nothing but the port is wrong.
    runs(cluster_shell, tiny_image.reference, tiny_image.marker)


@pytest.mark.usefixtures("https_on_request")
def test_job_can_not_turn_plain_http_on(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    refused(cluster_shell, tiny_image.reference, NOT_IMPORTED, {**HTTPS_ONLY, "ENROOT_ALLOW_HTTP": "yes"})
    runs(cluster_shell, tiny_image.reference, tiny_image.marker, {"ENROOT_ALLOW_HTTP": "yes"})


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


def test_import_leaves_nothing_behind_when_it_fails(cluster_shell: Shell, tiny_image: TinyImage, cell: Cell) -> None:
    missing = tiny_image.pushed.written("#", ":nothing-has-this-tag")
    name = f"left-{tiny_image.marker}"
    refused(cluster_shell, missing, no_such_image(cell), options=(f"--container-name={name}",))
    assert f"pyxis_{name}" not in cluster_shell.run("enroot list").stdout.split()
    # And this is where it would be.
    done = srun_unchecked(cluster_shell, tiny_image.reference, options=(f"--container-name={name}",))
    assert behind(done, tiny_image.marker) == []
    assert f"pyxis_{name}" in cluster_shell.run("enroot list").stdout.split()
    cluster_shell.run(f"enroot remove --force pyxis_{name}")
