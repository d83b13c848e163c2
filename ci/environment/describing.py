"""The description of an environment that has been started, for tests and tools."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci.engine.labels import owner
from ci.environment import cluster, registry, users
from ci.environment.plan import EnvironmentPlan
from ci.environment.service import Place
from ci.environment_file import EnvironmentFile, Login
from ci.images.building import BuiltCell
from ci.images.plan import JOB_PYTHON
from ci.options.values import NODE

# The path in the image `subject`.
_NODE_PYTHON = "/opt/subject/bin/python"


@dataclass(frozen=True, kw_only=True)
class Started:
    """An environment that was started, and may not be usable yet."""

    cluster: cluster.Cluster
    registry: registry.Registry | None
    login: Login
    at: float
    """When the first container was started (``time.monotonic``)."""
    observed: Mapping[str, str] = field(default_factory=dict)
    """The versions inside, once it is usable."""


def describe(
    place: Place,
    plan: EnvironmentPlan,
    images: BuiltCell,
    started: Started,
    pushed: registry.Pushed | None,
    state: Path,
) -> EnvironmentFile:
    """Return the description of the environment for tests and tools."""
    engine, cell, options = place.engine, plan.cell, plan.options
    # Facts that results have beside the versions.
    beside = {"emulated": f"on {engine.arch}"} if engine.emulates(cell.arch) else {}
    beside |= {"profile": plan.profile.label} if plan.profile else {}
    return EnvironmentFile(
        run=options.run,
        cell=cell.id,
        session=place.session,
        owner=owner(),
        suite=options.name,
        runtime=cell.runtime.value,
        arch=cell.arch.value,
        slurm=cell.slurm.version,
        enroot=str(cell.enroot) if cell.enroot else None,
        pyxis=str(cell.pyxis) if cell.pyxis else None,
        nodes=plan.names.hostnames,
        containers=plan.names.nodes,
        login=started.login,
        second_user=users.USERS[1],
        registry=started.registry.address if started.registry else None,
        registry_name=f"{options.registry_name}:{started.registry.port}"
        if options.registry_name and started.registry
        else None,
        emulated=engine.emulates(cell.arch),
        accounting=images.accounting is not None,
        gpus=options.gpus,
        job_image=images.job.tag if images.job else None,
        job_reference=pushed.reference if pushed else None,
        job_python=images.observed.python if options.job_image == NODE else JOB_PYTHON,
        subject=plan.subject,
        subject_python=_NODE_PYTHON,
        engine_client=str(engine.build_client.link_into(state / "bin")),
        engine_environment=dict(engine.build_client.environment),
        observed={**started.observed, **beside},
        artefacts={fetched.artefact.path: str(fetched.path) for fetched in images.artefacts},
        matrix_cell=cell.stands_for,
        candidates={candidate.axis: candidate.as_json() for candidate in cell.candidates},
        answers={axis: str(version) for axis, version in cell.answers},
        profile=cell.profile,
        settings=dict(cell.settings),
        results=str(options.folder(cell)),
    )
