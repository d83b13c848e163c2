"""The images of an environment, spoilt from the host."""

from dataclasses import replace
import os
from pathlib import Path
import subprocess
import tempfile

from ci import environment_file
from ci.engine.labels import LABEL
from ci.environment.launching import Environment
from ci.session.handover import additions
from tests.support.cluster import Node
from tests.support.enroot import enroot_form
from tests.support.markers import IMAGE_MARKER


def without_marker(launched: Environment) -> None:
    """Put an image without its marker in the job image's place."""
    _changed(launched, f"rm {IMAGE_MARKER}")


def with_another_subject(launched: Environment) -> None:
    """Put an image in which the subject has one line more in the job image's place."""
    _changed(launched, "echo '# another' >> $(python -c 'import slurm; print(slurm.__file__)')")


def _changed(launched: Environment, script: str) -> None:
    """Change the job image by a shell: in the registry, and where tests build on it."""
    file = launched.file
    assert file.job_image
    assert file.job_reference
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        (Path(folder) / "Dockerfile").write_text(f"FROM {file.job_image}\nRUN {script}\n", encoding="utf-8")
        _client(launched, "build", "--quiet", "--label", f"{LABEL}=1", "--tag", file.job_reference, folder)
    _client(launched, "push", file.job_reference)
    environment_file.save(launched.path, replace(file, job_image=file.job_reference))


def name_one(launched: Environment) -> None:
    """Write the job image's name where the other ``srun`` looks for the one image that it runs."""
    assert launched.file.job_reference
    for index in range(len(launched.file.nodes)):
        node = Node.of(launched.file, index)
        done = node.run(f"echo {enroot_form(launched.file.job_reference)} > /etc/one-image")
        assert done.status == 0, str(done)


def _client(launched: Environment, *words: str) -> None:
    subprocess.run(
        [launched.file.engine_client, *words],
        env={**os.environ, **additions(launched, os.environ)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
