"""Proofs that a step ran inside an image."""

from collections.abc import Iterable, Mapping

from ci.environment.ssh import RemoteAnswer
from tests.support.cluster import Node
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.tiny import TinyImage


def proven(done: RemoteAnswer, image: TinyImage) -> list[str]:
    """Return a step's lines behind the marker; fail if the marker is missing, for then it ran somewhere else."""
    return behind(done, image.marker, f"inside {image.reference}")


def behind(done: RemoteAnswer, line: str, where: str = "inside the image") -> list[str]:
    """Return what a step wrote behind a line that it can write in one place only; fail if that line is missing.

    What a cluster's TaskProlog or a user's shell prints comes first, and proves nothing.
    """
    lines = done.stdout.splitlines()
    assert line in lines, f"this did not run {where}: none of its {len(lines)} lines is {line!r}: {done}"
    at = lines.index(line)
    if lines[:at]:
        print(f"in front of {line!r}: {lines[:at]}")  # noqa: T201 - pytest shows it with a test that fails
    return lines[at + 1 :]


def without_marker(node: Node) -> None:
    """Fail if a node has the marker of images, or if it can't be looked for: it would prove nothing."""
    looked = node.run(f"if test -e {IMAGE_MARKER}; then echo there; else echo absent; fi", user=node.user)
    assert looked.stdout.splitlines()[-1:] == ["absent"], "the node itself has the marker; it proves nothing"


def ran_or_refused(done: RemoteAnswer, image: TinyImage, refusals: Iterable[str]) -> tuple[list[str] | None, str]:
    """Return the lines of a step that shows the marker first, or None if it was refused; and what was said.

    :param refusals: words of which a refusal has some; a step that fails otherwise, or ran on the host, fails here.
    """
    if done.status == 0:
        return proven(done, image), done.stderr
    said = done.stdout + done.stderr
    # Inside, the marker is shown; on the host its file is not found.
    assert image.marker not in done.stdout, f"it ran, and failed: {done}"
    assert IMAGE_MARKER not in said, f"it ran on the host: {done}"
    assert any(words in said for words in refusals), f"it says none of {[*refusals]}: {done}"
    return None, said


def by_words(table: Mapping[str, str], said: str) -> str:
    """Return what the table has for the words that are said; fail unless they are those of just one row."""
    found = [value for words, value in table.items() if words in said]
    assert len(found) == 1, f"it says {found or 'none'} of {[*table]}: {said}"
    return found[0]


def open_gpu() -> list[str]:
    """Return srun's words for a job with a GPU: it writes the image's marker, the GPU's number, and "opened"."""
    script = (
        f'cat {IMAGE_MARKER} && echo "$CUDA_VISIBLE_DEVICES" && : < "/dev/nvidia$CUDA_VISIBLE_DEVICES" && echo opened'
    )
    return ["--gpus=1", "sh", "-c", script]
