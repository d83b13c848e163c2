"""A container suite in little: it notes which environment each worker of pytest-xdist sees."""

import os
from pathlib import Path
import time

import pytest

from ci import environment_file
from ci.environment import ssh


@pytest.mark.parametrize("number", range(4))
def test_the_environment_is_up(number: int, worker_id: str) -> None:
    """Leave a note of what this worker saw; wait until both are at work, so that neither does it all."""
    file = environment_file.current()
    with ssh.connect(file.login) as shell:
        assert shell.run("srun hostname").stdout.split() == ["n1"]
    notes = Path(os.environ["PROBE_NOTES"])
    (notes / f"{worker_id}-{number}").write_text(file.run, encoding="utf-8")
    end = time.monotonic() + 60
    while len({note.name.split("-")[0] for note in notes.iterdir()}) < 2 and time.monotonic() < end:
        time.sleep(0.05)
