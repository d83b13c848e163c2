"""Every format in which an image can be stored, from every kind of registry.

A registry that asks for nothing shows a fault of enroot: its first request accepts no OCI format, so a self-hosted
registry answers 404 (NVIDIA/enroot PR 273). Docker Hub and its like answer "token, please" first, which hides it.
"""

from collections.abc import Callable
from dataclasses import replace
import secrets
from typing import Any

import pytest

from ci.environment.registry_client import RegistryClient
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from tests.integration.registry.support import (
    TOKEN_REPOSITORY,
    LoginRegistry,
    Marked,
    OwnRegistry,
    refused,
    runs,
    user_files,
)
from tests.support.cluster import Node, Shell
from tests.support.expectations import differs, since
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import Form, Image, Pushed, push
from tests.support.oci.layers import Compression, Layer
from tests.support.oci.tiny import busybox_image, busybox_layer, new_marker

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

FORMATS: dict[str, dict[str, Any]] = {
    "docker-v2s2": {"form": Form.V2S2},
    "docker-list": {"form": Form.V2S2, "index": True},
    "oci-manifest": {"form": Form.OCI},
    "oci-index": {"form": Form.OCI, "index": True},
    "oci-index-with-attestation": {"form": Form.OCI, "attestation": True},
}
GZIP, ZSTD = Compression.GZIP, Compression.ZSTD

Pusher = Callable[..., Pushed]


@pytest.fixture
def to_token_registry(token_registry: OwnRegistry) -> Pusher:
    """Return a function that pushes into the registry which passes enroot's first request: OCI images work."""
    return lambda *images, **how: token_registry.push(TOKEN_REPOSITORY, new_marker(), *images, **how)


@pytest.fixture
def other_arch(environment: EnvironmentFile) -> Arch:
    """Return the architecture that the nodes don't have."""
    return next(arch for arch in Arch if arch.value != environment.arch)


@pytest.mark.parametrize("stored", FORMATS)
def test_format_without_login(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, stored: str
) -> None:
    pushed = push(registry_client, f"formats/{marked.marker}", "1", marked.image, **FORMATS[stored])
    runs(cluster_shell, pushed.reference, marked.marker)


@pytest.mark.parametrize("stored", FORMATS)
def test_format_with_token(cluster_shell: Shell, to_token_registry: Pusher, marked: Marked, stored: str) -> None:
    runs(cluster_shell, to_token_registry(marked.image, **FORMATS[stored]).reference, marked.marker)


@pytest.mark.parametrize("stored", FORMATS)
def test_format_with_password(cluster_shell: Shell, login_registry: LoginRegistry, marked: Marked, stored: str) -> None:
    own = login_registry.registry
    line = f"machine {own.name} login {login_registry.user} password {login_registry.password}\n"
    known = {"ENROOT_CONFIG_PATH": user_files(cluster_shell, {".credentials": line})}
    pushed = own.push("formats/img", marked.marker, marked.image, **FORMATS[stored])
    runs(cluster_shell, pushed.reference, marked.marker, known)


# -- several architectures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(Form))
def test_index_gives_the_node_its_own_architecture(
    *,
    cluster_shell: Shell,
    to_token_registry: Pusher,
    login_node: Node,
    marked: Marked,
    other_arch: Arch,
    form: Form,
) -> None:
    foreign = busybox_image(login_node, new_marker(), other_arch)
    for images in [(foreign, marked.image), (marked.image, foreign)]:
        runs(cluster_shell, to_token_registry(*images, form=form).reference, marked.marker)


def test_docker_list_without_login_gives_the_node_its_own_architecture(
    cluster_shell: Shell, registry_client: RegistryClient, login_node: Node, marked: Marked, other_arch: Arch
) -> None:
    foreign = busybox_image(login_node, new_marker(), other_arch)
    pushed = push(registry_client, f"formats/{marked.marker}", "1", foreign, marked.image)
    runs(cluster_shell, pushed.reference, marked.marker)


@pytest.mark.parametrize("form", list(Form))
def test_index_without_the_nodes_architecture(
    *,
    cluster_shell: Shell,
    to_token_registry: Pusher,
    login_node: Node,
    other_arch: Arch,
    form: Form,
    cell: Cell,
) -> None:
    foreign = busybox_image(login_node, new_marker(), other_arch)
    said = refused(cluster_shell, to_token_registry(foreign, form=form, index=True).reference)
    assert ("404 Not Found" in said) is not differs(cell, "words of a registry that refuses"), said


def test_message_names_the_missing_architecture(
    cluster_shell: Shell,
    to_token_registry: Pusher,
    login_node: Node,
    other_arch: Arch,
    environment: EnvironmentFile,
) -> None:
    foreign = busybox_image(login_node, new_marker(), other_arch)
    said = refused(cluster_shell, to_token_registry(foreign, form=Form.OCI, index=True).reference)
    assert environment.arch in said or Arch(environment.arch).uname in said, said


