"""The folder of a run on a cluster that exists: it is one session's; and how all goes that the run made there."""

from collections.abc import Sequence
import shlex

from ci.environment.ssh import Connection
from ci.errors import SelectionError, SiteError
from ci.site.target import SiteTarget
from ci.terminal import console

_OWNER = ".session"
"""In the folder of a run: whose it is. Beside it, ``.nodes`` and ``.data`` say where containers may be."""
_TAKEN = "taken: "
_NEW = "new: "
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
# All that a run makes is called after it, or lies below its folder; slurm-sdk calls containers after folders there.
# Whole names are compared: no other job of the user's is taken for one of these. --me is younger than some Slurms.
# A container of another name may be anybody's, also a job's of the user's own that runs meanwhile: it is only told.
# A process that a test left on the login node works in the folder; the nameless container of a job has its number.
# The folder goes last: as long as anything is left, it says whose that is, and by which names it is found.
_CLEAN = r"""
run={run} folder={folder} owner={owner} marker=tiny-
cd "$HOME" || exit 1
test -z "$owner" || test "$(cat "$folder"/{file} 2>/dev/null)" = "$owner" || exit 0
data=$(cat "$folder/.data" 2>/dev/null)
jobs() {{
    listed=$(squeue --noheader --user="$(id -un)" --format='%i|%j|%o|%Z/') || return
    grep -F -e "|pyxis-matrix-$run|" -e "|conformance-$run-" -e "/$folder/" <<< "$listed" | cut -d'|' -f1
}}
waited=0 cancelled=
while found=$(jobs); test -n "$found" && test $waited -lt 30; do
    test $waited -gt 0 || {{ cancelled=$found; scancel $found; }}
    sleep 1; waited=$((waited + 1))
done
inside=$(pwd -P)/$folder
find /proc/[0-9]* -maxdepth 1 -name cwd -user "$(id -u)" \( -lname "$inside" -o -lname "$inside/*" \) 2>/dev/null |
    cut -d/ -f3 | xargs --no-run-if-empty kill 2>/dev/null
left=
jobs >/dev/null || found="squeue does not list them"
test -z "$found" || left="jobs: "$found
if test -d "$folder"; then
    printf '%s\n' "conformance-$run-" "pyxis-matrix-$run-" $(printf 'pyxis_%s. ' $cancelled) >> "$folder/.names"
    find "$folder" -type d -printf '%f\n' | grep -E '^[0-9]{{8}}_[0-9]{{6}}_[0-9a-f]{{8}}$' >> "$folder/.names"
    export folder data marker
    for node in $(cat "$folder/.nodes" 2>/dev/null); do
        on_it=$(timeout 120 srun --nodelist=$node --ntasks=1 bash -c '
            enroot list >/dev/null || {{ echo "containers: enroot does not list them"; exit; }}
            list() {{
                enroot list | grep -F -f ~/"$folder/.names"
                for it in $(enroot list | grep -E "^pyxis_[0-9]+\.[0-9]+$"); do
                    job=${{it#pyxis_}}
                    grep -qF -e "$marker" "$data/$it/etc/pyxis-matrix-image" 2>/dev/null || continue
                    squeue --noheader --jobs="${{job%.*}}" 2>/dev/null | grep -q . || echo "$it"
                done
            }}
            list | xargs --no-run-if-empty --max-args=1 enroot remove --force >/dev/null 2>&1
            list | sed "s/^/containers: /"
            cd "$data" 2>/dev/null || exit 0
            find . -maxdepth 1 -name "pyxis_*" -newer ~/"$folder/.nodes" -printf "{new}%f on $(hostname -s)\n" >&2
            true') || on_it="containers: $node was not asked"
        on_it=$(grep '^containers: ' <<< "$on_it")  # not what a prolog says
        left=$left${{left:+${{on_it:+; }}}}$on_it
    done
fi
if test -n "$left"; then
    echo "$left"
elif test -d "$folder"; then
    chmod -R u+rwX "$folder"; rm -rf "$folder"; rmdir {top} 2>/dev/null
    test ! -e "$folder" || echo "folder: $folder"
fi
"""


def claim(connection: Connection, target: SiteTarget, run: str, owner: str) -> None:
    """Make the folder of a run, which is this session's until it is removed.

    :param owner: a word that no other session has, and behind it, for people, whose it is.
    :raises SelectionError: if it is there: another session has it, on whatever machine, or left it.
    :raises SiteError: if it can't be made.
    """
    answer = connection.run(_CLAIM.format(**_words(run, owner), taken=_TAKEN))
    if _TAKEN in answer.stdout:
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
    """Cancel the jobs of a run, remove its containers and its folder; return what could not be, empty for nothing.

    :param owner: whose run it has to be, else nothing is done; empty for anybody's.
    """
    answer = connection.run(_CLEAN.format(run=shlex.quote(run), **_words(run, owner)), limit=600.0)
    for line in answer.stderr.splitlines():
        if line.startswith(_NEW):
            console.warn(
                f"left there: {line.removeprefix(_NEW)}, made or changed since this run began, by what is not known; "
                "if it is a test's: enroot remove"
            )
    return answer.stdout.strip() or (answer.stderr.strip() if answer.status else "")


def _words(run: str, owner: str) -> dict[str, str]:
    folder = SiteTarget.folder(run)
    quoted = {"folder": shlex.quote(folder), "owner": shlex.quote(owner), "top": folder.partition("/")[0]}
    return {**quoted, "file": _OWNER, "new": _NEW}
