"""The folder of a run on a cluster that exists: it is one session's; and how all goes that the run made there."""

from collections.abc import Sequence
from pathlib import Path
import shlex

from ci import templates
from ci.environment.ssh import Connection
from ci.errors import SelectionError, SiteError
from ci.site.target import SiteTarget
from ci.terminal import console

_OWNER = ".session"
"""In the folder of a run: whose it is. Beside it, ``.nodes`` and ``.data`` say where containers may be."""
_TAKEN = "taken: "
_NEW = "new: "
# Neither made nor there: mkdir once more, for its own words on stderr.
# Of two sessions that make the same folder, mkdir tells one that it was there.
_CLAIM = r"""
cd "$HOME" && mkdir -p {top} || exit 1
if mkdir -m 0700 {folder} 2>/dev/null; then
    echo {owner} > {folder}/{file} || {{ rm -rf {folder}; exit 1; }}
elif test -d {folder}; then
    echo "{taken}$(cat {folder}/{file} 2>/dev/null)"
else
    mkdir {folder}
fi
"""


def claim(connection: Connection, target: SiteTarget, run: str, owner: str) -> None:
    """Make the folder of a run, which is this session's until it is removed.

    :param owner: a word that no other session has, and behind it, for people, whose it is.
    :raises SelectionError: if it is there: another session has it, on whatever machine, or left it.
    :raises SiteError: if it can't be made.
    """
    folder = SiteTarget.folder(run)
    quoted = {"folder": shlex.quote(folder), "owner": shlex.quote(owner)}
    answer = connection.run(_CLAIM.format(**quoted, top=_top(folder), file=_OWNER, taken=_TAKEN))
    if _TAKEN in answer.stdout:
        # "taken: 0a1b2c… ann@laptop, 2026-11-29 20:00:00 UTC": what stands behind the word is for people.
        by = answer.stdout.partition(_TAKEN)[2].strip().partition(" ")[2] or "nobody knows whom"
        raise SelectionError(
            f"run {run} is already in progress on the cluster",
            where=f"~/{target.folder(run)} there, made by {by}",
            why="two sessions of one run would remove each other's jobs; whether it was killed is not seen from here",
            next_step=f"{target.again} --down {run}, if it was; else leave PYXIS_MATRIX_RUN and --run out",
        )
    if answer.status:
        raise SiteError(
            "the folder of the run can't be made in the home there",
            where=target.folder(run),
            why=answer.stderr.strip(),
            next_step="it needs room, and a home that this user may write to",
        )


def note(connection: Connection, run: str, nodes: Sequence[str], enroot_data: str) -> None:
    """Write down in the folder of a run where its containers may be left.

    :param enroot_data: where enroot keeps containers. Those without a name, which Pyxis leaves of killed steps,
        are told by what only a tiny image of this project has.
    """
    folder = shlex.quote(SiteTarget.folder(run))
    known = {".nodes": " ".join(nodes), ".data": enroot_data}
    lines = (f"echo {shlex.quote(text)} > {folder}/{name}" for name, text in known.items())
    answer = connection.run(f'cd "$HOME" && {" && ".join(lines)}')
    if answer.status:
        raise SiteError("nothing can be written into the folder of the run", why=answer.stderr.strip())


def clean(connection: Connection, run: str, owner: str = "") -> str:
    """Cancel the jobs of a run, end its processes, remove its containers and its folder; return what could not be.

    Processes are those on the login node that commands of the run began and that work in its folder: they get SIGTERM,
    and SIGKILL after five seconds.

    :param owner: whose run it has to be, else nothing is done; empty for anybody's. A folder that does not say whose it
        is counts as left.
    :return: jobs, processes by number, containers, the folder; empty for nothing.
    """
    folder = SiteTarget.folder(run)
    script = templates.environment(Path(__file__).parent).get_template("cleaning.sh.j2")
    words = {"run": run, "owner": owner, "folder": folder, "top": _top(folder), "owner_file": _OWNER, "new": _NEW}
    # More than the limits in the script: 30 s for jobs, 7 s for processes, 120 s for each of two nodes.
    answer = connection.run(script.render(words), limit=600.0)
    for line in answer.stderr.splitlines():
        if line.startswith(_NEW):
            console.warn(
                f"left there: {line.removeprefix(_NEW)}, made or changed since this run began, by what is not known; "
                "if it is a test's: enroot remove"
            )
    failed = answer.stderr.strip() or f"not known: the shell there ended with status {answer.status}"
    return answer.stdout.strip() or (failed if answer.status else "")


def _top(folder: str) -> str:
    return folder.partition("/")[0]
