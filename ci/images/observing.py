"""The versions inside an image, found by running it once, and then kept under the image's identity."""

from contextlib import suppress
from dataclasses import dataclass
import json

from ci import paths
from ci.artefacts.releases import slurm_artefact
from ci.engine.connection import Engine
from ci.engine.labels import LABEL
from ci.errors import BuildError
from ci.matrix.cells import SlurmVersion
from ci.matrix.observed import slurm_matches

# Prints "slurm-wlm 22.05.8" (Debian's) or "slurm 25.11.7", then "3.11". chr(46) is a dot: both quotes are in use.
_SCRIPT = 'slurmctld -V; python3 -c "import sys; print(*sys.version_info[:2], sep=chr(46))"'


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The versions inside a Slurm image."""

    slurm: str
    """In full, such as ``22.05.8``."""
    python: str
    """Major and minor version, such as ``3.11``."""


def observe(engine: Engine, identity: str) -> Observed:
    """Return the versions inside a Slurm image.

    An image of one identity never changes, so it is run once, and the answer is kept in the cache. The hash of its
    inputs is no substitute for the identity: the same inputs give another Slurm after Debian's suite has changed.

    :param identity: the engine's content-addressed id of the image (``sha256:…``).
    """
    memory = paths.cache_dir() / "observed" / f"{identity.replace(':', '-')}.json"
    with suppress(OSError, ValueError, TypeError):  # missing, or written only in part by a run that was killed
        return Observed(**json.loads(memory.read_text(encoding="utf-8")))
    first, second = engine.run_image(identity, _SCRIPT, {LABEL: "1"}).split("\n")[:2]
    observed = Observed(slurm=first.split()[-1], python=second.strip())
    paths.make_directory(memory.parent)
    memory.write_text(json.dumps(vars(observed)), encoding="utf-8")
    return observed


def check_slurm(observed: Observed, image: str, wanted: SlurmVersion) -> None:
    """Refuse an image with another Slurm than the cell's id says.

    :param image: its name, for the message.
    """
    if slurm_matches(observed.slurm, wanted.release):
        return
    series = ".".join(observed.slurm.split(".")[:2])
    where, why = "matrix.toml, [[slurm]]", "the operating system ships another version of Slurm now"
    next_step = f"change the row's version to {series}"
    if archive := slurm_artefact(wanted):
        where, why = archive.path, "the archive is not that of this release"
        next_step = "put the right archive into the mirror, or correct the row's version in matrix.toml"
    raise BuildError(
        f"the image {image} has Slurm {observed.slurm}, not {wanted}", where=where, why=why, next_step=next_step
    )
