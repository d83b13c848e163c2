"""New releases of upstream: the command says them, or takes them into the matrix."""

import argparse

from ci.artefacts.sources import Sources
from ci.cli.elsewhere import check_checkout
from ci.errors import ArtefactError, NewReleaseError, as_here, session
from ci.matrix import loading
from ci.terminal import console
from ci.terminal.quantities import count
from ci.upstream.bump import take
from ci.upstream.github import GitHub
from ci.upstream.news import look


def bump(parsed: argparse.Namespace) -> int:
    """Look for new releases of Slurm, enroot and Pyxis, and add their rows and pins; with ``--check`` only say them."""
    if not parsed.check:
        check_checkout("bump without --check")
    news = look(loading.load(), GitHub())
    for new in news:
        console.say(str(new))
    if not news:
        console.say("nothing new: the matrix has the newest release of each series")
        return 0
    if parsed.check:
        raise NewReleaseError(
            f"upstream has {count(len(news), 'release')} that {'is' if len(news) == 1 else 'are'} not in the matrix",
            why="; ".join(f"{new.axis} {new.published.version}" for new in news),
            next_step=f"{session('bump')} adds their rows to matrix.toml, and their checksums to containers/pins.toml",
        )
    taken = take(news, Sources.from_environment())
    for new in taken.added:
        again = "" if new.same_series else "; look at its limits: it is a new series"
        console.say(f"added: {new.axis} {new.published.version}{again}")
    # After the others were added: they are whole, with row and pins.
    if taken.left:
        raise ArtefactError(
            f"not added: {count(len(taken.left), 'new release')}",
            why="; ".join(f"{new.axis} {new.published.version}: {why}" for new, why in taken.left.items()),
            next_step="run it again where upstream is reachable; a release that lacks a file has to wait",
        )
    console.say(f"next: git diff; {as_here(session('tests'))}; then the suites on the new cells")
    return 0
