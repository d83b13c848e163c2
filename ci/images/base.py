"""Debian's base image: pulled where a registry answers, made from Debian's packages where none does."""

from collections.abc import Mapping
import os
from pathlib import Path
import shutil
import tempfile
from urllib.parse import urlsplit

from docker.errors import APIError
from requests.exceptions import RequestException

from ci import paths
from ci.engine.connection import LABEL, Engine, explain
from ci.errors import ArtefactError, BuildError
from ci.images.content import Content
from ci.terminal import console

DEBIAN_MIRROR_VARIABLE = "PYXIS_MATRIX_DEBIAN_MIRROR"
DEFAULT_DEBIAN_MIRROR = "http://deb.debian.org/debian"


def debian_mirror(environ: Mapping[str, str] = os.environ) -> str:
    """Return where Debian's packages come from: ``PYXIS_MATRIX_DEBIAN_MIRROR`` or Debian's own address."""
    mirror = environ.get(DEBIAN_MIRROR_VARIABLE) or DEFAULT_DEBIAN_MIRROR
    if urlsplit(mirror).username is not None:
        raise ArtefactError(
            "the address of Debian's mirror holds a password",
            where=DEBIAN_MIRROR_VARIABLE,
            why="the address is kept in images and logs",
            next_step="give it without USER:PASSWORD@; a mirror that asks for them can be reached through a proxy",
        )
    return mirror


def pull(engine: Engine, reference: str, content: Content) -> bool:
    """Pull an image and give it the planned name; False where no registry has it."""
    if not engine.pull(reference, content.plan.arch.platform):
        return False
    engine.api.images.get(reference).tag(*content.tag.rsplit(":", 1))
    return True


def make(engine: Engine, content: Content, *, log: Path) -> None:
    """Pull Debian, or make it from Debian's packages: always so where the user names a package mirror."""
    suite, mirror = content.plan.build_args["SUITE"], content.plan.build_args["DEBIAN_MIRROR"]
    if mirror == DEFAULT_DEBIAN_MIRROR and pull(engine, f"debian:{suite}-slim", content):
        return
    program = shutil.which("mmdebstrap")
    if program is None:
        raise ArtefactError(
            f"Debian's base image for {suite} is missing",
            where=f"debian:{suite}-slim from Docker Hub, then mmdebstrap",
            why="no registry answers, and mmdebstrap is not installed",
            next_step="apt-get install mmdebstrap (ci/bootstrap does it), or docker pull the image by hand",
        )
    options = [
        line
        for line in (paths.CONTAINERS / "base" / "mmdebstrap.conf").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-base-") as folder:
        archive = Path(folder) / "base.tar"
        command: list[str | Path] = [program, *options, f"--architectures={content.plan.arch}", suite, archive, mirror]
        console.call(command, log=log).check(BuildError, f"mmdebstrap did not make {suite}", where=str(log))
        _import(engine, archive, content.tag)


def _import(engine: Engine, archive: Path, name: str) -> None:
    repository, tag = name.rsplit(":", 1)
    try:
        answer = engine.api.api.import_image(
            src=str(archive), repository=repository, tag=tag, changes=[f"LABEL {LABEL}=1", 'CMD ["/bin/bash"]']
        )
    except (APIError, RequestException) as error:
        raise explain(error, f"importing {name}") from error
    if not engine.image_exists(name):
        raise BuildError(f"the engine did not take {name}", why=str(answer))
