"""Jobs that Slurm ends at their time limit."""

import time
import uuid

import pytest
from slurm import Cluster, DownloadError

from tests.integration import legacy_tasks as tasks
from tests.integration.legacy_support import Prepare, eventually, state_at_end

pytestmark = pytest.mark.slow_integration_test


def test_job_ends_at_its_time_limit(slurm_cluster: Cluster, on_nodes: Prepare, legacy_folder: str) -> None:
    trace = f"{legacy_folder}/limited-{uuid.uuid4().hex}"
    # Slurm counts limits in minutes and rounds up.
    job = on_nodes(tasks.beat, time="00:00:05")(trace)
    eventually("the job is running", job.is_running)
    assert job.get_status()["TimeLimit"] == "00:01:00"
    # Its owner may bring the end forward, which spares the rest of the minute; slurmctld looks every 30 s.
    slurm_cluster.backend.execute_command(f"scontrol update JobId={job.id} EndTime=now+2")
    assert state_at_end(job) == "TIMEOUT"
    with pytest.raises(DownloadError, match="State: TIMEOUT"):
        job.get_result()
    written = slurm_cluster.backend.read_file(trace)
    assert "beat\n" in written, "what was written before the end is still there"
    time.sleep(1.0)
    assert slurm_cluster.backend.read_file(trace) == written


def test_limit_beyond_the_partition_is_never_started(on_nodes: Prepare) -> None:
    job = on_nodes(tasks.where, time="1-00:00:00")()
    eventually("Slurm gives the reason", lambda: job.get_status().get("Reason") == "PartitionTimeLimit")
    assert job.get_status()["JobState"] == "PENDING"
    assert job.cancel()
    assert state_at_end(job) == "CANCELLED"
