"""A cell that records its jobs: slurmdbd with a real MariaDB beside the nodes."""

from collections.abc import Callable
from pathlib import Path

from ci.artefacts.sources import Sources
from ci.engine.connection import Engine
from ci.environment import launching, ssh
from ci.environment.launching import Options
from ci.images.building import Builder
from ci.matrix.model import Matrix
from ci.terminal.console import Timings
from tests.component.weather import LEGACY, until


def test_sacct_knows_how_a_job_ended(
    *,
    engine: Engine,
    builder: Builder,
    rows: Matrix,
    run: str,
    tmp_path: Path,
    nothing_left: Callable[[], None],
) -> None:
    cell, where = rows.cell(LEGACY), Sources.from_environment()
    images = launching.prepare(
        engine, builder, cell, what=rows.subject, checkout=None, where=where, with_accounting=True
    )
    asked = Options(run=run, suite="component", results=tmp_path, accounting=True)
    with (
        launching.launch(engine, cell, images, asked, what="the subject", timings=Timings()) as launched,
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
    assert (tmp_path / "logs" / "slurmdbd.log").is_file()
