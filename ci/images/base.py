"""Images from outside: pulled from a registry, or Debian made from its packages.

Tags such as ``debian:bookworm-slim`` and Debian's archive change over time. So each image has an *origin*: the digest
of a pulled image, or the date and the hash of the packages of one that was made.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_string
import hashlib
from pathlib import Path
import shlex
import shutil
import tarfile
import tempfile
from typing import Any

from ci import paths
from ci.engine.connection import Engine
from ci.engine.labels import LABEL, LABEL_CONTENT, LABEL_ORIGIN
from ci.errors import ArtefactError, BuildError, set_up
from ci.images.content import Content
from ci.terminal import console

# A root file system that is imported has no command; Debian's own image starts a shell.
_COMMAND = 'CMD ["/bin/bash"]'


def origin(attributes: dict[str, Any]) -> str:
    """Return an image's origin from the engine's description of it; empty for one that is built on another image."""
    labelled = (attributes.get("Config") or {}).get("Labels") or {}
    digests: list[str] = attributes.get("RepoDigests") or []
    # Podman lists the digest under our own local name, too.
    foreign = next((digest for digest in digests if not digest.startswith("localhost/")), "")
    return labelled.get(LABEL_ORIGIN) or (f"pulled {foreign}" if foreign else "")


@contextmanager
def root_of(content: Content, *, log: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Make an operating system from its packages (mmdebstrap): yield a tar archive, and the image's labels.

    The archive is removed after the block. One of the labels is the origin. A list of the packages is written beside
    the log.
    """
    arguments = content.plan.build_args
    codename, mirror = arguments["SUITE"], arguments["DEBIAN_MIRROR"]
    program = shutil.which("mmdebstrap")
    if program is None:
        raise ArtefactError(
            f"the base image of {codename} was not found",
            where=f"{content.plan.pulled_as or 'no image is pulled while a mirror is named'}, then mmdebstrap",
            why="no registry answers, and mmdebstrap is not installed",
            next_step=f"apt-get install mmdebstrap ({set_up()} does it), or docker pull the image by hand",
        )
    options = [
        line
        for line in (paths.CONTAINERS / "base" / "mmdebstrap.conf").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    options += shlex.split(arguments.get("OPTIONS", ""))
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-base-") as folder:
        archive = Path(folder) / "base.tar"
        command: list[str | Path] = [
            program,
            *options,
            f"--architectures={content.plan.arch}",
            codename,
            archive,
            mirror,
        ]
        console.call(command, log=log).check(BuildError, f"mmdebstrap failed to make {codename}", where=str(log))
        found = packages(archive)
        log.with_suffix(".packages").write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
        # Of names and versions: the bytes of the archive also depend on the time at which it was made.
        sha256 = hashlib.sha256("\n".join(found).encode()).hexdigest()
        origin = f"made {datetime.now(UTC):%Y-%m-%d} from {mirror} {codename}, {len(found)} packages, sha256 {sha256}"
        yield archive, {LABEL: "1", LABEL_ORIGIN: origin, LABEL_CONTENT: content.digest}


def as_context(root: Path, context: Path) -> None:
    """Write a build context for an image of a root file system."""
    context.mkdir()
    # Moved, not copied: it has some 170 MB, and both folders are temporary ones.
    root.rename(context / root.name)
    # ADD unpacks a tar archive, COPY would not.
    lines = ("FROM scratch", f"ADD {root.name} /", _COMMAND)
    (context / "Containerfile").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def packages(archive: Path) -> list[str]:
    """Return name and version of every package in a tar archive of a Debian root, sorted."""
    with tarfile.open(archive) as tar:
        status = tar.extractfile("./var/lib/dpkg/status")
        text = status.read().decode() if status else ""
    # dpkg's paragraphs have the format of mail headers (deb822).
    found = (message_from_string(paragraph) for paragraph in text.split("\n\n") if paragraph.strip())
    return sorted(f"{package['Package']} {package['Version']}" for package in found)


def add(engine: Engine, root: Path, name: str, labels: Mapping[str, str]) -> None:
    """Import a root into the engine, as an image of its own architecture."""
    changes = [*(f'LABEL {label}="{value}"' for label, value in labels.items()), _COMMAND]
    answer = engine.import_root(root, name, changes)
    # The API's answer is a stream of messages with status 200; an error may be one of them.
    if not engine.image_exists(name):
        raise BuildError(f"importing {name} into the engine failed", why=answer)
