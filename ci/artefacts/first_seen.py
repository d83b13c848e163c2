"""The user's lock file: release files without a pinned checksum, as they were when they were first downloaded.

Like ssh's known_hosts: the first download is trusted, and a different file is refused later.
"""

from pathlib import Path

from filelock import FileLock

from ci.artefacts.pins import Pin, load_pins, save_pins
from ci.errors import ArtefactError
from ci.paths import FIRST_SEEN_VARIABLE, make_directory, refused

_HEADER = """\
# Release files that containers/pins.toml does not list, as pyxis-matrix first downloaded them. A download that differs
# from its entry is refused. Remove an entry only after you have found out why the file has changed. In [[archive]],
# checksum and size are those of the uncompressed tar.
"""


def remember(lock: Path, pin: Pin) -> Pin:
    """Record a file that is seen for the first time, and return its entry.

    If another session recorded the file first, that entry is returned, and the caller compares.

    :raises ArtefactError: if the lock file is invalid or can't be written.
    """
    make_directory(lock.parent, ArtefactError)
    try:
        # The lock is on a file beside the list: `save_pins` replaces the list, and with it a lock on it.
        with FileLock(lock.with_name(f".{lock.name}.lock")):
            entries = load_pins(lock)
            if pin.path not in entries:
                entries[pin.path] = pin
                save_pins(lock, entries.values(), header=_HEADER)
            return entries[pin.path]
    except OSError as problem:
        raise refused(
            problem, "writing the lock file failed", ArtefactError, where=lock, choice=FIRST_SEEN_VARIABLE
        ) from problem
