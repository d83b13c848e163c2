"""A cell that records its jobs: slurmdbd with a real MariaDB beside the nodes."""

from collections.abc import Callable, Iterator
from pathlib import Path

from docker.models.containers import Container
import pytest

from ci import paths
from ci.engine.connection import Engine
from ci.engine.labels import labels
from ci.environment import launching, ssh
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.images.building import Builder
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.conftest import SUITE
from tests.component.weather import until

SLURMDBD_CONF = paths.CONTAINERS / "slurmdbd/slurmdbd.conf"


@pytest.fixture
def planned(cell: Cell, rows: Matrix, run: str, tmp_path: Path) -> EnvironmentPlan:
    return plan_environment(cell, rows, Options(run=run, name=SUITE, results=tmp_path, accounting=True))


def test_sacct_knows_how_a_job_ended(
    engine: Engine, builder: Builder, planned: EnvironmentPlan, logs: Path, nothing_left: Callable[[], None]
) -> None:
    images = builder.build(planned.images)
    with (
        launching.launch(engine, planned, images, timings=Timings()) as launched,
        ssh.connect(launched.file.login) as shell,
    ):
        assert launched.file.accounting
        assert "accounting" in launched.ready
        assert shell.run("srun --job-name good true").status == 0
        assert shell.run("srun --job-name bad sh -c 'exit 3'").status == 3
        # slurmctld hands its records over when it finds the time.
        # Waiting until the cell was usable took a job, too.
        ask = "sacct --name good,bad --noheader --parsable2 --allocations --format JobName,State,ExitCode"
        until("both jobs are recorded", lambda: len(shell.run(ask).stdout.split()) == 2)
        until("both jobs have ended", lambda: "RUNNING" not in shell.run(ask).stdout)
        assert sorted(shell.run(ask).stdout.split()) == ["bad|FAILED|3:0", "good|COMPLETED|0:0"]
    nothing_left()
    assert (logs / "slurmdbd.log").is_file()


# The files that an environment puts into the container, and a setting of MariaDB's beside them.
PREPARED = r"""
printf '[mysqld]\n%s\n[client-server]\nsocket = /run/elsewhere/of.sock\n' "$1" > /etc/mysql/mariadb.conf.d/99-zz.cnf
printf '%s\n' ClusterName=sample SlurmctldHost=n1 SlurmUser=slurm NodeName=n1 'PartitionName=p Nodes=n1' \
    AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=slurmdbd > /etc/slurm/slurm.conf
printf '%s' "$2" > /etc/slurm/slurmdbd.conf
head -c 128 /dev/urandom > /etc/munge/munge.key
exec /usr/local/sbin/slurmdbd-entrypoint
"""


@pytest.fixture
def slurmdbd(
    engine: Engine, builder: Builder, planned: EnvironmentPlan, run: str
) -> Iterator[Callable[[str], Container]]:
    """Return a function that starts slurmdbd on its own, with a setting of MariaDB's."""
    started: list[Container] = []
    named = labels(run, planned.cell.id, "accounting")
    network = engine.api.networks.create(f"{run}-slurmdbd", labels=named)
    image = builder.build(planned.images).accounting
    assert image

    def start(setting: str) -> Container:
        container = engine.api.containers.run(
            image.tag,
            entrypoint=["bash", "-c", PREPARED, "prepared", setting, SLURMDBD_CONF.read_text(encoding="utf-8")],
            hostname="slurmdbd",
            network=network.name,
            tmpfs={"/run": ""},
            labels=named,
            detach=True,
        )
        started.append(container)
        return container

    yield start
    for container in started:
        container.remove(force=True, v=True)
    network.remove()


def test_the_database_may_have_its_socket_in_any_folder(slurmdbd: Callable[[str], Container]) -> None:
    """Debian's MariaDB 12 has it in /run/mariadbd, which is not there without systemd."""
    container = slurmdbd("pid-file = /run/another/of.pid")

    def over() -> bool:
        container.reload()
        if container.status == "exited":
            return True
        return container.exec_run(["test", "-e", "/run/slurmdbd-ready"]).exit_code == 0

    until("slurmdbd knows the cluster, or has ended", over)
    assert container.status == "running", container.logs().decode()


def test_a_database_that_ends_is_told_with_what_it_wrote(slurmdbd: Callable[[str], Container]) -> None:
    container = slurmdbd("no-such-setting = 1")
    assert container.wait(timeout=30)["StatusCode"] == 1, "it waits for a database that has ended"
    said = container.logs().decode()
    assert "no-such-setting" in said
    assert said.rstrip().endswith("MariaDB has ended; what it wrote is above")
