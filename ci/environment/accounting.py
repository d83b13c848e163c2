"""Slurm's accounting, for environments with ``--accounting``: slurmdbd and MariaDB, in a container of their own."""

from ci import paths
from ci.engine.connection import Container, InsideFile
from ci.environment import service
from ci.environment.configuration import configuration
from ci.environment.plan import EnvironmentPlan
from ci.environment.service import Place, Service
from ci.environment.wait import NotYet, wait_for

_HOST = "slurmdbd"
# Three daemons start one after another; the entry script has limits of its own for each (10, 60 and 60 s).
_READY_SECONDS = 120.0


def start(place: Place, plan: EnvironmentPlan, *, image: str, munge_key: bytes) -> Container:
    """Start slurmdbd and wait until it knows the cluster.

    It is started before the nodes, because slurmctld does not start without it.
    """
    engine = place.engine
    slurm_conf = configuration(plan)["/etc/slurm/slurm.conf"]
    slurmdbd_conf = (paths.CONTAINERS / "slurmdbd" / "slurmdbd.conf").read_bytes()
    wanted = Service(
        role="accounting",
        image=image,
        name=plan.names.accounting,
        hostname=_HOST,
        files={
            # slurmdbd refuses a file that others can read.
            "/etc/slurm/slurmdbd.conf": InsideFile(content=slurmdbd_conf, mode=0o600),
            # For ClusterName, which the entry script adds to the database.
            "/etc/slurm/slurm.conf": InsideFile(content=slurm_conf),
            "/etc/munge/munge.key": InsideFile(content=munge_key, mode=0o400),
        },
        tmpfs=("/run",),
    )
    container = service.start(place, wanted)

    def probe() -> bool | NotYet:
        # The entry script makes it after `sacctmgr add cluster`. slurmdbd answers before that, and slurmctld would end.
        answer = engine.run_inside(container, ["test", "-e", "/run/slurmdbd-ready"])
        return True if answer.status == 0 else NotYet("slurmdbd does not know the cluster yet")

    hint = "the lines above are from munged, MariaDB and slurmdbd; the last says which of them has ended"
    wait_for("slurmdbd", probe, limit=_READY_SECONDS, watched=service.watched(engine, container, hint))
    return container
