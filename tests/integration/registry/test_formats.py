"""Every format in which an image can be stored, from every kind of registry.

A registry that asks for nothing shows a fault of enroot: its first request accepts no OCI format, so a self-hosted
registry answers 404 (NVIDIA/enroot PR 273). Docker Hub and its like answer "token, please" first, which hides it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
import secrets
from typing import Any

import pytest

from ci.environment.registry_client import UnexpectedAnswerError, digest_of
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from tests.integration.registry.support import (
    NOT_IMPORTED,
    TOKEN_REPOSITORY,
    LoginRegistry,
    Marked,
    OwnRegistry,
    imported,
    refused,
    runs,
    srun_unchecked,
    user_files,
)
from tests.support.behaviours import Ask, Asked
from tests.support.cluster import Node, Shell
from tests.support.expectations import differs
from tests.support.known_failures import Control
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import Form, Image, Pushed, push
from tests.support.oci.layers import Compression, Entry, Layer
from tests.support.oci.tiny import busybox_image, busybox_layer, new_marker
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

FORMATS: dict[str, dict[str, Any]] = {
    "docker-v2s2": {"form": Form.V2S2},
    "docker-list": {"form": Form.V2S2, "index": True},
    "oci-manifest": {"form": Form.OCI},
    "oci-index": {"form": Form.OCI, "index": True},
    "oci-index-with-attestation": {"form": Form.OCI, "attestation": True},
}
GZIP, ZSTD = Compression.GZIP, Compression.ZSTD


def formats(of_oci: pytest.MarkDecorator) -> Any:  # noqa: ANN401 - what pytest parametrizes with is not public
    """Return all formats as parameters; those of OCI have a mark."""
    return [pytest.param(name, marks=[of_oci] if name.startswith("oci-") else []) for name in FORMATS]


Pusher = Callable[..., Pushed]


@pytest.fixture
def to_token_registry(token_registry: OwnRegistry) -> Pusher:
    """Return a function that pushes into the registry which passes enroot's first request: OCI images work."""
    return lambda *images, **how: token_registry.push(TOKEN_REPOSITORY, new_marker(), *images, **how)


@pytest.fixture
def other_arch(environment: EnvironmentFile) -> Arch:
    """Return the architecture that the nodes don't have."""
    return next(arch for arch in Arch if arch.value != environment.arch)


