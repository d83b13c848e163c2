"""What a cluster that exists tells its user of itself: versions, nodes, settings. What it does not is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import re
import shlex

from packaging.version import Version

from ci.environment.ssh import Connection, RemoteAnswer
from ci.errors import LaunchError, SiteError, VersionMismatchError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.observed import mismatches
from ci.site.target import SiteTarget, job_name
from ci.terminal import console

EMBEDDED = "embedded-"
"""How this project's stand-in for enroot begins its version."""
_PATIENCE = 300.0
"""Seconds for the first job to wait for its turn."""
_MOST_NODES = 8
"""How many are asked whether they have the plugin."""
# What begins with / is a file to Pyxis, and no registry is asked (https://github.com/NVIDIA/pyxis/issues/127).
# No node has the image: with the plugin the task fails before its command. What another job has is not waited for.
_HAS_PYXIS = """
for node in {nodes}; do
    said=$(srun --nodelist=$node --ntasks=1 --immediate=10 --container-image=/{job}.sqsh echo {job} ran </dev/null 2>&1)
    case $said in
    *"{job} ran"*) echo "$node=lacks it" ;;
    *"task 0:"*) echo "$node=has it" ;;
    *) echo "$node=$(echo "$said" | tail -n 1)" ;;
    esac
done
"""
# Behind a state may stand signs (https://slurm.schedmd.com/sinfo.html): `idle~` is powered off, `mixed-` planned for a
# job, `allocated+` has others that are ending. For these a job waits; `*` does not answer.
_UP = {"idle", "mixed", "allocated", "completing"}
# `key=value` lines. The version of Pyxis stands in its plugin as text; a part of a longer number is none. Where the
# plugin is: plugstack.conf, and what that includes. A node that has its configuration from the controller keeps it in
# /run/slurm.
_VERSIONS = r"""
PATH=$PATH:/usr/sbin:/sbin
plugin() {
    for conf in "$(scontrol show config 2>/dev/null | sed -n 's/^PlugStackConfig *= *//p')" \
        /run/slurm/conf/plugstack.conf /etc/slurm/plugstack.conf; do test -r "$conf" && break; done
    cd "$(dirname "$conf")" && cat $conf $(sed -n 's/^include[[:space:]]*//p' $conf) 2>/dev/null |
        grep -o '/[^[:space:]]*spank_pyxis\.so' | head -n 1
}
plugin=$(plugin); test -r "$plugin" || plugin=/dev/null
echo pyxis=$(LC_ALL=C tr -cs 0-9. '\n' < "$plugin" | grep -xE '0\.[0-9]{1,2}\.[0-9]{1,2}' | sort -u)
echo slurm=$(srun --version 2>/dev/null || slurmd -V 2>/dev/null)
"""
# Config files of enroot are shell words behind a name: their values have $HOME and $(id -u).
_ON_THE_NODE = r"""
echo arch=$(uname -m); echo kernel=$(uname -r); . /etc/os-release; echo os=$PRETTY_NAME; echo system=$ID$VERSION_ID
echo enroot=$(enroot version 2>/dev/null); echo home=$(test -d "$WORK" && echo shared)
cd /etc/enroot 2>/dev/null
line=$(sed -n 's/^ENROOT_DATA_PATH[[:space:]]*//p' enroot.conf enroot.conf.d/*.conf 2>/dev/null | tail -n 1)
eval "echo data=${line:-${XDG_DATA_HOME:-$HOME/.local/share}/enroot}"
"""
_SAME = {"slurm": "Slurm", "enroot": "enroot", "pyxis": "Pyxis", "arch": "architecture", "system": "operating system"}
"""What a result has one of, and how people call it."""


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """What was seen of a cluster."""

    cell: Cell
    """Its versions; the right answers are theirs."""
    versions: Mapping[str, str]
    """As results have them: only what was seen."""
    user: str
    work: str
    """The folder of the run."""
    nodes: tuple[str, ...]
    """The first is the one that jobs run on."""
    logs_in_elsewhere: bool
    """Whether the login node is none of them."""
    enroot_data: str


