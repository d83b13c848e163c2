"""What layers do to each other: removed files, replaced directories, opaque ones.

With enroot's folders in the wrong place (on the engine's overlay) simple images run and exactly these don't.
"""

import shlex

import pytest

from tests.integration.registry.support import NOT_IMPORTED, Marked, imported, srun_unchecked
from tests.support.behaviours import Ask
from tests.support.cluster import Shell
from tests.support.known_failures import Control
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import Image, push
from tests.support.oci.layers import Directory, Entry, File, Layer, Symlink, Whiteout
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

BELOW: dict[str, Entry] = {
    "/data/kept": "below",
    "/data/gone": "below",
    "/data/folder/inner": "below",
    "/data/folder/deep/leaf": "below",
}


def seen(shell: Shell, registry: RegistryClient, marked: Marked, image: Image, script: str) -> list[str]:
    """Push an image, run a script in it and return the words that it wrote."""
    pushed = push(registry, f"layers/{marked.marker}", "1", image)
    done = shell.srun("sh", "-c", f"cat {IMAGE_MARKER} && {script}", image=pushed.reference)
    return " ".join(behind(done, marked.marker)).split()


def everything(path: str) -> str:
    """Return a script that lists all below a path with content, but no directories."""
    return f'cd {shlex.quote(path)} && find . ! -type d | sort | while read f; do echo "$f=$(cat "$f")"; done'


