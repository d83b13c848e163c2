"""How an image is named: with `#` or `/`, by tag, by digest, by both, and for which architecture."""

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from tests.integration.registry.support import NOT_IMPORTED, Marked, imported, refused, runs, srun_unchecked
from tests.support.behaviours import Ask
from tests.support.cluster import Node, Shell
from tests.support.enroot import DOCKER_HUB, hub_at_home
from tests.support.expectations import no_such_image
from tests.support.oci.images import push
from tests.support.oci.tiny import TinyImage, busybox_image, new_marker
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


def what_becomes_of(shell: Shell, reference: str, marker: str) -> tuple[str, RemoteAnswer]:
    """Return what becomes of a reference: "taken", "refused" or "looked for on Docker Hub"; and all that was said."""
    assert shell.environment.registry
    # What is not asked of the registry itself is asked of nobody outside.
    direct = {"no_proxy": "localhost"}
    done = srun_unchecked(shell, reference, {**hub_at_home(shell.environment.registry), **direct})
    if imported(done):
        assert behind(done, marker) == []
        return "taken", done
    assert done.stdout == "", str(done)
    if f"{DOCKER_HUB}library/sha256" in done.stderr:
        # It takes the registry for a user, and `sha256` for an image of Docker Hub's.
        return "looked for on Docker Hub", done
    assert f"Invalid image reference: docker://{reference}" in done.stderr, str(done)
    return "refused", done


def test_hash_form(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    assert "#" in tiny_image.reference
    runs(cluster_shell, tiny_image.reference, tiny_image.marker)


@pytest.mark.behaviour("reference-with-slash")
def test_slash_form(cluster_shell: Shell, tiny_image: TinyImage, behaviour: Ask) -> None:
    reference = tiny_image.pushed.written("/", ":1")
    behaviour("reference-with-slash").saw(*what_becomes_of(cluster_shell, reference, tiny_image.marker))


@pytest.mark.parametrize("tag", ["", ":1"], ids=["digest", "tag-and-digest"])
@pytest.mark.parametrize(
    ("question", "separator"),
    [
        pytest.param("reference-with-digest", "#", id="#", marks=pytest.mark.behaviour("reference-with-digest")),
        pytest.param(
            "reference-with-slash-and-digest",
            "/",
            id="/",
            marks=pytest.mark.behaviour("reference-with-slash-and-digest"),
        ),
    ],
)
def test_digest(
    *, cluster_shell: Shell, tiny_image: TinyImage, behaviour: Ask, question: str, separator: str, tag: str
) -> None:
    reference = tiny_image.pushed.written(separator, f"{tag}@{tiny_image.pushed.digest}")
    behaviour(question).saw(*what_becomes_of(cluster_shell, reference, tiny_image.marker))


@pytest.mark.behaviour("reference-with-digest")
def test_digest_beats_the_tag(
    *,
    cluster_shell: Shell,
    registry_client: RegistryClient,
    login_node: Node,
    environment: EnvironmentFile,
    marked: Marked,
    behaviour: Ask,
) -> None:
    wanted = push(registry_client, f"references/{marked.marker}", "1", marked.image)
    newer = new_marker()
    moved = push(registry_client, wanted.repository, "1", busybox_image(login_node, newer, Arch(environment.arch)))
    assert moved.digest != wanted.digest
    runs(cluster_shell, moved.reference, newer)
    reference = wanted.written("#", f":1@{wanted.digest}")
    behaviour("reference-with-digest").saw(*what_becomes_of(cluster_shell, reference, marked.marker))


@pytest.mark.behaviour("reference-with-digest")
def test_digest_that_the_registry_does_not_have(
    cluster_shell: Shell, tiny_image: TinyImage, cell: Cell, behaviour: Ask
) -> None:
    reference = tiny_image.pushed.written("#", f"@sha256:{'0' * 64}")
    said = refused(cluster_shell, reference, NOT_IMPORTED)
    invalid = f"Invalid image reference: docker://{reference}" in said
    assert invalid or no_such_image(cell) in said, said
    behaviour("reference-with-digest").saw("refused" if invalid else "taken", said)


def test_tag_is_latest_by_default(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    pushed = push(registry_client, f"references/{marked.marker}", "latest", marked.image)
    runs(cluster_shell, pushed.written("#", ""), marked.marker)


def test_tag_that_moved_is_pulled_again(
    cluster_shell: Shell,
    registry_client: RegistryClient,
    login_node: Node,
    environment: EnvironmentFile,
    marked: Marked,
) -> None:
    first = push(registry_client, f"references/{marked.marker}", "1", marked.image)
    runs(cluster_shell, first.reference, marked.marker)
    newer = new_marker()
    push(registry_client, first.repository, "1", busybox_image(login_node, newer, Arch(environment.arch)))
    runs(cluster_shell, first.reference, newer)


def test_two_hashes(cluster_shell: Shell, tiny_image: TinyImage) -> None:
    twice = tiny_image.reference.replace("#", "##", 1)
    refused(cluster_shell, twice, "Invalid image reference")
    refused(cluster_shell, tiny_image.reference.replace("/", "#", 1), "Invalid image reference")


@pytest.mark.parametrize("arch", list(Arch))
def test_architecture_by_the_name_that_uname_has(
    cluster_shell: Shell, registry_client: RegistryClient, login_node: Node, arch: Arch
) -> None:
    markers = {it: new_marker() for it in Arch}
    images = [busybox_image(login_node, marker, it) for it, marker in markers.items()]
    pushed = push(registry_client, f"references/{markers[arch]}", "1", *images)
    done = cluster_shell.run(
        f"cd $(mktemp -d) && enroot import --arch {arch.uname} --output image.sqsh 'docker://{pushed.reference}'"
        " && unsquashfs -cat image.sqsh etc/pyxis-matrix-image"
    )
    assert markers[arch] in done.stdout


@pytest.mark.parametrize("name", ["amd64", "arm64", "x64"])
def test_architecture_by_any_other_name(cluster_shell: Shell, tiny_image: TinyImage, name: str) -> None:
    done = cluster_shell.run_unchecked(
        f"cd $(mktemp -d) && enroot import --arch {name} --output image.sqsh 'docker://{tiny_image.reference}'"
    )
    assert done.status != 0, str(done)
    assert f"Unsupported architecture: {name}" in done.stdout + done.stderr, str(done)
