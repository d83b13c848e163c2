"""The plan of a cell's environment: its images, names and options. Nothing is started here."""

from dataclasses import dataclass, replace

from ci.images import plan
from ci.images.plan import CellImages, debian_mirror
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix, SuiteEnvironment
from ci.options import Options


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of everything that one environment starts."""

    prefix: str
    network: str
    registry: str
    accounting: str
    nodes: tuple[str, ...]
    hostnames: tuple[str, ...]
    home_volume: str
    data_volumes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EnvironmentPlan:
    """All that is needed to build a cell's images and to launch it."""

    cell: Cell
    options: Options
    """As given, with the defaults of matrix.toml filled in."""
    images: CellImages
    names: Names
    subject: str
    """What the package under test is installed from: a requirement or a path; for results."""
    suite_environment: SuiteEnvironment

    @property
    def mounts(self) -> tuple[str, ...]:
        """Folders of the host that are mounted on every node under the same path: a checkout of the subject."""
        return (str(self.options.subject.resolve()),) if self.options.subject else ()


def plan_environment(cell: Cell, matrix: Matrix, options: Options) -> EnvironmentPlan:
    """Plan a cell's environment; pure.

    :raises SelectionError: for an option that does not fit the cell.
    """
    options.check(cell)
    settled = replace(
        options,
        nodes=options.nodes or matrix.defaults.nodes,
        accounting=options.accounting or cell.slurm.accounting,
    )
    return EnvironmentPlan(
        cell=cell,
        options=settled,
        images=plan.images_of(
            cell,
            matrix.subject,
            settled.subject,
            accounting=settled.accounting,
            debian_mirror=debian_mirror(),
        ),
        names=names(settled.run, cell, settled.nodes),
        subject=str(settled.subject) if settled.subject else matrix.subject.requirement,
        suite_environment=matrix.suite_environment,
    )


def names(run: str, cell: Cell, nodes: int) -> Names:
    """Return the names for ``run``, ``cell`` and a number of nodes; runs have different names."""
    prefix = f"{plan.REPOSITORY}-{run}-{cell.id}"
    hostnames = tuple(f"n{number}" for number in range(1, nodes + 1))
    return Names(
        prefix=prefix,
        network=prefix,
        registry=f"{prefix}-registry",
        accounting=f"{prefix}-slurmdbd",
        nodes=tuple(f"{prefix}-{hostname}" for hostname in hostnames),
        hostnames=hostnames,
        home_volume=f"{prefix}-home",
        data_volumes=tuple(f"{prefix}-{hostname}-data" for hostname in hostnames),
    )
