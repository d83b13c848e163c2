"""An image as a squashfs file on a cluster whose nodes reach no registry: its layers are copied, and packed there."""

import base64
import shlex

from tests.support.cluster import Shell
from tests.support.oci.images import Image, Pushed
from tests.support.oci.tiny import TinyImage


def squashed(shell: Shell, image: Image, marker: str) -> TinyImage:
    """Put an image into the work folder of the cluster; its configuration (environment, entry point) is not in it."""
    path = f"{shell.environment.work}/{marker}"
    script = f"set -e; mkdir {path} {path}/root; cd {path}\n"
    for number, layer in enumerate(image.layers):
        archive = f"{path}.{number}.tar"
        shell.run(f"base64 --decode > {archive}", stdin=base64.b64encode(layer.tar).decode())
        script += f"tar --extract --no-same-owner --file={archive} --directory=root; rm {archive}\n"
    # By a job: where enroot is, mksquashfs is too, and no login node has to have it.
    script += f"mksquashfs root {path}.sqsh -all-root -no-progress >/dev/null; cd /; rm -rf {path}"
    shell.run(shlex.join(["srun", shell.here, "--ntasks=1", "bash", "-c", script]))
    absent = Pushed(address="", repository="", tag="", digest="", media_type="")
    return TinyImage(reference=f"{path}.sqsh", marker=marker, pushed=absent, image=image)
