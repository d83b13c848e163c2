"""The job image under names that somebody's Dockerfiles begin with (``FROM python:3.11-slim``).

An image of its own, with labels, so that one that a killed run leaves is found again and removed: it must not be taken
for the real one later. It can hold wheels, so that ``RUN pip install`` needs no index.
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
# Debian's pip wants to be told that there is nobody else's Python to spoil; that of the images it stands for does not.
_CONTAINERFILE = "FROM {}\nENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore\n"
_WHEELS = "/opt/wheels"
# In the image's environment, so that it holds for a build, for any user, and in a job; a pip.conf may be in the way.
_WITH_WHEELS = f"COPY wheels {_WHEELS}\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS={_WHEELS}\n"


def check(engine: Engine, names: tuple[str, ...]) -> None:
    """Refuse names that the engine has images under already.

    :raises SelectionError: naming the first of them.
    """
    for name in names:
        if engine.image_exists(name):
            raise SelectionError(
                f"this engine has an image {name} already",
                where="--base-image",
                why="it is somebody's own; a Dockerfile that begins with it finds it as it is",
                next_step=f"leave --base-image {name} out, or: docker image rm {name}",
            )


def name_job_image(place: Place, job_image: str, names: tuple[str, ...], wheels: Wheelhouse | None) -> None:
    """Give the job image more names, for as long as the environment is up.

    :param wheels: what pip finds in an image of these names, in place of an index.
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
    with asking(f"naming the job image {name}"), signals.shielded():  # made and on the stack, or neither
        place.stack.callback(_unname, place, name)
        labels = {**place.labels(_ROLE), LABEL_NAME: name}
        place.engine.api.images.build(path=str(context), tag=name, labels=labels, rm=True)


def _unname(place: Place, name: str) -> None:
    """Remove a name that was made here; another session may have given it to an image of its own meanwhile."""
    if place.engine.image_exists(name) and place.engine.image(name).labels.get(LABEL_SESSION) == place.session:
        place.engine.untag_exactly(name)
