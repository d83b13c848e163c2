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
# Whole names are compared: no job or container of a run whose id only begins so is taken for one of these. Names of
# containers end as a user's tests like, so those of a longer id stay as long as there is a folder of it.
# --me is younger than some Slurms. The nameless container of a job has its number: %A, also for an array's task.
# A container of another name may be anybody's, also a job's of the user's own that runs meanwhile: it is only told.
# A process is the run's if it works in the folder and the name of the run's jobs is in its variables or, of the shell
# that was given them, in its text. What a user has opened there by themselves goes on.
# The folder goes last: as long as anything is left, it says whose that is, and by which names it is found.
# Nodes get the names by a variable: what can't be read there would pass for nothing to remove. They list jobs after
# containers: one that was there before, and has no job then, has none any more.
_CLEAN = r"""
run={run} folder={folder} owner={owner} marker=tiny- left= unkept= waited=0 cancelled=
re=${{run//./\\.}}
cd "$HOME" || exit 1
theirs=$(cat "$folder"/{file} 2>/dev/null)
if test -n "$owner" && test "$theirs" != "$owner"; then
    test -n "$theirs" || test ! -d "$folder" || echo "folder: $folder has no owner"
    exit 0
fi
data=$(cat "$folder/.data" 2>/dev/null)
left() {{ test -z "$1" || left=$left${{left:+; }}$1; }}
jobs() {{
    listed=$(squeue --noheader --user="$(id -un)" --format='%A|%j|%o|%Z/') || return
    printf '%s\n' "$listed" |
        grep -E -e "\|(pyxis-matrix-$re|conformance-$re-[0-9a-f]{{12}})\|" -e "/{top}/$re/" | cut -d'|' -f1
}}
processes() {{
    inside=$(cd "./$folder" 2>/dev/null && pwd -P) && find /proc/[0-9]* -maxdepth 1 -name cwd -user "$(id -u)" \
        \( -lname "$inside" -o -lname "$inside/*" \) 2>/dev/null | cut -d/ -f3 | while read -r it; do
        cat "/proc/$it/environ" "/proc/$it/cmdline" 2>/dev/null | tr '\0' '\n' |
            grep -qE "(^| )SBATCH_JOB_NAME=pyxis-matrix-$re( |$)" && echo "$it"
    done
}}
while found=$(jobs); test -n "$found" && test $waited -lt 30; do
    test $waited -gt 0 || {{ cancelled=$found; scancel $found; }}
    sleep 1; waited=$((waited + 1))
done
waited=0
while found=$(processes); test -n "$found" && test $waited -lt 7; do
    case $waited in 0) kill $found;; [56]) kill -9 $found;; esac 2>/dev/null
    sleep 1; waited=$((waited + 1))
done
left "${{found:+processes: $(echo $found)}}"
found=$(jobs) || found="squeue does not list them"
left "${{found:+jobs: $(echo $found)}}"
if test -d "$folder"; then
    names=$({{
        cat "$folder/.patterns" 2>/dev/null
        printf '%s\n' "^(pyxis_([0-9]+_)?)?conformance-$re-[0-9a-f]{{12}}$" "pyxis-matrix-$re-"
        test -z "$cancelled" || printf '^pyxis_%s\\.\n' $cancelled
        find "$folder" -type d -printf '%f\n' | grep -E '^[0-9]{{8}}_[0-9]{{6}}_[0-9a-f]{{8}}$'
    }} | sort -u)
    # For the next try, if anything is left: a line that is there in part would be another container's.
    kept=$folder/.patterns
    {{ printf '%s\n' "$names" > "$kept.new" && mv -fT "$kept.new" "$kept"; }} 2>/dev/null ||
        unkept="containers: $kept can't be written"
    others=$(find {top}/ -maxdepth 1 -name "$run-*" -printf 'pyxis-matrix-%f-\n')
    export folder data marker names others
    for node in $(cat "$folder/.nodes" 2>/dev/null); do
        on_it=$(timeout 120 srun --nodelist=$node --ntasks=1 bash -c '
            all=$(enroot list) || {{ echo "containers: enroot does not list them"; exit; }}
            listed=$(squeue --noheader --user="$(id -un)" --format=%A) ||
                {{ echo "containers: squeue does not list jobs"; exit; }}
            ours=$(
                printf "%s\n" "$all" | grep -E -e "$names" | grep -vF -e "${{others:-/}}"
                for it in $(printf "%s\n" "$all" | grep -E "^pyxis_[0-9]+\.[0-9]+$"); do
                    job=${{it#pyxis_}}
                    test -O "$data/$it" && grep -qF "$marker" "$data/$it/etc/pyxis-matrix-image" || continue
                    printf "%s\n" "$listed" | grep -x "${{job%.*}}" >/dev/null || echo "$it"
                done 2>/dev/null
            )
            printf "%s\n" "$ours" | xargs --no-run-if-empty --max-args=1 enroot remove --force >/dev/null 2>&1
            {{ enroot list || echo "$ours"; }} | grep -xF -e "${{ours:-/}}" | sed "s/^/containers: /"
            cd "$data" 2>/dev/null || exit 0
            find . -maxdepth 1 -name "pyxis_*" -newer ~/"$folder/.nodes" -printf "{new}%f on $(hostname -s)\n" >&2
            true') || on_it="containers: $node was not asked"
        left "$(printf '%s\n' "$on_it" | grep '^containers: ')"  # not what a prolog says
    done
fi
if test -n "$left"; then
    left "$unkept"; echo "$left"
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
    """Cancel the jobs of a run, end its processes, remove its containers and its folder; return what could not be.

    Processes are those on the login node that commands of the run began and that work in its folder: they get SIGTERM,
    and SIGKILL after five seconds.

    :param owner: whose run it has to be, else nothing is done; empty for anybody's. A folder that does not say whose it
        is counts as left.
    :return: jobs, processes by number, containers, the folder; empty for nothing.
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
