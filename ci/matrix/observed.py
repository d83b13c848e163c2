"""Whether what was observed inside a cluster is what a cell's id says; launcher and report ask it alike."""

from collections.abc import Mapping
import re

from ci.matrix.arch import Arch
from ci.matrix.cells import read_version
from ci.matrix.model import VERSION_AXES

_NUMBER = re.compile(r"\d+(?:\.\d+)*")


def mismatches(axes: Mapping[str, str | None], observed: Mapping[str, str]) -> tuple[str, ...]:
    """Return a text for each axis on which something else was observed than the cell has, or nothing at all.

    Each names both, such as ``pyxis is 0.24.0, not 0.19.0``. Of a candidate (``0.24.0+g1a2b3c4``) only the release is
    compared: no program knows the commit that it was made of.

    :param axes: what the cell is to have, as `ci.matrix.cells.Cell.axes` and results name it; None where an axis does
        not apply.
    :param observed: what was seen inside, as results have it in ``versions``.
    """
    found = []
    for axis in VERSION_AXES:
        wanted = axes.get(axis)
        if wanted and not _fits(axis, observed.get(axis, ""), wanted):
            found.append(f"{axis} is {observed.get(axis) or 'unknown'}, not {wanted}")
    for axis, same in (("arch", _same_arch), ("os", _same_os)):
        wanted, seen = axes.get(axis), observed.get(axis)
        if wanted and not (seen and same(seen, wanted)):
            found.append(f"{axis} is {seen or 'unknown'}, not {wanted}")
    return tuple(found)


def slurm_matches(observed: str, wanted: str) -> bool:
    """Tell whether an observed Slurm (``22.05.8``) is the wanted one, or of the wanted series (``22.05``)."""
    # With the dot or dash that follows, so that 24.1 is not taken for the series of 24.11.5.
    return observed == wanted or observed.startswith((f"{wanted}.", f"{wanted}-"))


def _fits(axis: str, observed: str, wanted: str) -> bool:
    release = wanted.partition("+")[0]
    if axis == "slurm":
        return slurm_matches(observed, release)
    # Packages of Debian write 4.2.0~rc1, and 4.2.0+git1 for what comes after 4.2.0.
    seen = read_version(observed.replace("~", "").partition("+")[0])
    return seen is not None and seen == read_version(release)


def _same_arch(observed: str, wanted: str) -> bool:
    try:
        return Arch.parse(observed) is Arch.parse(wanted)
    except ValueError:
        return observed == wanted


def _same_os(observed: str, wanted: str) -> bool:
    """Tell whether "Debian GNU/Linux 12 (bookworm)" is debian12, "Ubuntu 24.04.1" ubuntu24.04; sid has no number."""
    found, said = (_NUMBER.search(name) for name in (observed, wanted))
    # With a dot behind both, so that debian1 is not the beginning of Debian 12.
    return not (found and said) or f"{found[0]}.".startswith(f"{said[0]}.")
