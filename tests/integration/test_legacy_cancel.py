"""Jobs that are stopped by their owner."""

import time
import uuid

import pytest
from slurm import Cluster, DownloadError

from tests.integration import legacy_tasks as tasks
from tests.integration.legacy_support import Prepare, beats, eventually, state_at_end

pytestmark = pytest.mark.integration_test


def test_running_job_is_cancelled(slurm_cluster: Cluster, on_nodes: Prepare, legacy_folder: str) -> None:
    trace = f"{legacy_folder}/cancelled-{uuid.uuid4().hex}"
    job = on_nodes(tasks.beat)(trace)
    eventually("the task has begun", lambda: beats(slurm_cluster, trace) > 0)
    assert job.is_running()
    assert job.cancel()
    assert state_at_end(job) == "CANCELLED"
    with pytest.raises(DownloadError, match="State: CANCELLED"):
        job.get_result()
    # The state is not the process: that one has to be gone too.
    at_the_end = beats(slurm_cluster, trace)
    time.sleep(1.0)
    assert beats(slurm_cluster, trace) == at_the_end


def test_waiting_job_is_cancelled(slurm_cluster: Cluster, on_nodes: Prepare, legacy_folder: str) -> None:
    trace = f"{legacy_folder}/never-{uuid.uuid4().hex}"
    job = on_nodes(tasks.beat, begin="now+1hour")(trace, 0.5)
    assert job.get_status()["JobState"] == "PENDING"
    assert job.cancel()
    assert state_at_end(job) == "CANCELLED"
    assert beats(slurm_cluster, trace) == 0


def test_one_element_of_an_array_is_cancelled(on_nodes: Prepare, legacy_folder: str) -> None:
    trace = f"{legacy_folder}/element-{uuid.uuid4().hex}"
    array = on_nodes(tasks.beat).map([(f"{trace}-0", 1.0), (f"{trace}-1", 120.0)])
    eventually("the element has begun", array[1].is_running)
    assert array[1].cancel()
    assert [state_at_end(job) for job in array] == ["COMPLETED", "CANCELLED"]
    assert array[0].get_result() == "never stopped"
