"""Proofs that a step ran inside an image."""

from ci.environment.ssh import RemoteAnswer
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.tiny import TinyImage


def proven(done: RemoteAnswer, image: TinyImage) -> list[str]:
    """Return a step's lines without the marker; fail if the marker is missing, for then it ran somewhere else."""
    first, _, rest = done.stdout.partition("\n")
    assert first == image.marker, f"this did not run inside {image.reference}: {done}"
    return rest.splitlines()


def open_gpu() -> list[str]:
    """Return srun's words for a job with a GPU: it writes the image's marker, the GPU's number, and "opened"."""
    script = (
        f'cat {IMAGE_MARKER} && echo "$CUDA_VISIBLE_DEVICES" && : < "/dev/nvidia$CUDA_VISIBLE_DEVICES" && echo opened'
    )
    return ["--gpus=1", "sh", "-c", script]