def observe(connection: Connection, target: SiteTarget, run: str) -> SiteFacts:
    """Ask the cluster, by commands on the login node and by a job on each node that is used.

    :raises SiteError: for what is missing there, and for what neither it nor the target tells.
    :raises VersionMismatchError: where the target says another version than the cluster.
    """
    user, home, host, *_ = _said(connection.run('id -un; echo "$HOME"; hostname -s')).splitlines()
    settings = settings_of(connection)
    if "--container-image" not in connection.run("srun --help").stdout:
        raise SiteError(
            "srun has no option --container-image there: the cluster has no Pyxis, or its plugin is not for this user",
            why="Pyxis adds it by plugstack.conf on the login node",
            next_step="ask for a login node that has the plugin",
        )
    work = f"{home}/{target.folder(run)}"
    up = _nodes(connection, target, host)
    with console.step("asking jobs for the versions of their nodes"):
        # Two, because a suite has tests of two nodes; more would ask for more of a cluster that others use.
        told = _of_jobs(connection, up[:2], work, run)
    nodes, first = tuple(told), next(iter(told.values()))
    for node, of in told.items():
        if of.get("home") != "shared":
            raise SiteError(
                f"the node of a job does not have the folder {target.folder(run)} of the login node's home",
                where=f"on {node}",
                why="what jobs and login node pass to each other has to lie where both see it",
            )
    _check_plugin(connection, up, run)
    login = _pairs(connection.run(_VERSIONS).stdout)
    seen = _agreed({"the controller": {"slurm": settings["slurm_version"]}, "the login node": login}, told)
    axes = _axes(seen, target, first)
    versions = {name: first[name] for name in ("arch", "kernel", "os")}
    versions |= {name: seen[name] for name in ("slurm", "enroot", "pyxis")}
    return SiteFacts(
        cell=Cell.of_site(target.name, axes, settings),
        versions={name: text for name, text in versions.items() if text},
        user=user,
        work=work,
        nodes=nodes,
        logs_in_elsewhere=nodes[0] != host,
        enroot_data=first["data"],
    )


def _said(answer: RemoteAnswer) -> str:
    if answer.status:
        raise SiteError("a command on the login node failed", where=answer.command, why=answer.stderr.strip())
    return answer.stdout


def settings_of(connection: Connection) -> dict[str, str]:
    """Return what Slurm says of its configuration, without units; keys in small letters."""
    answer = connection.run("scontrol show config")
    pairs = (line.partition("=") for line in answer.stdout.splitlines())
    # "KillWait                = 30 sec". Lines without a sign are headings, and whether slurmctld answers.
    found = {key.strip().lower(): re.sub(r" (?:sec|min)$", "", value.strip()) for key, sign, value in pairs if sign}
    if answer.status or not found.get("slurm_version"):
        raise SiteError(
            "Slurm did not answer on the login node",
            where=answer.command,
            why=(answer.stderr or answer.stdout).strip(),
            next_step="its commands have to be on PATH where a login is no terminal: ssh HOST scontrol show config",
        )
    return found


def _nodes(connection: Connection, target: SiteTarget, host: str) -> tuple[str, ...]:
    """Return some nodes that are up, that of the login first; or the one that was named."""
    if target.nodelist:
        return (target.nodelist,)
    where = f"--partition={shlex.quote(target.partition)}" if target.partition else ""
    answer = connection.run(f"sinfo --noheader --Node --format='%N %T %P' {where}")
    return choose(answer.stdout, host, anywhere=bool(target.partition))


def choose(listed: str, host: str, *, anywhere: bool) -> tuple[str, ...]:
    """Return up to eight nodes of a list of sinfo's that are up, that of the login first.

    :param anywhere: whether all partitions of the list count, and not only the default one.
    """
    rows = [line.split() for line in listed.splitlines()]
    # "n1 idle debug*": a line for each partition of a node; the default one has the star.
    states = {name: state for name, state, partition in rows if anywhere or partition.endswith("*")}
    up = [name for name, state in states.items() if state.rstrip("*~#!%$@^-+") in _UP and not state.endswith("*")]
    if not up:
        raise SiteError(
            "no node is up there for jobs of this user",
            why=", ".join(f"{name}: {state}" for name, state in states.items()) or "the default partition has none",
            next_step="name another partition in the file of the cluster: partition = NAME",
        )
    # False comes first: the login node, if it is one of them.
    return tuple(sorted(up, key=lambda name: name != host)[:_MOST_NODES])


def _of_jobs(connection: Connection, nodes: Sequence[str], work: str, run: str) -> dict[str, dict[str, str]]:
    """Return what jobs on nodes tell, by node. A second node is left out where no job runs on it."""
    told = {}
    for node in nodes:
        try:
            told[node] = _of_a_job(connection, node, work, run)
        except SiteError as error:
            if not told:
                raise
            console.warn(f"{node} is not used: {error}")
    return told


def _of_a_job(connection: Connection, node: str, work: str, run: str) -> dict[str, str]:
    """Return what a job on a node tells. While it waits, say what Slurm says that it waits for."""
    script = f"WORK={shlex.quote(work)}\n{_VERSIONS}{_ON_THE_NODE}"
    words = shlex.join(["srun", f"--nodelist={node}", "--ntasks=1", "bash", "-c", script])
    said = ""

    def ask() -> None:
        nonlocal said
        before = said
        said = connection.run(f"squeue --noheader --name={job_name(run)} --format='%i is %T: %r'").stdout.strip()
        if said and said != before:
            console.say(f"  waiting for {node}, job {said}")

    try:
        answer = connection.run(words, limit=_PATIENCE, meanwhile=ask)
    except LaunchError as error:
        ask()
        # srun still waits for its turn there, and nothing else ends it.
        connection.run(f"scancel --name={job_name(run)}")
        raise SiteError(
            f"the first job did not run within {_PATIENCE:g} s",
            where=f"on {node}",
            why=said or error.what,
            next_step="name a partition, a reservation or a node that has room, in the file of the cluster",
        ) from error
    if answer.status:
        raise SiteError(
            "the first job failed",
            where=f"on {node}",
            why=answer.stderr.strip() or answer.stdout.strip(),
            next_step="where it needs an account, a partition or a QOS, name it in the file of the cluster",
        )
    return _pairs(answer.stdout)


