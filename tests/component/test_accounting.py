"""A cell that records its jobs: slurmdbd with a real MariaDB beside the nodes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ci.engine.connection import Engine
from ci.environment import launching, ssh
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.images.building import Builder
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.conftest import SUITE
from tests.component.weather import until


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
        ask = "sacct --noheader --parsable2 --allocations --format JobName,State,ExitCode"
        until("both jobs are recorded", lambda: len(shell.run(ask).stdout.split()) == 2)
        until("both jobs have ended", lambda: "RUNNING" not in shell.run(ask).stdout)
        assert sorted(shell.run(ask).stdout.split()) == ["bad|FAILED|3:0", "good|COMPLETED|0:0"]
    nothing_left()
    assert (logs / "slurmdbd.log").is_file()