def test_image_of_another_architecture_is_no_secret(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, other_arch: Arch, cell: Cell
) -> None:
    # A single manifest has nothing to choose from. enroot takes it, with a warning that a successful job does not show
    # (so this is read from `enroot import`); the embedded runtime refuses it.
    claimed = replace(marked.image, arch=other_arch)
    pushed = push(registry_client, f"formats/{marked.marker}", "1", claimed)
    command = f"cd $(mktemp -d) && enroot import --output image.sqsh 'docker://{pushed.reference}'"
    done = cluster_shell.run_unchecked(command)
    assert (done.status == 0) is not differs(cell, "a single manifest of another architecture"), str(done)
    assert "architecture" in done.stderr, str(done)
    assert other_arch.value in done.stderr, str(done)


# -- compression ----------------------------------------------------------------------------------------------------


def squashed(node: Node, marked: Marked, compression: Compression) -> Image:
    """Return the image with all its files in one layer that no other test has.

    enroot's cache knows layers by digest and 3.x stores a zstd layer in a form that it can't read later; a layer shared
    with other tests would carry the one's failure into the other.
    """
    shared = busybox_layer(node)
    top = Layer.of({IMAGE_MARKER: f"{marked.marker}\n"}).tar
    # Two archives, one after the other: without its end marker (1024 zero bytes and padding) the first goes on.
    return replace(marked.image, layers=(Layer(tar=without_end(shared.tar) + top, compression=compression),))


def without_end(tar: bytes) -> bytes:
    """Return an archive without the zero blocks at its end."""
    end = len(tar.rstrip(b"\0"))
    return tar[: -(-end // 512) * 512]


@pytest.mark.parametrize("stored", ["docker-v2s2"])
def test_uncompressed_layers(
    cluster_shell: Shell, registry_client: RegistryClient, login_node: Node, marked: Marked, stored: str
) -> None:
    image = squashed(login_node, marked, Compression.NONE)
    pushed = push(registry_client, f"formats/{marked.marker}", "1", image, **FORMATS[stored])
    runs(cluster_shell, pushed.reference, marked.marker)


def test_zstd_layers(
    cluster_shell: Shell, to_token_registry: Pusher, login_node: Node, marked: Marked, cell: Cell
) -> None:
    pushed = to_token_registry(squashed(login_node, marked, ZSTD), form=Form.OCI)
    if since(cell, enroot="4.0.0"):
        runs(cluster_shell, pushed.reference, marked.marker)
    else:
        assert "tar archive" in refused(cluster_shell, pushed.reference)


def test_zstd_layers_with_the_job_naming_the_program(
    cluster_shell: Shell, to_token_registry: Pusher, login_node: Node, marked: Marked
) -> None:
    # The way out for enroot 3: zstd reads gzip too, and the job may choose.
    pushed = to_token_registry(squashed(login_node, marked, ZSTD), form=Form.OCI)
    runs(cluster_shell, pushed.reference, marked.marker, {"ENROOT_GZIP_PROGRAM": "zstd"})


@pytest.mark.parametrize("ways", [(GZIP, ZSTD), (ZSTD, GZIP)], ids=["gzip-below-zstd", "zstd-below-gzip"])
def test_mixed_layers(
    *,
    cluster_shell: Shell,
    to_token_registry: Pusher,
    login_node: Node,
    marked: Marked,
    cell: Cell,
    ways: tuple[Compression, ...],
) -> None:
    image = squashed(login_node, marked, ways[0])
    top = Layer.of({"/second-layer": f"{marked.marker}\n", "/ballast": secrets.token_bytes(1 << 20)}, ways[1])
    pushed = to_token_registry(image.plus(top), form=Form.OCI)
    if since(cell, enroot="4.0.0"):
        runs(cluster_shell, pushed.reference, f"{marked.marker}\n{marked.marker}", None, "/second-layer")
    else:
        assert "tar archive" in refused(cluster_shell, pushed.reference)


def test_small_zstd_layer_is_not_lost(
    cluster_shell: Shell, to_token_registry: Pusher, marked: Marked, cell: Cell
) -> None:
    # An archive of less than a block is no archive to tar, but no error either.
    pushed = to_token_registry(marked.image.plus(Layer.of({"/small": f"{marked.marker}\n"}, ZSTD)), form=Form.OCI)
    if since(cell, enroot="4.0.0"):
        runs(cluster_shell, pushed.reference, f"{marked.marker}\n{marked.marker}", None, "/small")
    else:
        refused(cluster_shell, pushed.reference)
