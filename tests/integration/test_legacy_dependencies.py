"""Jobs that depend on other jobs."""

import uuid

import pytest
from slurm import Cluster

from tests.integration import legacy_tasks as tasks
from tests.integration.legacy_support import Prepare, eventually, result, state_at_end

pytestmark = pytest.mark.integration_test


def test_chain_hands_results_on(on_nodes: Prepare) -> None:
    job = on_nodes(tasks.record)("first", {})
    jobs = [job]
    for name in ("second", "third"):
        job = on_nodes(tasks.record)(name, job)
        jobs.append(job)
    answer = result(jobs[-1])
    assert list(answer) == ["first", "second", "third"]
    assert answer["first"] < answer["second"] < answer["third"]
    assert [state_at_end(job) for job in jobs] == ["COMPLETED"] * 3


def test_job_waits_for_a_whole_array(on_nodes: Prepare) -> None:
    array = on_nodes(tasks.element).map([{"index": number, "seconds": float(number)} for number in range(3)])
    after = on_nodes(tasks.record).after(array)("begun", {})
    begun = result(after)["begun"]
    assert begun > max(element["ended"] for element in array.get_results(timeout=1.0))


def test_nothing_follows_a_failure(slurm_cluster: Cluster, on_nodes: Prepare, legacy_folder: str) -> None:
    trace = f"{legacy_folder}/after-failure-{uuid.uuid4().hex}"
    failing = on_nodes(tasks.fail)("on purpose")
    follower = on_nodes(tasks.beat).after(failing)(trace, 0.5)
    assert state_at_end(failing) == "FAILED"
    never = "the follower can never run"
    eventually(never, lambda: follower.get_status().get("Reason") == "DependencyNeverSatisfied")
    assert follower.get_status()["JobState"] == "PENDING"
    assert follower.cancel()
    assert state_at_end(follower) == "CANCELLED"
    with pytest.raises(FileNotFoundError):
        slurm_cluster.backend.read_file(trace)
