"""The labels on everything that this project creates on a container engine."""

from contextlib import suppress
import getpass
import os
import socket

LABEL = "pyxis-matrix"
LABEL_RUN = f"{LABEL}.run"
LABEL_CELL = f"{LABEL}.cell"
LABEL_SESSION = f"{LABEL}.session"
"""The one launch that made it, which may remove it; somebody else's session may have the same run and cell."""
LABEL_OWNER = f"{LABEL}.owner"
"""Who started it, and on which machine: several users, and machines, may have one engine."""
LABEL_ROLE = f"{LABEL}.role"
LABEL_NAME = f"{LABEL}.name"
"""A name that somebody chose for an object: an image's own, or the second host name of a registry."""
LABEL_ORIGIN = f"{LABEL}.origin"
"""Of a base image: where it comes from, and when."""
LABEL_CONTENT = f"{LABEL}.content"
"""Of an image that was built: the hash of everything that went in."""

LABEL_SCRATCH = f"{LABEL}.scratch"
"""Of a container: a folder in it, on a volume of its own, of which nothing is needed when the container goes."""


def labels(run: str, cell_id: str, role: str, session: str = "") -> dict[str, str]:
    """Return the labels of an object that belongs to ``run`` and ``cell_id``."""
    its = {LABEL: "1", LABEL_RUN: run, LABEL_CELL: cell_id, LABEL_OWNER: owner(), LABEL_ROLE: role}
    return its | ({LABEL_SESSION: session} if session else {})


def owner() -> str:
    """Return whose that is what this process starts: ``USER@MACHINE``."""
    name = str(os.getuid())
    with suppress(KeyError, OSError):  # from Python 3.13 on an id without a name is an OSError
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