def test_removed_file(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    image = marked.image.plus(Layer.of(BELOW), Layer.of({"/data/gone": Whiteout()}))
    found = seen(cluster_shell, registry_client, marked, image, everything("/data"))
    assert found == ["./folder/deep/leaf=below", "./folder/inner=below", "./kept=below"]


def test_removed_directory(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    image = marked.image.plus(Layer.of(BELOW), Layer.of({"/data/folder": Whiteout()}))
    found = seen(cluster_shell, registry_client, marked, image, f"ls /data; {everything('/data')}")
    assert found == ["gone", "kept", "./gone=below", "./kept=below"]


def test_directory_removed_and_made_anew_in_a_later_layer(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked
) -> None:
    image = marked.image.plus(
        Layer.of(BELOW), Layer.of({"/data/folder": Whiteout()}), Layer.of({"/data/folder/new": "above"})
    )
    found = seen(cluster_shell, registry_client, marked, image, everything("/data"))
    assert found == ["./folder/new=above", "./gone=below", "./kept=below"]


@pytest.mark.behaviour("opaque-folder-loaded")
def test_opaque_directory_loaded_without_an_import(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, behaviour: Ask, control: Control
) -> None:
    """`enroot load` lays the layers over each other as the user, where an import has the privileges of its helpers."""
    above: dict[str, Entry] = {"/data/folder": Directory(opaque=True), "/data/folder/new": "above"}
    image = marked.image.plus(Layer.of(BELOW), Layer.of(above))
    right = ["./folder/new=above", "./gone=below", "./kept=below"]
    with control("imported, the same image hides what lies below"):
        assert seen(cluster_shell, registry_client, marked, image, everything("/data")) == right
    pushed = push(registry_client, f"layers/{marked.marker}", "1", image)
    name = f"load-{marked.marker}"
    script = f"cat {IMAGE_MARKER} && {everything('/data')}"
    done = cluster_shell.run_unchecked(
        f"enroot load --name {name} 'docker://{pushed.reference}' && enroot start {name} sh -c {shlex.quote(script)};"
        f" status=$?; enroot remove --force {name}; exit $status"
    )
    asked = behaviour("opaque-folder-loaded")
    if "Usage: enroot" in done.stdout + done.stderr:
        asked.saw("no such command", done)
        return
    assert done.status == 0, str(done)
    found = done.stdout.splitlines()
    if "./folder/inner=below" in found:
        asked.saw("shown", done)
        pytest.fail(f"the opaque folder shows what lies below it: {found}")
    assert found == [marked.marker, *right]
    asked.saw("hidden", done)


def test_opaque_directory(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    # What `RUN rm -rf /data/folder && mkdir …` becomes: removed and made anew within one layer.
    above: dict[str, Entry] = {"/data/folder": Directory(opaque=True), "/data/folder/new": "above"}
    image = marked.image.plus(Layer.of(BELOW), Layer.of(above))
    found = seen(cluster_shell, registry_client, marked, image, everything("/data"))
    assert found == ["./folder/new=above", "./gone=below", "./kept=below"]


def test_opaque_directory_below_another_layer(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked
) -> None:
    # A later layer that only adds to it must not bring back what the opaque one hid.
    middle: dict[str, Entry] = {"/data/folder": Directory(opaque=True), "/data/folder/new": "middle"}
    image = marked.image.plus(Layer.of(BELOW), Layer.of(middle), Layer.of({"/data/folder/newer": "above"}))
    found = seen(cluster_shell, registry_client, marked, image, everything("/data/folder"))
    assert found == ["./new=middle", "./newer=above"]


def test_file_replaced(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    image = marked.image.plus(Layer.of(BELOW), Layer.of({"/data/kept": "above"}))
    assert "./kept=above" in seen(cluster_shell, registry_client, marked, image, everything("/data"))


def test_file_in_place_of_a_directory_and_the_reverse(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked
) -> None:
    above: dict[str, Entry] = {"/data/folder": "now a file", "/data/gone/inner": "above"}
    image = marked.image.plus(Layer.of(BELOW), Layer.of(above))
    found = seen(
        cluster_shell,
        registry_client,
        marked,
        image,
        "cat /data/folder; echo; cat /data/gone/inner; echo; ls /data",
    )
    assert found == ["now", "a", "file", "above", "folder", "gone", "kept"]


@pytest.mark.behaviour("whiteout-of-what-never-was")
def test_whiteout_of_what_never_was(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, control: Control, behaviour: Ask
) -> None:
    with control("with a file in place of the whiteout it runs"):
        there = marked.image.plus(Layer.of({"/never/was": "there"}))
        assert seen(cluster_shell, registry_client, marked, there, "ls -A /never; echo end") == ["was", "end"]
    image = marked.image.plus(Layer.of({"/never/was": Whiteout()}))
    pushed = push(registry_client, f"layers/{marked.marker}", "1", image)
    script = f"cat {IMAGE_MARKER}; ls -A /never; echo end"
    done = cluster_shell.srun_unchecked("sh", "-c", script, image=pushed.reference)
    if NOT_IMPORTED in done.stderr:
        registry_client.manifest(pushed.repository, pushed.tag, pushed.media_type)  # it is there
        behaviour("whiteout-of-what-never-was").saw("refused", done)
        pytest.fail(f"all that keeps it from being imported is a whiteout of what never was: {done}")
    assert (done.status, done.stdout.split()) == (0, [marked.marker, "end"]), str(done)
    behaviour("whiteout-of-what-never-was").saw("runs", done)


def test_modes_and_links(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    top: dict[str, Entry] = {
        "/data/program": File(content=b"#!/bin/sh\necho ran\n", mode=0o755),
        "/data/secret": File(content=b"x", mode=0o640),
        "/data/folder": Directory(mode=0o711),
        "/data/link": Symlink("program"),
    }
    found = seen(
        cluster_shell,
        registry_client,
        marked,
        marked.image.plus(Layer.of(top)),
        "/data/link; cd /data; stat -c %a program secret folder; readlink link",
    )
    assert found == ["ran", "755", "640", "711", "program"]


@pytest.mark.behaviour("read-only-folder-with-files")
def test_a_closed_folder_that_its_own_layer_fills(
    cluster_shell: Shell, registry_client: RegistryClient, marked: Marked, behaviour: Ask
) -> None:
    """Until 4.0.0 a folder has its mode once the archive goes on elsewhere, and what comes later can't be written."""

    def image(mode: int) -> Image:
        entries = (("/data", Directory(mode=mode)), ("/elsewhere", "x"), ("/data/file", "x"))
        return marked.image.plus(Layer.in_order(entries))

    open_, closed = image(0o755), image(0o555)
    pushed = push(registry_client, f"layers/{marked.marker}", "closed", closed)
    done = srun_unchecked(cluster_shell, pushed.reference, files=(IMAGE_MARKER, "/data/file"))
    if imported(done):
        assert done.stdout.split() == [marked.marker, "x"], str(done)
        behaviour("read-only-folder-with-files").saw("runs", done)
    else:
        # Nothing is wrong but the folder's mode.
        assert seen(cluster_shell, registry_client, marked, open_, "cat /data/file") == ["x"]
        behaviour("read-only-folder-with-files").saw("refused", done)


def test_many_layers(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    more = [Layer.of({f"/data/{number}": str(number), "/data/last": str(number)}) for number in range(40)]
    found = seen(cluster_shell, registry_client, marked, marked.image.plus(*more), "ls /data | wc -l; cat /data/last")
    assert found == ["41", "39"]


def test_empty_layer(cluster_shell: Shell, registry_client: RegistryClient, marked: Marked) -> None:
    image = marked.image.plus(Layer.of({}), Layer.of({"/data/kept": "above"}))
    assert seen(cluster_shell, registry_client, marked, image, "cat /data/kept") == ["above"]
