"""``--container-image``: references, squashfs files, and images of unusual content.

Forms of references that concern the registry (ports, slashes, digests, formats) are the `registry` suite's.
"""

import base64
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import NOT_IMPORTED, NOT_STARTED, Steps
from tests.support.behaviours import Ask
from tests.support.cluster import Node
from tests.support.oci.layers import File, Layer, Whiteout
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind

pytestmark = pytest.mark.container_packaging


def test_an_image_of_the_registry(steps: Steps, tiny_image: TinyImage) -> None:
    _, said = steps.outcome(tiny_image, "true")
    assert f"imported docker image: {tiny_image.reference}" in said


def test_docker_uri(steps: Steps, tiny_image: TinyImage) -> None:
    steps.inside(replace(tiny_image, reference=f"docker://{tiny_image.reference}"), "true")


def test_an_unknown_image_is_refused(steps: Steps, tiny_image: TinyImage, not_there: str) -> None:
    said = steps.refused(f"{tiny_image.reference}-unknown", not_there)
    assert NOT_IMPORTED in said


def test_one_import_per_node(steps: Steps, tiny_image: TinyImage, not_there: str) -> None:
    said = steps.refused(f"{tiny_image.reference}-unknown", not_there, "--ntasks=2", "--overcommit")
    assert said.count(NOT_IMPORTED) == 1


def test_all_tasks_of_a_node_share_one_container(steps: Steps, tiny_image: TinyImage) -> None:
    done = steps.srun(tiny_image.reference, "readlink /proc/self/ns/mnt", "--ntasks=2", "--overcommit")
    lines = done.stdout.splitlines()
    assert lines.count(tiny_image.marker) == 2, str(done)
    assert len({line for line in lines if line.startswith("mnt:")}) == 1, str(done)
    assert done.stderr.count("imported docker image") == 1, str(done)


# -- squashfs files -------------------------------------------------------------------------------------------------


def test_a_file_by_its_absolute_path(steps: Steps, plain: TinyImage) -> None:
    assert "import" not in steps.outcome(plain, "true")[1]


def test_a_relative_path_needs_its_dot(steps: Steps, plain: TinyImage, folder: str, hub: Mapping[str, str]) -> None:
    steps.shell.run(f"cp {plain.reference} {folder}/hello.sqsh")
    # It is looked for on Docker Hub.
    steps.refused("hello.sqsh", "library/hello.sqsh", f"--chdir={folder}", variables=hub)
    steps.inside(replace(plain, reference="./hello.sqsh"), "true", f"--chdir={folder}")


@pytest.mark.parametrize("path", ["./none.sqsh", "/none.sqsh", "./", "/dev/urandom", "/etc/passwd"])
def test_what_is_no_squashfs_file_is_refused(steps: Steps, path: str) -> None:
    # What is mounted, and not unpacked, is found out when the container starts.
    mounted = steps.cell.says("use_squashfuse=1")
    steps.refused(path, NOT_STARTED if mounted else "failed to create container filesystem")


# -- unusual content ------------------------------------------------------------------------------------------------


def test_an_image_without_a_shell_can_not_be_started(steps: Steps, make_image: MakeImage, login_node: Node) -> None:
    encoded = login_node.run("base64 --wrap=0 /bin/busybox", user=login_node.user).stdout
    program = File(content=base64.b64decode(encoded), mode=0o755)
    image = make_image(layers=(Layer.of({"/program": program}),), cmd=("/program",), env={})
    done = steps.shell.srun_unchecked("/program", "true", image=image.reference)
    assert done.status != 0, str(done)
    assert "/bin/sh" in done.stderr or "/bin/bash" in done.stderr, str(done)
    assert "couldn't start container" in done.stderr or "container start failed" in done.stderr, str(done)


def test_a_user_in_the_image_is_ignored(steps: Steps, make_image: MakeImage, unpacked: Unpack) -> None:
    image = unpacked(make_image({"/etc/passwd": Whiteout(), "/etc/group": Whiteout()}, user="1234"))
    lines = steps.inside(image, "id -u; cut -d: -f1,3 /etc/passwd")
    submitter = steps.shell.run("id -u").stdout.strip()
    assert lines[0] == submitter
    assert {"root:0", f"{steps.shell.environment.login.user}:{submitter}"} <= set(lines)
    assert any(line.startswith("nobody:") for line in lines)
    assert steps.inside(image, "id -u", "--container-remap-root") == ["0"]


@pytest.mark.behaviour("label-of-two-lines")
def test_a_label_of_two_lines(steps: Steps, make_image: MakeImage, behaviour: Ask) -> None:
    image = make_image(labels={"description": "first line\necho from-the-label >&2; touch /tmp/from-the-label"})
    lines = steps.inside(image, "ls /tmp", "--container-entrypoint")
    # Until 4.1.1 the second line became part of /etc/rc, which a shell runs.
    behaviour("label-of-two-lines").saw_by(tuple(lines), {("from-the-label",): "a shell runs it", (): "text"})


@pytest.mark.behaviour("label-with-an-apostrophe")
def test_a_label_with_an_apostrophe_in_its_second_line(steps: Steps, make_image: MakeImage, behaviour: Ask) -> None:
    image = make_image(labels={"description": "first line\nit's the second"})
    lines, said = steps.either(image, "true", refusals=[NOT_STARTED])
    # It is imported in any case; then a shell may stumble over what enroot made of the label.
    assert "imported docker image" in said, said
    behaviour("label-with-an-apostrophe").saw("fails" if lines is None else "starts", said)


def test_a_program_that_only_the_image_has(steps: Steps, make_image: MakeImage, unpacked: Unpack) -> None:
    # srun must not look for it on the host: neither by its name nor by the path that the host's own one has.
    image = unpacked(make_image({"/opt/tool": File(content=b"#!/bin/sh\necho from-the-image\n", mode=0o755)}))
    by_path = steps.shell.srun_unchecked("/opt/tool", image=image.reference)
    assert behind(by_path, "from-the-image") == []
    assert steps.shell.run_unchecked("test -e /opt/tool").status == 1
    by_name = steps.shell.srun_unchecked("cat", "/etc/pyxis-matrix-image", image=image.reference)
    assert behind(by_name, image.marker) == []


def test_a_program_that_only_the_host_has_is_not_found(steps: Steps, plain: TinyImage) -> None:
    status, said = steps.failing(plain, "srun true")
    assert status == 127
    assert "srun: not found" in said


def test_the_images_own_files_are_seen(steps: Steps, plain: TinyImage) -> None:
    on_host = steps.on_the_host(". /etc/os-release; echo $ID")
    assert steps.inside(plain, ". /etc/os-release; echo $ID") == ["pyxis-matrix-tiny"] != on_host