@pytest.fixture
def foreign(login_node: Node, other_arch: Arch) -> Image:
    """Return an image of the architecture that the nodes don't have."""
    return busybox_image(login_node, new_marker(), other_arch)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An image that is stored in some format, and the same one in the format that every registry gives away unasked."""

    image: Pushed
    in_dockers: Pushed
    marker: str


def runs_in_any_format(
    *,
    shell: Shell,
    registry: RegistryClient,
    stored: Stored,
    asked: Asked | None,
    control: Control,
    variables: dict[str, str] | None = None,
) -> None:
    """Expect that the image runs; where the import fails, find out whether the registry wants its format named.

    Of a failed check of a password enroot shows nothing from 3.5 on.

    :param asked: the question whether images of this format are imported, if that depends on the cell.
    """
    image = stored.image
    done = srun_unchecked(shell, image.reference, variables)
    if NOT_IMPORTED in done.stderr:
        with control("the image is there, and in Docker's format it runs"):
            registry.manifest(image.repository, image.tag, image.media_type)
            runs(shell, stored.in_dockers.reference, stored.marker, variables)
        try:
            registry.manifest(image.repository, image.tag, "*/*")
        except UnexpectedAnswerError as answer:
            if asked:
                asked.saw("refused", answer.what, done)
            pytest.fail(f"to a request that names no format {answer.what}: {done}")
    assert (done.status, done.stdout) == (0, f"{stored.marker}\n"), str(done)
    if asked:
        asked.saw("imported", done)


@pytest.mark.parametrize("stored", formats(pytest.mark.behaviour("oci-without-login")))
def test_format_without_login(
    *,
    cluster_shell: Shell,
    registry_client: RegistryClient,
    marked: Marked,
    stored: str,
    control: Control,
    behaviour: Ask,
) -> None:
    image, plain = (
        push(registry_client, f"formats/{marked.marker}", tag, marked.image, **FORMATS[form])
        for tag, form in (("1", stored), ("in-dockers", "docker-v2s2"))
    )
    both = Stored(image=image, in_dockers=plain, marker=marked.marker)
    asked = behaviour("oci-without-login") if stored.startswith("oci-") else None
    runs_in_any_format(shell=cluster_shell, registry=registry_client, stored=both, asked=asked, control=control)


@pytest.mark.parametrize("stored", FORMATS)
def test_format_with_token(cluster_shell: Shell, to_token_registry: Pusher, marked: Marked, stored: str) -> None:
    runs(cluster_shell, to_token_registry(marked.image, **FORMATS[stored]).reference, marked.marker)


@pytest.mark.parametrize("stored", formats(pytest.mark.behaviour("oci-with-password")))
def test_format_with_password(
    *,
    cluster_shell: Shell,
    login_registry: LoginRegistry,
    marked: Marked,
    stored: str,
    control: Control,
    behaviour: Ask,
) -> None:
    own = login_registry.registry
    line = f"machine {own.name} login {login_registry.user} password {login_registry.password}\n"
    known = {"ENROOT_CONFIG_PATH": user_files(cluster_shell, {".credentials": line})}
    image, plain = (
        own.push("formats/img", tag, marked.image, **FORMATS[form])
        for tag, form in ((marked.marker, stored), (f"{marked.marker}-in-dockers", "docker-v2s2"))
    )
    both = Stored(image=image, in_dockers=plain, marker=marked.marker)
    asked = behaviour("oci-with-password") if stored.startswith("oci-") else None
    runs_in_any_format(
        shell=cluster_shell, registry=own.client, stored=both, asked=asked, control=control, variables=known
    )


# -- several architectures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(Form))
def test_index_gives_the_node_its_own_architecture(
    cluster_shell: Shell, to_token_registry: Pusher, marked: Marked, foreign: Image, form: Form
) -> None:
    for images in [(foreign, marked.image), (marked.image, foreign)]:
        runs(cluster_shell, to_token_registry(*images, form=form).reference, marked.marker)


def test_docker_list_without_login_gives_the_node_its_own_architecture(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, foreign: Image
) -> None:
    pushed = push(registry_client, f"formats/{marked.marker}", "1", foreign, marked.image)
    runs(cluster_shell, pushed.reference, marked.marker)


@pytest.mark.parametrize("form", list(Form))
def test_index_without_the_nodes_architecture(
    cluster_shell: Shell, to_token_registry: Pusher, foreign: Image, form: Form, cell: Cell
) -> None:
    # Also an image that is not there is answered so; that this one is, its push has shown.
    says = "architecture" if differs(cell, "words of a registry that refuses") else "error code: 404 Not Found"
    refused(cluster_shell, to_token_registry(foreign, form=form, index=True).reference, says)


@pytest.mark.behaviour("index-without-the-architecture")
def test_message_names_the_missing_architecture(
    *,
    cluster_shell: Shell,
    token_registry: OwnRegistry,
    foreign: Image,
    marked: Marked,
    control: Control,
    behaviour: Ask,
) -> None:
    arch = marked.image.arch
    with control("an index that has the node's architecture as well runs"):
        both = token_registry.push(TOKEN_REPOSITORY, new_marker(), foreign, marked.image, form=Form.OCI)
        runs(cluster_shell, both.reference, marked.marker)
    without = token_registry.push(TOKEN_REPOSITORY, new_marker(), foreign, form=Form.OCI, index=True)
    said = refused(cluster_shell, without.reference, NOT_IMPORTED)
    named = arch.value in said or arch.uname in said
    answered = token_registry.statuses(without)
    # enroot gets the index, and 404 where it then asks for an image of this name. Of one that is not there nothing is
    # served.
    if not named and HTTPStatus.OK in answered:
        behaviour("index-without-the-architecture").saw("a bare 404", said)
        pytest.fail(f"the index was served, and the message names no architecture: {said}")
    assert named, f"it names no architecture, and the registry answered with {answered}: {said}"
    behaviour("index-without-the-architecture").saw("named", said)


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


def packed_twice(shell: Shell, layer: Layer) -> bool:
    """Tell whether enroot's cache has a layer packed by zstd twice: once unpacked it is still no archive.

    enroot packs what it fetches by zstd, after it has unpacked it by gzip; where it takes a zstd layer for a gzip one,
    gzip hands it on as it is.
    """
    name = digest_of(layer.blob).removeprefix("sha256:")
    found = shell.run(
        f'file=/var/lib/enroot-data/cache/user-$(id -u)/{name}; test -e "$file" && '
        'zstd --decompress --stdout "$file" | head -c 4 | od -A n -t x1'
    )
    return found.stdout.split() == ["28", "b5", "2f", "fd"]


def squashed(node: Node, marked: Marked, compression: Compression) -> Image:
    """Return the image with all its files in one layer that no other test has.

    enroot's cache knows layers by digest and 3.x stores a zstd layer in a form that it can't read later; a layer shared
    with other tests would carry the one's failure into the other.
    """
    shared = busybox_layer(node)
    top = Layer.of({IMAGE_MARKER: f"{marked.marker}\n"}).tar
    # Two archives, one after the other: without its end marker (1024 zero bytes and padding) the first goes on.
    return replace(marked.image, layers=(Layer(tar=without_end(shared.tar) + top, compression=compression),))


Squash = Callable[[Compression], Marked]


@pytest.fixture
def squash(login_node: Node, marked: Marked) -> Squash:
    """Return a function that returns the test's image as `squashed` makes it."""
    return lambda compression: replace(marked, image=squashed(login_node, marked, compression))


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


