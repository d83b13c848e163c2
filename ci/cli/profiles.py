"""The command `profile`: what of one is refused or ignored and where it holds; and one made of a site's own files."""

import argparse
from pathlib import Path
import sys

from ci.environment import ssh
from ci.errors import SelectionError, as_here, session, typed
from ci.matrix import loading
from ci.matrix.cells import Runtime
from ci.matrix.profiles import Profile
from ci.options import values
from ci.site import importing
from ci.site.collecting import collect
from ci.site.target import SiteTarget
from ci.terminal import console


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `profile` to its parser."""
    parser.usage = (
        f"{typed('profile check NAME|DIR')}\n       {typed('profile import USER@HOST[:PORT]|FILE [--output DIR]')}"
    )
    parser.add_argument(
        "what",
        choices=["check", "import"],
        help="check: read one, and say on which Slurm it can be used; import: make one of a site's files, over SSH",
    )
    parser.add_argument("which", metavar="NAME|DIR|USER@HOST[:PORT]|FILE", help="a profile, or for import a cluster")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="of import: the new folder (default: here, with the cluster's name)"
    )


def profile(parsed: argparse.Namespace) -> int:
    """Check a profile, or import one."""
    return check(parsed) if parsed.what == "check" else import_(parsed)


def check(parsed: argparse.Namespace) -> int:
    """Print what is ignored of a profile, and for each Slurm of the matrix whether its real cells can have it.

    :raises ProfileError: names what is refused; then it holds nowhere.
    """
    if parsed.output:
        raise SelectionError("--output cannot be used with check", why="it writes nothing")
    try:
        # argparse did not read it: for `import` the same word is the address of a cluster.
        profile = Profile.of(values.profile(parsed.which))
    except argparse.ArgumentTypeError as error:
        raise SelectionError(str(error)) from error
    lines = [f"the profile {profile.name}: {profile.summary or 'no summary'}"]
    lines += [f"  ignored: {line}" for line in profile.ignored()]
    cells = [cell for cell in loading.load().without_groups() if cell.runtime is Runtime.NVIDIA]
    for slurm in dict.fromkeys(cell.slurm for cell in cells):
        found = dict.fromkeys(profile.unfit(cell) for cell in cells if cell.slurm == slurm)
        # An empty text in `found` is a cell that can have the profile.
        said = "refused" if "" not in found else "yes" if len(found) == 1 else "some cells"
        lines.append(f"  Slurm {slurm.version}: {'; '.join([said, *filter(None, found)])}")
    sys.stdout.write("\n".join([*lines, ""]))
    return 0


def import_(parsed: argparse.Namespace) -> int:
    """Make a profile of the files of a cluster that exists, and print what was left out, and why.

    :raises ProfileError: if the folder is there. :raises SiteError: if the cluster can't be asked.
    """
    target = SiteTarget.of(parsed.which)
    folder = (parsed.output or Path(target.name)).expanduser().resolve()
    # Before the cluster is asked, which takes a login and some seconds.
    importing.check_folder(folder)
    with console.step("reading the site's configuration"), ssh.connect(target.login) as connection:
        site = collect(connection)
    profile = importing.profile_of(site, folder)
    sys.stdout.write("\n".join([*profile.said(), ""]))
    console.say(f"written: {folder} (README.md there has this list, too)")
    console.say(
        f"next: read it; {as_here(session('profile', f'check {folder}'))}; {typed(f'up CELL --profile {folder}')}"
    )
    return 0
