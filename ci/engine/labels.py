"""The labels on everything that this project creates on a container engine."""

from contextlib import suppress
import getpass
import os
import socket

LABEL = "pyxis-matrix"
LABEL_RUN = f"{LABEL}.run"
LABEL_CELL = f"{LABEL}.cell"
LABEL_SESSION = f"{LABEL}.session"
"""The launch that made the object, and may remove it; a session of another user may have the same run and cell."""
LABEL_OWNER = f"{LABEL}.owner"
"""The user, and the machine, that started it: several users and machines may share one engine."""
LABEL_ROLE = f"{LABEL}.role"
LABEL_NAME = f"{LABEL}.name"
"""A name that the user chose: an image's own (``--base-image``), or a registry's second one (``--registry-name``)."""
LABEL_ORIGIN = f"{LABEL}.origin"
"""Of a base image: where it comes from, and when."""
LABEL_CONTENT = f"{LABEL}.content"
"""Of an image that was built: the hash of everything that it was built from."""

LABEL_SCRATCH = f"{LABEL}.scratch"
"""Of a container: a folder in it, on a volume of its own, with files that nobody needs after the container."""


def labels(run: str, cell_id: str, role: str, session: str = "") -> dict[str, str]:
    """Return the labels of an object that belongs to ``run`` and ``cell_id``."""
    own = {LABEL: "1", LABEL_RUN: run, LABEL_CELL: cell_id, LABEL_OWNER: owner(), LABEL_ROLE: role}
    return own | ({LABEL_SESSION: session} if session else {})


def owner() -> str:
    """Return the owner of all objects that this process makes: ``USER@MACHINE``."""
    name = str(os.getuid())
    with suppress(KeyError, OSError):  # from Python 3.13 on an id without a name is an OSError
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
