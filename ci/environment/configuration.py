"""Slurm's configuration files, rendered for a cell's version of Slurm."""

import jinja2

from ci import paths
from ci.engine.connection import InsideFile
from ci.environment.plan import EnvironmentPlan
from ci.matrix.cells import Cell, Runtime
from ci.matrix.profile_files import CGROUP_CONF, ENROOT_CONF, SLURM_CONF

# More CPUs than most machines have, so that the jobs of several tests can run at the same time. Slurm accepts them
# because of config_overrides in slurm.conf.
CPUS_PER_NODE = 8
MEMORY_MB_PER_NODE = 4096
_PARTITION = "PartitionName={} Nodes={} MaxTime=01:00:00 State=UP\n"
_COMMON = "slurm-integration"


def configuration(plan: EnvironmentPlan) -> dict[str, bytes]:
    """Return the configuration files by their path on a node."""
    folder = _own_folder(plan.cell)
    hostnames = plan.names.hostnames
    variables: dict[str, object] = {
        "slurm": plan.cell.slurm.release,
        "cluster": "pyxis-matrix",
        "controller": hostnames[0],
        "nodes": [{"name": name, "cpus": CPUS_PER_NODE, "memory_mb": MEMORY_MB_PER_NODE} for name in hostnames],
        "accounting": plan.options.accounting,
        "plugstack": plan.cell.runtime is not Runtime.LEGACY,
        "gpus": plan.options.gpus,
    }
    files = {
        SLURM_CONF: render(f"{folder}/slurm.conf", variables),
        CGROUP_CONF: render(f"{_COMMON}/cgroup.conf", variables),
    }
    # Appended and not in the template, because that is the legacy cluster's as well, which has only the partition
    # debug.
    files[SLURM_CONF] += "".join(
        _PARTITION.format(name, ",".join(hostnames)) for name in plan.options.partition
    ).encode()
    # Last, so that the profile's settings are those that count.
    if plan.profile:
        files[SLURM_CONF] = plan.profile.over(files[SLURM_CONF].decode()).encode()
    if plan.options.gpus:
        files["/etc/slurm/gres.conf"] = render(f"{folder}/gres.conf", variables)
    return files


def of_profile(plan: EnvironmentPlan) -> dict[str, InsideFile]:
    """Return a profile's files on a node, except slurm.conf, by path; none without a profile."""
    if plan.profile is None:
        return {}
    own = plan.profile.files.items()
    files = {path: InsideFile(content=file.content, mode=file.mode) for path, file in own if path != SLURM_CONF}
    if ENROOT_CONF in files and plan.cell.runtime is Runtime.EMBEDDED:
        # The profile's file replaces the embedded one, which also names the node's own folders. They go into another
        # file that enroot reads; on real nodes they are in one already.
        of_node = (paths.CONTAINERS / "embedded/enroot.conf").read_bytes()
        files["/etc/enroot/enroot.conf.d/50-node.conf"] = InsideFile(content=of_node)
    if plan.profile.cgroups:
        # On cgroup v2, slurmd would look for systemd and dbus, and a node has neither.
        said = files[CGROUP_CONF].content if CGROUP_CONF in files else b""
        more = b"" if "ignoresystemd" in plan.profile.settings else b"\nIgnoreSystemd=yes\n"
        files[CGROUP_CONF] = InsideFile(content=said + more)
    for name in plan.profile.node_scripts:
        script = (paths.PROFILES / name).read_bytes()
        files[f"/usr/local/lib/node-entrypoint.d/{name}"] = InsideFile(content=script)
    return files


def templates_of(cell: Cell) -> frozenset[str]:
    """Return the folders below ``containers/`` with the templates of a cell's configuration."""
    return frozenset({_COMMON, _own_folder(cell)})


def _own_folder(cell: Cell) -> str:
    return _COMMON if cell.runtime is Runtime.LEGACY else "slurm-pyxis-integration"


def render(template: str, variables: dict[str, object]) -> bytes:
    """Render a template below ``containers/``; an unknown variable is an error, never an empty string."""
    # Not `ci.templates`, which takes the line of a block away: the legacy cluster's file stays as it is, to the letter.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.CONTAINERS),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - these are configuration files, not HTML
    )
    return environment.get_template(template).render(variables).encode()
