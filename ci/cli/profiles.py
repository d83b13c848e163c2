"""The command `profile check`: what of a profile is refused or ignored, and where it holds; nothing is started."""

import argparse
import sys

from ci.matrix import loading
from ci.matrix.cells import Runtime
from ci.matrix.profiles import Profile
from ci.options import values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `profile` to its parser."""
    parser.add_argument("what", choices=["check"], help="check: read it, and say on which Slurm it can be used")
    parser.add_argument("profile", type=values.profile, metavar="NAME|DIR", help="one that ships, or a folder")


def check(parsed: argparse.Namespace) -> int:
    """Print what is ignored of a profile, and for each Slurm of the matrix whether its real cells can have it.

    :raises ProfileError: names what is refused; then it holds nowhere.
    """
    profile = Profile.of(parsed.profile)
    lines = [f"the profile {profile.name}: {profile.summary or 'no summary'}"]
    lines += [f"  ignored: {it}" for it in profile.ignored()]
    cells = [it for it in loading.load().without_groups() if it.runtime is Runtime.NVIDIA]
    for slurm in dict.fromkeys(it.slurm for it in cells):
        found = dict.fromkeys(profile.unfit(it) for it in cells if it.slurm == slurm)
        said = "refused" if "" not in found else "yes" if len(found) == 1 else "some cells"
        lines.append(f"  Slurm {slurm.version}: {'; '.join([said, *filter(None, found)])}")
    sys.stdout.write("\n".join([*lines, ""]))
    return 0
