"""What is broken on purpose, and the words that whoever notices it has to say.

Each mutation is one lie or one outage of the product (plugin, enroot, Slurm, registry, pytest's report) in an
environment that was usable a moment ago. A suite that stays green on it proves less than its name says.
"""

import json
from pathlib import Path

from ci.matrix.cells import Runtime
from ci.record.outcomes import Outcome
from tests.mutations import images
from tests.mutations.details import CODE, DETAILS
from tests.mutations.mutation import CONTROL, REAL, Mutation

_ONE = frozenset({"pyxis_basic", "legacy_integration"})
"""One suite of a cell: where all would say the same."""
_REAL_ENROOT = "/usr/local/lib/real/enroot"
_REAL_SRUN = "/usr/local/lib/real/srun"
# How a proof fails that a job ran in its image: by the marker of another, or by none, in the words of cat (coreutils',
# busybox'), unsquashfs and Python.
_NO_MARKER = (
    "did not run inside"
    "|/etc/pyxis-matrix-image: No such file"
    "|can't open '/etc/pyxis-matrix-image'"
    "|no matches for /etc/pyxis-matrix-image"
    "|No such file or directory: '/etc/pyxis-matrix-"
)


def _instead_of_srun(script: str) -> str:
    """Return what puts a bash script in the place of srun; ``$srun`` is the real one."""
    return (
        f"mkdir -p {Path(_REAL_SRUN).parent} && srun=$(command -v srun) && mv $srun {_REAL_SRUN}\n"
        f"cat > $srun <<'END_OF_SRUN'\n#!/bin/bash\nsrun={_REAL_SRUN}\n{script}\nEND_OF_SRUN\nchmod 755 $srun"
    )


def _srun_with(rewritten: str) -> str:
    """Return what has srun's words rewritten, one by one, by the arms of a bash ``case``."""
    return _instead_of_srun(
        f'words=()\nfor word; do case $word in {rewritten} *) words+=("$word");; esac; done\nexec $srun "${{words[@]}}"'
    )


def _without_hooks(*hooks: str) -> str:
    """Return what takes hooks from the SPANK plugin.

    Slurm looks a hook up by its name. Under another name of the same length it is not found, and a plugin need not have
    it: nothing is said, and the plugin goes on taking its options.
    """
    names = "|".join(hooks)
    return (
        "plugin=$(sed -n 's/^required *//p' /etc/slurm/plugstack.conf.d/*.conf) && test -f \"$plugin\" &&\n"
        f"LC_ALL=C sed -i -E 's/slurm_spank_({names})/xlurm_spank_\\1/g' \"$plugin\""
    )


def _removed(log: Path) -> None:
    log.unlink()


def _cut(log: Path) -> None:
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2])


def _passed_only(log: Path) -> None:
    """Keep of a log what a pytest that ended in its first test would have written, up to a whole line."""
    kept = []
    for line in log.read_bytes().splitlines(keepends=True):
        kept.append(line)
        if json.loads(line).get("when") == "teardown":
            break
    log.write_bytes(b"".join(kept))


# The container is set up in these, and taken down in those.
_STARTING = ("user_init", "task_init", "task_post_fork")
_ENDING = ("task_exit", "exit")

_OUTAGES = (
    Mutation(
        name="plugin not loaded",
        nodes="for file in /etc/slurm/plugstack.conf.d/*.conf; do : > $file; done",
        says="unrecognized option|'--container-image' in 'Usage",
    ),
    Mutation(
        name="munge dead",
        nodes="rm /run/munge/munge.socket.2",  # killing it would end the whole node: its entry script sees to that
        says="[Mm]unge",
        runtimes=frozenset(Runtime),
    ),
    Mutation(
        name="controller down",
        nodes="kill -STOP $(pidof slurmctld)",
        says="Unable to contact slurm controller|Socket timed out|no answer within|has not ended",
        runtimes=frozenset(Runtime),
    ),
    Mutation(
        name="slurmd down",
        nodes="kill -STOP $(pidof slurmd)",
        says="Socket timed out|no answer within|has not ended",
        runtimes=frozenset(Runtime),
        # A job waits for a node that does not come back, and the test for its limit: minutes in each suite.
        suites=frozenset({"pyxis_conformance", "legacy_integration"}),
    ),
    Mutation(
        name="prolog fails",
        nodes="echo Prolog=/bin/false >> /etc/slurm/slurm.conf && scontrol reconfigure",
        says="[Pp]rolog|has not ended",
        runtimes=frozenset(Runtime),
        # It drains the node with the first job, and each suite after the first waits as above.
        suites=_ONE,
    ),
    Mutation(
        name="home not writable",
        nodes="chown -R root:root /home && chmod -R a-w /home",
        says="Permission denied",
        runtimes=frozenset(Runtime),
    ),
    Mutation(
        name="data folder full",
        nodes=(
            "for folder in cache data tmp; do\n"
            "    mount -t tmpfs -o mode=1777,size=64k full /var/lib/enroot-data/$folder\ndone"
        ),
        says="[Nn]o space left on device",
    ),
    Mutation(
        name="registry empty",
        registry="rm -rf /srv/registry/docker",
        says="MANIFEST_UNKNOWN|manifest unknown|404",
    ),
)

