"""Slurm's configuration files, rendered for a cell's version of Slurm."""

import jinja2

from ci import paths
from ci.environment.plan import EnvironmentPlan
from ci.matrix.cells import Cell, Runtime

# More than most machines have: with config_overrides Slurm counts CPUs that do not exist, so that the jobs of several
# tests can run at the same time.
CPUS_PER_NODE = 8
MEMORY_MB_PER_NODE = 4096
SLURM_CONF = "/etc/slurm/slurm.conf"
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
        "/etc/slurm/cgroup.conf": render(f"{_COMMON}/cgroup.conf", variables),
    }
    # Behind the template: it is the legacy cluster's as well, which has debug alone unless somebody asks for more.
    files[SLURM_CONF] += "".join(
        _PARTITION.format(name, ",".join(hostnames)) for name in plan.options.partition
    ).encode()
    if plan.options.gpus:
        files["/etc/slurm/gres.conf"] = render(f"{folder}/gres.conf", variables)
    return files


def templates_of(cell: Cell) -> frozenset[str]:
    """Return the folders below ``containers/`` that a cell's configuration is rendered from."""
    return frozenset({_COMMON, _own_folder(cell)})


def _own_folder(cell: Cell) -> str:
    return _COMMON if cell.runtime is Runtime.LEGACY else "slurm-pyxis-integration"


def render(template: str, variables: dict[str, object]) -> bytes:
    """Render a template below ``containers/``; an unknown variable is an error, never an empty string."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.CONTAINERS),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - these are configuration files, not HTML
    )
    return environment.get_template(template).render(variables).encode()
