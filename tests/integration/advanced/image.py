"""One image per run for all tests that need no build of their own: it holds the suite's tasks."""

from dataclasses import dataclass
import os
from pathlib import Path
import shlex
import shutil
import subprocess
from typing import Any

from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from tests.support.cluster import JOB_LIMIT
from tests.support.markers import TEST_MARKER

TASKS = Path(__file__).with_name("tasks.py")

_NEEDLESS = (
    "/var/cache",
    "/var/lib/apt",
    "/usr/share/doc",
    "/usr/share/perl*",
    "/usr/share/zoneinfo",
    "/usr/lib/*/perl*",
    "/usr/lib/python3/dist-packages/pip*",
    "/usr/lib/python3/dist-packages/setuptools*",
)


@dataclass(frozen=True, kw_only=True)
class SdkImage:
    """An image in the environment's registry that holds the suite's tasks."""

    reference: str
    """HOST:PORT/NAME:TAG, as the SDK wants it."""
    marker: str
    """What ``/etc/pyxis-matrix-test`` holds in this image and nowhere else."""

    def packaging(self, **more: object) -> dict[str, object]:
        """Return the SDK's packaging configuration that uses the image as it is."""
        return {"type": "container", "image": self.reference, "push": False, **more}

    def context(self, folder: Path, *lines: str) -> Path:
        """Make a build context in a folder for an image on top of this one, with further lines of the Containerfile."""
        text = "\n".join([f"FROM {self.reference}", *lines]) + "\n"
        (folder / "Containerfile").write_text(text, encoding="utf-8")
        return folder

    def holding(self, task: Any, **options: object) -> Any:  # noqa: ANN401 - slurm's tasks are untyped
        """Return a variant of a task that runs in the image; ``options`` are sbatch's."""
        packaging = {f"packaging_{name}": value for name, value in self.packaging().items()}
        return task.with_options(**packaging, **options)


def build(environment: EnvironmentFile, image: SdkImage, context: Path) -> None:
    """Build the image and push it."""
    package = context / "tasks" / "tests" / "integration" / "advanced"
    package.mkdir(parents=True)
    shutil.copy(TASKS, package)
    # Each job unpacks the image anew, and the SDK's jobs are many: without what no task needs, and in one layer, that
    # takes half the time.
    lines = (
        f"FROM {environment.job_image} AS whole",
        f"RUN rm -rf {' '.join(_NEEDLESS)} && mkdir -p /var/cache && echo {image.marker} > {TEST_MARKER}",
        "FROM scratch",
        "COPY --from=whole / /",
        "COPY tasks /opt/tasks",
        "ENV PYTHONPATH=/opt/tasks PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    (context / "Containerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = str(context / "Containerfile")
    platform = Arch(environment.arch).platform
    engine(environment, "build", "--tag", image.reference, "--platform", platform, "--file", file, str(context))
    # Podman asks for https even on loopback.
    plain = ["--tls-verify=false"] if Path(environment.engine_client).name == "podman" else []
    engine(environment, "push", *plain, image.reference)


def engine(environment: EnvironmentFile, *arguments: str) -> str:
    """Run the engine's client and return what it wrote; the test fails with that if the client does."""
    done = subprocess.run(
        [environment.engine_client, *arguments],
        env={**os.environ, **environment.engine_environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}"
    return done.stdout