_LIES = (
    Mutation(
        name="plugin takes its options and does nothing",
        nodes=_without_hooks(*_STARTING, *_ENDING),
        says=f"{_NO_MARKER}|No module named 'slurm'",
    ),
    Mutation(
        name="plugin does nothing and the node has the marker",
        nodes=f"{_without_hooks(*_STARTING, *_ENDING)}\necho 'pyxis-matrix job image' > /etc/pyxis-matrix-image",
        says=f"the node itself has the marker|{_NO_MARKER}|No module named 'slurm'",
    ),
    Mutation(
        name="plugin leaves its containers behind",
        nodes=_without_hooks(*_ENDING),
        says=r"assert not \['pyxis_",
    ),
    Mutation(
        name="enroot is true",
        nodes="ln -sf /bin/true $(command -v enroot)",
        # Pyxis says the second where enroot ends well; the third is unsquashfs's.
        says=r"container (start failed|exited too soon)|Could not open image\.sqsh",
    ),
    Mutation(
        name="another enroot",
        nodes=(
            f"mkdir -p {Path(_REAL_ENROOT).parent} && enroot=$(command -v enroot) && mv $enroot {_REAL_ENROOT}\n"
            f'printf \'#!/bin/sh\\ntest "$1" = version && echo 9.9.9 || exec {_REAL_ENROOT} "$@"\\n\' > $enroot\n'
            "chmod 755 $enroot"
        ),
        says="another enroot than the cell's id says",
        runtimes=REAL,
        suites=frozenset({"pyxis_conformance"}),
        file="test_versions.py",
    ),
    Mutation(
        name="another Pyxis",
        nodes="echo 'pyxis: version v9.9.9' >> /var/log/slurm/slurmd.log",
        says="another Pyxis than the cell's id says",
        runtimes=REAL,
        suites=frozenset({"pyxis_conformance"}),
        file="test_versions.py",
    ),
    Mutation(
        name="srun drops its exit status",
        nodes=_instead_of_srun('$srun "$@"\nexit 0'),
        says=r"assert 0 [!=]=|assert 0 in|assert \(0,",
    ),
    Mutation(
        name="srun drops standard output",
        nodes=_instead_of_srun('exec $srun "$@" > /dev/null'),
        says="did not run inside|== ''|IndexError",
    ),
    Mutation(
        name="srun runs one image whatever is asked for",
        nodes=_srun_with('--container-image=*) words+=("--container-image=$(cat /etc/one-image)");;'),
        environment=images.name_one,
        says=_NO_MARKER,
    ),
    Mutation(
        name="images without their marker",
        environment=images.without_marker,
        plugin="tests.mutations.plugins.no_marker",
        says=_NO_MARKER,
    ),
)

# An option that is taken and has no effect; an empty value goes through, for it is refused before anything happens.
# What is asked for by sbatch goes past the words of srun, and stays as it is.
_DROPPED = tuple(
    Mutation(
        name=f"srun drops {option}",
        nodes=_srun_with(f"{option}|{option}=?*);;"),
        says=option,
        suites=frozenset({"pyxis_conformance"}),
        file=file,
    )
    for option, file in (
        ("--container-mounts", "test_mounts.py"),
        ("--container-workdir", "test_workdir.py"),
        ("--container-name", "test_names.py"),
        ("--container-save", "test_save.py"),
        ("--container-mount-home", "test_home.py"),
        ("--no-container-mount-home", "test_home.py"),
        ("--container-remap-root", "test_remap_root.py"),
        ("--no-container-remap-root", "test_remap_root.py"),
        ("--container-entrypoint", "test_entrypoint.py"),
        ("--no-container-entrypoint", "test_entrypoint.py"),
        ("--container-writable", "test_names.py"),
        ("--container-readonly", "test_names.py"),
        ("--container-env", "test_env.py"),
    )
)

_MAKING_THE_WORKDIR = r"""words=() dir=
for word; do
    case $word in
        --container-workdir=?*) dir=${word#*=}; continue ;;
        -*) ;;
        *) test -z "$dir" || words+=(sh -c 'mkdir -p "$0" 2> /dev/null; cd "$0" 2> /dev/null && exec "$@"
            printf "couldn\047t chdir to %s: No such file or directory\n" "$0" >&2; exit 1' "$dir"); dir= ;;
    esac
    words+=("$word")
done
exec $srun "${words[@]}"
"""
"""A root that nobody can write to hides it: only where the folder can be made, something is seen."""
_WORKDIR = (
    Mutation(
        name="srun makes a missing --container-workdir",
        nodes=_instead_of_srun(_MAKING_THE_WORKDIR),
        says="/w/not-there",
        suites=frozenset({"pyxis_conformance"}),
        file="test_workdir.py",
    ),
)

# What stands between a suite and its result. One suite is enough: they all go the same way.
_ERROR = frozenset({Outcome.ERROR})
_RESULTS = (
    Mutation(
        name="report log removed",
        log=_removed,
        says="never began",
        outcomes=_ERROR,
        suites=_ONE,
        runtimes=frozenset(Runtime),
    ),
    Mutation(
        name="report log cut",
        log=_cut,
        says="did not finish|is invalid",
        outcomes=_ERROR,
        suites=_ONE,
        runtimes=frozenset(Runtime),
    ),
    Mutation(
        name="report log ends after the first test",
        log=_passed_only,
        says="did not finish",
        outcomes=_ERROR,
        suites=_ONE,
        runtimes=frozenset(Runtime),
    ),
    Mutation(
        name="pytest killed",
        plugin="tests.mutations.plugins.killed",
        says="did not finish.*SIGKILL",
        outcomes=_ERROR,
        suites=_ONE,
        runtimes=frozenset(Runtime),
    ),
)

MUTATIONS = (
    Mutation(name=CONTROL, says="", runtimes=frozenset(Runtime)),
    *_OUTAGES,
    *_LIES,
    *_DROPPED,
    *_WORKDIR,
    *_RESULTS,
    *DETAILS,
    *CODE,
)