def _check_plugin(connection: Connection, nodes: Sequence[str], run: str) -> None:
    """See that nodes have the plugin: where one has not, jobs that ask for an image run on the host, with status 0.

    Of a node that does not tell, because it is busy for example, that is said.

    :raises SiteError: naming those that have not.
    """
    told = _pairs(connection.run(_HAS_PYXIS.format(nodes=shlex.join(nodes), job=job_name(run)), limit=_PATIENCE).stdout)
    for node in nodes:
        if (said := told.get(node, "")) not in {"has it", "lacks it"}:
            console.warn(f"whether {node} has Pyxis is not known: {said or 'it was not told'}")
    if lacking := [node for node in nodes if told.get(node) == "lacks it"]:
        raise SiteError(
            "not all nodes have Pyxis: a step with --container-image ran on the host",
            where=", ".join(lacking),
            why="plugstack.conf there does not load the plugin, or slurmd has not read it",
            next_step='have it loaded there; or name a node that has it, in the file of the cluster: nodelist = "NODE"',
        )


def _pairs(said: str) -> dict[str, str]:
    """Return `key=value` lines. A version that is told twice, by a plugin with two texts, is not told."""
    pairs = (line.partition("=") for line in said.splitlines())
    found = {key: value.strip() for key, sign, value in pairs if sign}
    if " " in found.get("pyxis", ""):
        found["pyxis"] = ""
    return found


def _agreed(others: Mapping[str, Mapping[str, str]], nodes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return what all nodes say of what a result has one of; empty where one does not tell it.

    :param others: who else tells some of it: jobs are made there, so it has to be the same.
    :raises SiteError: if anybody says another version than the rest.
    """
    every = {**others, **{f"node {name}": versions for name, versions in nodes.items()}}
    seen = {}
    for key, name in _SAME.items():
        said = {who: _release(key, versions[key]) for who, versions in every.items() if versions.get(key)}
        if len(set(said.values())) > 1:
            raise SiteError(
                f"the cluster has more than one {name}",
                where="; ".join(f"{who}: {version}" for who, version in said.items()),
                why="a result is that of one combination of versions",
                next_step='name a node that is as the login node, in the file of the cluster: nodelist = "NODE"',
            )
        seen[key] = next(iter(said.values()), "") if all(versions.get(key) for versions in nodes.values()) else ""
    return seen


def _release(key: str, said: str) -> str:
    """Return a version as the cluster's id has it: of "slurm-wlm 22.05.8" the number, and 26.05.0 of 26.05.0-0rc1."""
    return said.rpartition(" ")[2].partition("-")[0] if key == "slurm" else said


def _axes(seen: Mapping[str, str], target: SiteTarget, told: Mapping[str, str]) -> dict[str, str | None]:
    """Return the cluster's versions as a cell has them: what was seen, else what the target says.

    :raises SiteError: for what nothing tells, or what is no version.
    """
    axes: dict[str, str | None] = dict.fromkeys(("slurm", "enroot", "pyxis"))
    # The stand-in for enroot brings its own plugin, and neither has a release.
    wanted = ["slurm"] if seen["enroot"].startswith(EMBEDDED) else [*axes]
    axes |= {name: seen[name].replace("~", "") or getattr(target, name) for name in wanted}  # Debian's 4.2.0~rc1
    if missing := [name for name in wanted if not axes[name]]:
        raise SiteError(
            f"the cluster does not tell its version of {' and '.join(missing)}",
            why="the expected answers depend on it, and a guess would make results of another version",
            next_step="ask its administrators, and write into the file of the cluster: "
            + ", ".join(f'{name} = "…"' for name in missing),
        )
    said = {name: getattr(target, name) for name in wanted if getattr(target, name)}
    if wrong := mismatches(said, {name: axes[name] or "" for name in wanted}):
        raise VersionMismatchError(
            f"the cluster is not what its file says: {', '.join(wrong)}",
            where=str(target.path),
            why="the cluster itself tells its version",
            next_step="correct the file, or leave the version out there",
        )
    try:
        [Version(axes[name] or "") for name in wanted]
        arch = Arch.parse(told["arch"]).value
    except ValueError as error:  # InvalidVersion is one
        raise SiteError("the cluster is of a version or an architecture that is not known", why=str(error)) from error
    return {**axes, "os": re.sub(r"[^a-z0-9.]", "", told["system"].lower()), "arch": arch}
