"""Slurm's accounting for an environment that asks for it: slurmdbd over a real MariaDB, in a container of its own."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from docker.errors import APIError
from requests.exceptions import RequestException

from ci import paths
from ci.engine.connection import Engine, InsideFile, explain, labels
from ci.environment.wait import NotYet, Watched, tolerating, wait_for
from ci.images import plan
from ci.terminal import signals

if TYPE_CHECKING:
    from docker.models.containers import Container

HOST = "slurmdbd"
_READY_SECONDS = 120.0
_LOG = "/var/log/slurm/slurmdbd.log"


def start(
    stack: ExitStack,
    engine: Engine,
    *,
    image: str,
    names: plan.Names,
    run_id: str,
    cell_id: str,
    munge_key: bytes,
    slurm_conf: bytes,
) -> "Container":
    """Start slurmdbd and wait until it knows the cluster; ``stack`` removes it.

    It has to be there before the nodes: slurmctld does not start without it.
    """
    folder = paths.CONTAINERS / "slurmdbd"
    files = {
        "/etc/slurm/slurmdbd.conf": InsideFile(content=(folder / "slurmdbd.conf").read_bytes(), mode=0o600),
        "/etc/slurm/slurm.conf": InsideFile(content=slurm_conf),
        "/etc/munge/munge.key": InsideFile(content=munge_key, mode=0o400),
    }
    try:
        with signals.shielded():
            container = engine.api.containers.create(
                image,
                name=names.accounting,
                hostname=HOST,
                labels=labels(run_id, cell_id, "accounting"),
                tmpfs={"/run": "exec,mode=755"},
                network=names.network,
                networking_config=engine.aliases(names.network, HOST),
            )
            stack.callback(engine.remove, container)
        engine.put(container, files)
        container.start()
    except (APIError, RequestException) as error:
        raise explain(error, "starting slurmdbd") from error

    def probe() -> bool | NotYet:
        answer = engine.ask(container, ["test", "-e", "/run/slurmdbd-ready"])
        return True if answer.status == 0 else NotYet("it does not know the cluster yet")

    wait_for(
        "slurmdbd",
        tolerating(probe, APIError),
        limit=_READY_SECONDS,
        watched=Watched(
            alive=lambda: engine.alive(container),
            diagnose=lambda: engine.log_tail(container),
            hint=f"{_LOG} in the container names what MariaDB or munge refused",
        ),
    )
    return container


def logs(engine: Engine, container: "Container") -> dict[str, str]:
    """Return what slurmdbd and its database wrote, by file name."""
    return {"slurmdbd.log": engine.log_tail(container, lines=2000)}
