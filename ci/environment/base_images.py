"""The job image under the names with which a user's Dockerfiles begin (``FROM python:3.11-slim``).

Each name is that of a new image, with labels. By them the image of a killed run is found again and removed; otherwise a
later build would use it in place of the real one. It can have wheels, so that ``RUN pip install`` needs no index.
"""

from pathlib import Path
import tempfile

from ci.engine.connection import Engine
from ci.engine.labels import LABEL_NAME, LABEL_SESSION
from ci.engine.refusals import asking
from ci.environment.service import Place
from ci.errors import SelectionError
from ci.images.subject import Wheelhouse
from ci.terminal import signals

_ROLE = "base-image"
# Debian's pip refuses to install packages beside those of the system (PEP 668), unless a variable allows it. The pip of
# the images in whose place this one is used does not refuse.
_CONTAINERFILE = "FROM {}\nENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore\n"
_WHEELS = "/opt/wheels"
# By variables, which hold in a build, for any user, and in a job. A pip.conf could be replaced by one in a user's
# image.
_WITH_WHEELS = f"COPY wheels {_WHEELS}\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS={_WHEELS}\n"


def check(engine: Engine, names: tuple[str, ...]) -> None:
    """Refuse names that images of the engine already have.

    :raises SelectionError: naming the first of them.
    """
    for name in names:
        if engine.image_exists(name):
            raise SelectionError(
                f"this engine already has an image {name}",
                where="--base-image",
                why="that image is not this project's, so it is not replaced; a Dockerfile that begins with it gets it",
                next_step=f"leave --base-image {name} out, or: docker image rm {name}",
            )


def name_job_image(place: Place, job_image: str, names: tuple[str, ...], wheels: Wheelhouse | None) -> None:
    """Give the job image more names, for as long as the environment is up.

    :param wheels: the wheels for pip in images of these names, in place of an index.
    """
    if not names:
        return
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(
            _CONTAINERFILE.format(job_image) + (_WITH_WHEELS if wheels else ""), encoding="utf-8"
        )
        if wheels:
            wheels.copy_to(context / "wheels")
        for name in names:
            _build(place, context, name)


def _build(place: Place, context: Path, name: str) -> None:
    # A signal waits: the image is built and is on the stack, or neither.
    with asking(f"naming the job image {name}"), signals.shielded():
        # The callback first: an engine whose answer is lost may still finish the build.
        place.stack.callback(_unname, place, name)
        labels = {**place.labels(_ROLE), LABEL_NAME: name}
        # docker-py's classic builder is enough here; it has no other (https://github.com/docker/docker-py/issues/2230).
        place.engine.api.images.build(path=str(context), tag=name, labels=labels, rm=True)


def _unname(place: Place, name: str) -> None:
    """Remove a name, unless another session has given it to an image of its own meanwhile."""
    if place.engine.image_exists(name) and place.engine.image(name).labels.get(LABEL_SESSION) == place.session:
        place.engine.untag_exactly(name)
