"""Copies of release files, so that exactly the bytes that were checked are built.

A mirror, the cache and a user's folder may change while a session compiles. So a file is read once: its bytes are
hashed while they are copied, and every later step, from the comparison with a checksum to the build, reads the copy.
Copies are kept in the cache under their checksum.
"""

import hashlib
from pathlib import Path
import tempfile

from ci.errors import ArtefactError, ChecksumError
from ci.paths import make_directory, refused

_CHUNK = 1 << 20


def copies_in(cache: Path) -> Path:
    """Return the folder for copies in the user's cache."""
    return cache / "copies"


def take(file: Path, store: Path, name: str = "") -> tuple[Path, str]:
    """Return a copy of a file, and the sha256 of the bytes that were copied.

    :param file: may itself be a copy in this store.
    :param name: the copy's name; by default that of the file.

    :raises ArtefactError, DiskFullError: if reading or writing fails.
    :raises ChecksumError: for a copy that was changed in the store.
    """
    make_directory(store, ArtefactError)
    digest = hashlib.sha256()
    try:
        # In the store: only within one file system is a rename atomic. A killed run leaves a hidden folder, no more.
        with tempfile.TemporaryDirectory(dir=store, prefix=".taking-") as folder:
            draft = Path(folder) / (name or file.name)
            with file.open("rb") as source, draft.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
            # Against accidents; root can write all the same, and is found out by the checksum.
            draft.chmod(0o444)
            sha256 = digest.hexdigest()
            # A copy of a copy: its folder says which checksum it had when it was made.
            if file.parent.parent == store and file.parent.name != sha256:
                raise ChecksumError(
                    f"{file.name} was changed after it was copied",
                    where=str(file),
                    why=f"its sha256 is {sha256}; when it was copied it was {file.parent.name}",
                    next_step=f"rm -r {store}, then run it again",
                )
            # Another process may have put it there already. The bytes are the same, and an open file stays readable.
            kept = store / sha256 / draft.name
            make_directory(kept.parent, ArtefactError)
            return draft.replace(kept), sha256
    except OSError as problem:
        raise refused(problem, f"failed to copy {file.name}", ArtefactError, where=file) from problem