@pytest.mark.behaviour("zstd-layers")
def test_zstd_layers(
    cluster_shell: Shell, to_token_registry: Pusher, login_node: Node, marked: Marked, behaviour: Ask
) -> None:
    image = squashed(login_node, marked, ZSTD)
    done = srun_unchecked(cluster_shell, to_token_registry(image, form=Form.OCI).reference)
    if imported(done):
        assert behind(done, marked.marker) == []
    else:
        assert packed_twice(cluster_shell, image.layers[0]), str(done)
    behaviour("zstd-layers").saw("runs" if imported(done) else "refused", done)


def test_zstd_layers_with_the_job_naming_the_program(
    cluster_shell: Shell, to_token_registry: Pusher, login_node: Node, marked: Marked
) -> None:
    # The way out for enroot 3: zstd reads gzip too, and the job may choose.
    pushed = to_token_registry(squashed(login_node, marked, ZSTD), form=Form.OCI)
    runs(cluster_shell, pushed.reference, marked.marker, {"ENROOT_GZIP_PROGRAM": "zstd"})


WAYS = {"zstd-above-gzip": (GZIP, ZSTD), "zstd-layers": (ZSTD, GZIP)}
"""How two layers are compressed, the lower one first, by the question that this is."""


@pytest.mark.parametrize(
    "question",
    [
        pytest.param("zstd-above-gzip", id="gzip-below-zstd", marks=pytest.mark.behaviour("zstd-above-gzip")),
        pytest.param("zstd-layers", id="zstd-below-gzip", marks=pytest.mark.behaviour("zstd-layers")),
    ],
)
def test_mixed_layers(
    *,
    cluster_shell: Shell,
    to_token_registry: Pusher,
    squash: Squash,
    question: str,
    control: Control,
    behaviour: Ask,
) -> None:
    ways = WAYS[question]
    marked = squash(ways[0])
    image, content = marked.image, f"{marked.marker}\n{marked.marker}"
    files: dict[str, Entry] = {"/second-layer": f"{marked.marker}\n", "/ballast": secrets.token_bytes(1 << 20)}
    with control("the same files run where both layers are compressed by gzip"):
        plain = squash(GZIP).image.plus(Layer.of(files, GZIP))
        runs(cluster_shell, to_token_registry(plain, form=Form.OCI).reference, content, {}, "/second-layer")
    top = Layer.of(files, ways[1])
    pushed = to_token_registry(image.plus(top), form=Form.OCI)
    of_zstd = next(layer for layer in (*image.layers, top) if layer.compression is ZSTD)
    done = srun_unchecked(cluster_shell, pushed.reference, files=(IMAGE_MARKER, "/second-layer"))
    asked = behaviour(question)
    if imported(done):
        first, *rest = content.splitlines()
        assert behind(done, first) == rest
        asked.saw("runs", done)
    else:
        assert packed_twice(cluster_shell, of_zstd), str(done)
        asked.saw("refused", done)
        # Before 4.0.0 enroot knows no zstd at all; a layer of gzip below it makes no difference there.
        assert not asked.answer.fails, "the zstd layer was packed twice"


@pytest.mark.behaviour("small-zstd-above-gzip")
def test_small_zstd_layer_is_not_lost(
    cluster_shell: Shell, to_token_registry: Pusher, marked: Marked, control: Control, behaviour: Ask
) -> None:
    with control("as a gzip layer it is not lost"):
        plain = marked.image.plus(Layer.of({"/small": f"{marked.marker}\n"}, GZIP))
        content = f"{marked.marker}\n{marked.marker}"
        runs(cluster_shell, to_token_registry(plain, form=Form.OCI).reference, content, {}, "/small")
    # An archive of less than a block is no archive to tar, but no error either.
    small = Layer.of({"/small": f"{marked.marker}\n"}, ZSTD)
    pushed = to_token_registry(marked.image.plus(small), form=Form.OCI)
    show = f"cat {IMAGE_MARKER}; test ! -e /small || cat /small"
    done = cluster_shell.srun("sh", "-c", show, image=pushed.reference)
    if behind(done, marked.marker) == [] and packed_twice(cluster_shell, small):
        behaviour("small-zstd-above-gzip").saw("lost", done)
        pytest.fail("the small zstd layer was packed twice, and its file is lost without a word")
    assert behind(done, marked.marker) == [marked.marker], str(done)
    behaviour("small-zstd-above-gzip").saw("kept", done)
