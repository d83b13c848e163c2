"""Fixtures of the conformance suite: images made for one test, steps, and names and folders that no other test uses."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
import uuid

import pytest

from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.reproducing.case import ASIDE
from tests.integration.conformance.support import Steps, rootfs
from tests.support.cluster import Node, Shell, waited
from tests.support.enroot import hub_at_home
from tests.support.expectations import no_such_image
from tests.support.markers import IMAGE_MARKER
from tests.support.not_asked import needs
from tests.support.oci.images import push
from tests.support.oci.layers import Entry, Layer
from tests.support.oci.squashed import squashed
from tests.support.oci.tiny import TinyImage, busybox_image, new_marker, recipe
from tests.support.registry_client import RegistryClient

MakeImage = Callable[..., TinyImage]
Unpack = Callable[[TinyImage], TinyImage]


@pytest.fixture(scope="session")
def steps(cluster_shell: Shell, cell: Cell) -> Steps:
    """Return what starts job steps in containers and proves where they ran."""
    return Steps(shell=cluster_shell, cell=cell)


@pytest.fixture(scope="session")
def unpacked(cluster_shell: Shell) -> Iterator[Unpack]:
    """Return a function that imports an image once, for tests whose question is not how it is imported."""
    paths: list[str] = []

    def unpack(image: TinyImage) -> TinyImage:
        path = f"{cluster_shell.environment.work}/{image.marker}.sqsh"
        cluster_shell.run(f"enroot import --output {path} 'docker://{image.reference}'{ASIDE}")
        paths.append(path)
        return replace(image, reference=path)

    yield unpack
    cluster_shell.run_unchecked(f"rm -f {' '.join(paths)}")


@pytest.fixture(scope="session")
def plain(request: pytest.FixtureRequest, cluster_shell: Shell, login_node: Node) -> TinyImage:
    """Return the tiny image as a squashfs file on the cluster; without a registry it is copied there."""
    environment = cluster_shell.environment
    if not environment.registry:
        marker = new_marker()
        return squashed(cluster_shell, busybox_image(login_node, marker, Arch(environment.arch)), marker)
    unpack: Unpack = request.getfixturevalue("unpacked")
    return unpack(request.getfixturevalue("tiny_image"))


@pytest.fixture(scope="session")
def make_image(registry_client: RegistryClient, tiny_image: TinyImage) -> MakeImage:
    """Return a function that pushes a tiny image of its own: with further files, and with another configuration.

    Its arguments are the files of a layer on top, and the fields of `tests.support.oci.images.Image` that differ.
    """

    def make(entries: dict[str, Entry] | None = None, **configuration: Any) -> TinyImage:  # noqa: ANN401 - see `replace`
        marker = new_marker()
        top = Layer.of({IMAGE_MARKER: f"{marker}\n", **(entries or {})})
        image = replace(tiny_image.image.plus(top), **configuration)
        pushed = push(registry_client, f"conformance/{marker}", "1", image)
        waited(f"image {marker}\n{recipe(entries or {}, configuration)}")
        return TinyImage(reference=pushed.reference, marker=marker, pushed=pushed, image=image)

    return make


@pytest.fixture
def hub(registry_client: RegistryClient) -> dict[str, str]:
    """Return the variables by which nothing is asked of Docker Hub (`tests.support.enroot.hub_at_home`)."""
    if registry_client.ca_bundle or registry_client.auth:
        needs("a registry that speaks plain http and asks for no login")
    return hub_at_home(registry_client.address)


@pytest.fixture
def not_there(cell: Cell, registry_client: RegistryClient) -> str:
    """Return what is said of an image that the registry does not have."""
    return no_such_image(cell, logs_in=bool(registry_client.auth))


@pytest.fixture
def free_name(steps: Steps) -> Iterator[str]:
    """Return a name for a container of whatever job; what was made under it, or a name that begins so, is removed."""
    name = steps.new_name()
    yield name
    steps.remove_containers(name)


@pytest.fixture
def container_name(steps: Steps, free_name: str) -> Iterator[str]:
    """Return a name as `free_name` does, whose steps all find the same container, wherever names hold."""
    with steps.in_one_job(free_name):
        yield free_name


@pytest.fixture
def container(cluster_shell: Shell, plain: TinyImage, container_name: str) -> Iterator[str]:
    """Return a container that enroot has made from the tiny image."""
    cluster_shell.run(f"enroot create --name {container_name} {plain.reference}")
    yield container_name
    cluster_shell.run_unchecked(f"chmod -R u+rwX {rootfs(cluster_shell, container_name)}")


@pytest.fixture
def folder(cluster_shell: Shell) -> Iterator[str]:
    """Return an empty folder in the job user's home, which every node sees."""
    path = cluster_shell.run(
        f"mktemp --directory {cluster_shell.environment.folder or '~'}/conformance-XXXXXXXXXX{ASIDE}"
    ).stdout.strip()
    yield path
    cluster_shell.run_unchecked(f"chmod -R u+rwX {path}; rm -rf {path}")


@pytest.fixture
def root_folder(login_node: Node) -> Iterator[str]:
    """Return a folder on the login node for what only root may do there."""
    path = f"/tmp/conformance-{uuid.uuid4().hex[:12]}"
    login_node.run(f"install --directory --owner=munge --group=munge --mode=0755 {path}")
    yield path
    login_node.run(f"rm -rf {path}")


@pytest.fixture
def silent_registry(steps: Steps, folder: str) -> Iterator[str]:
    """Return the address of something that takes connections on the node and never answers."""
    if steps.shell.environment.logs_in_elsewhere:
        needs("a login on the node of the jobs")
    program = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
    program += "print(s.getsockname()[1], flush=True); time.sleep(600)"
    pid = steps.shell.run(f'nohup python3 -c "{program}" > {folder}/port 2>&1 < /dev/null & echo $!').stdout.strip()
    port = steps.wait_for_text(f"{folder}/port", "\n").strip()
    yield f"localhost:{port}"
    steps.shell.run_unchecked(f"kill {pid}")
