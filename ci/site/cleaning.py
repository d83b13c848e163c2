"""What a run leaves on a cluster that exists, and how it goes: jobs, containers, and the one folder."""

from collections.abc import Sequence
import shlex

from ci.environment.ssh import Connection
from ci.site.target import SiteTarget

# All that a run makes is called after it, or lies below its folder; slurm-sdk calls containers after folders there.
# Whole names are compared: no other job of the user's is taken for one of these. --me is younger than some Slurms.
_CLEAN = r"""
run={run} folder={folder} data={data} marker=tiny-
cd "$HOME"
jobs() {{ squeue --noheader --user="$(id -un)" --format='%i|%j|%o|%Z/' |
    grep -F -e "|pyxis-matrix-$run|" -e "|conformance-$run-" -e "/$folder/" | cut -d'|' -f1; }}
waited=0
while found=$(jobs); test -n "$found" && test $waited -lt 30; do
    test $waited -gt 0 || scancel $found
    sleep 1; waited=$((waited + 1))
done
test -z "$found" || echo "jobs:" $found
if test -d "$folder"; then
    echo "conformance-$run-" > "$folder/.names"
    find "$folder" -type d -printf '%f\n' | grep -E '^[0-9]{{8}}_[0-9]{{6}}_[0-9a-f]{{8}}$' >> "$folder/.names"
    export folder data marker
    for node in {nodes}; do
        timeout 120 srun --nodelist=$node --ntasks=1 bash -c '
            list() {{
                enroot list | grep -F -f ~/"$folder/.names"
                for it in $(enroot list | grep -E "^pyxis_[0-9]+\.[0-9]+$"); do
                    job=${{it#pyxis_}}
                    grep -qF -e "$marker" "$data/$it/etc/pyxis-matrix-image" 2>/dev/null || continue
                    squeue --noheader --jobs="${{job%.*}}" 2>/dev/null | grep -q . || echo "$it"
                done
            }}
            list | xargs --no-run-if-empty --max-args=1 enroot remove --force >/dev/null 2>&1
            list | sed "s/^/containers: /"' || echo "containers: $node was not asked"
    done
    chmod -R u+rwX "$folder"; rm -rf "$folder"; rmdir {top} 2>/dev/null
fi
test ! -e "$folder" || echo "folder: $folder"
"""


def clean(connection: Connection, run: str, nodes: Sequence[str], enroot_data: str) -> str:
    """Cancel the jobs of a run, remove its containers and its folder; return what could not be, empty for nothing.

    :param enroot_data: where enroot keeps containers. Those without a name, which Pyxis leaves of killed steps,
        are told by what only a tiny image of this project has.
    """
    folder = SiteTarget.folder(run)
    words = {"run": shlex.quote(run), "folder": shlex.quote(folder), "top": folder.partition("/")[0]}
    words["data"] = shlex.quote(enroot_data)
    script = _CLEAN.format(nodes=shlex.join(nodes), **words)
    answer = connection.run(script, limit=600.0)
    return answer.stdout.strip() or (answer.stderr.strip() if answer.status else "")
