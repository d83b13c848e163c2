"""The plan of a cell's environment: its images, names and options. Nothing is started here."""

from dataclasses import dataclass, replace

from ci.errors import SelectionError
from ci.images import plan
from ci.images.plan import CellImages
from ci.matrix.cells import Cell, engine_name
from ci.matrix.model import Matrix, SuiteEnvironment
from ci.matrix.profiles import Profile
from ci.options import Options
from ci.options.values import NODE, RunsOn
from ci.terminal.quantities import count

_PYTEST = ("pytest>=8", "pytest-reportlog>=0.4", "pytest-rerunfailures>=15", "pytest-xdist>=3.6")
"""The packages that run a suite on the login node: the same as on the host (the group `test` in pyproject.toml)."""
_PIP = ("pip", "setuptools", "wheel")
"""The packages that pip needs when it builds a package on a node."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of all objects of one environment."""

    prefix: str
    network: str
    registry: str
    registry_hostname: str
    """Its name in the network; never the name that means the nodes' own loopback (``--registry-name``)."""
    accounting: str
    nodes: tuple[str, ...]
    hostnames: tuple[str, ...]
    home_volume: str
    data_volumes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EnvironmentPlan:
    """All that is needed to build a cell's images and to launch it."""

    cell: Cell
    given: Options
    """The options as given, for the command that does this again."""
    options: Options
    """The options with the defaults of matrix.toml filled in."""
    images: CellImages
    names: Names
    subject: str
    """The requirement or path that the package under test is installed from; for results."""
    suite_environment: SuiteEnvironment
    profile: Profile | None = None
    """The profile that is laid over the nodes."""
    commit: str = ""
    """The commit of this project's checkout; for results."""
    again: str = ""
    """The command that runs this on the site again; for a cell it is made from cell and options."""

    @property
    def mounts(self) -> tuple[str, ...]:
        """Folders of the host that are mounted on every node under the same path: a checkout of the subject."""
        return (str(self.options.subject.resolve()),) if self.options.subject else ()


def plan_environment(cell: Cell, matrix: Matrix, options: Options) -> EnvironmentPlan:
    """Plan a cell's environment; pure.

    :raises SelectionError: for an option that cannot be used with the cell.
    """
    options.check(cell)
    profile = Profile.of(options.profile or cell.profile) if options.profile or cell.profile else None
    needed = profile.nodes if profile else 1
    # 0: not given.
    if profile and 0 < options.nodes < needed:
        raise SelectionError(
            f"--nodes {options.nodes} cannot be used with the profile {profile.name}",
            where=str(profile.folder),
            why=f"it needs {count(needed, 'node')}",
            next_step=f"--nodes {needed}, or leave it out",
        )
    settled = replace(
        options,
        nodes=options.nodes or max(matrix.defaults.nodes, needed),
        accounting=options.accounting or cell.slurm.accounting or (profile is not None and profile.accounting),
    )
    images = plan.images_of(
        # A profile is files that are copied into nodes, so that cells with and without one share their images.
        cell.without_profile,
        matrix.subject,
        settled.subject,
        accounting=settled.accounting,
        job=cell.os if settled.job_image == NODE else None,
    )
    job = images.job
    if job and job.wheels:
        job = replace(job, wheels=replace(job.wheels, beside=settled.image_package))
    packages = (*settled.node_package, *_PIP) if settled.node_package else ()
    # With --on login pytest runs on the node, and what --with names goes there beside it.
    node = (*packages, *((*_PYTEST, *settled.beside) if settled.on is RunsOn.LOGIN else ()))
    return EnvironmentPlan(
        cell=cell,
        given=options,
        options=settled,
        images=replace(
            images,
            job=job,
            node_wheels=replace(images.node.wheels, beside=node) if images.node.wheels and node else None,
            base_wheels=replace(job.wheels, beside=(*settled.image_package, *packages))
            if job and job.wheels and settled.base_image and packages
            else None,
        ),
        names=names(settled, cell),
        subject=str(settled.subject) if settled.subject else matrix.subject.requirement,
        suite_environment=replace(matrix.suite_environment, extra=(*matrix.suite_environment.extra, *settled.env)),
        profile=profile,
    )


def names(options: Options, cell: Cell) -> Names:
    """Return the names of a cell's objects. Those of different runs differ, except a name that the user chose."""
    prefix = engine_name(f"{plan.REPOSITORY}-{options.run}-{cell.id}")
    hostnames = tuple(f"n{number}" for number in range(1, options.nodes + 1))
    containers = [f"{prefix}-{hostname}" for hostname in hostnames]
    return Names(
        prefix=prefix,
        network=prefix,
        registry=f"{prefix}-registry",
        registry_hostname="image-registry" if options.registry_name == "registry" else "registry",
        accounting=f"{prefix}-slurmdbd",
        nodes=(options.container_name or containers[0], *containers[1:]),
        hostnames=hostnames,
        home_volume=f"{prefix}-home",
        data_volumes=tuple(f"{prefix}-{hostname}-data" for hostname in hostnames),
    )
