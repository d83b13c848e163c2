"""Single jobs on plain Slurm: submission, results, failures, output, folder, environment."""

import socket
from typing import Any
import uuid

import pytest
from slurm import Cluster, DownloadError, SubmissionError

from ci.environment_file import EnvironmentFile
from tests.integration import legacy_tasks as tasks
from tests.integration.legacy_support import Prepare, eventually, result, state_at_end

pytestmark = pytest.mark.integration_test


def test_job_runs_on_a_node(on_nodes: Prepare, legacy_environment: EnvironmentFile) -> None:
    answer = result(on_nodes(tasks.where)())
    assert answer["host"] in legacy_environment.nodes
    assert answer["host"] != socket.gethostname()
    assert answer["user"] == legacy_environment.login.user
    assert answer["python"] == legacy_environment.subject_python


@pytest.mark.parametrize(
    "value",
    [None, "größer\n☃", b"\x00\xff", 2**70, {"nested": [1, (2.5, {3})]}, list(range(50_000))],
    ids=["none", "text", "bytes", "big-number", "nested", "long-list"],
)
def test_result_comes_back_as_it_was(on_nodes: Prepare, value: object) -> None:
    answer = result(on_nodes(tasks.echo)(value))
    assert answer == value
    assert type(answer) is type(value)


def test_arguments_by_position_and_by_name(slurm_cluster: Cluster, on_nodes: Prepare) -> None:
    submit: Any = slurm_cluster.submit(on_nodes(tasks.subtract))
    jobs = [submit(50, 8), submit(50, subtrahend=9), submit(subtrahend=10, minuend=50)]
    assert [result(job) for job in jobs] == [42, 41, 40]
    assert len({job.id for job in jobs}) == 3


def test_failure_carries_its_traceback(on_nodes: Prepare) -> None:
    message = f"reason {uuid.uuid4().hex}"
    job = on_nodes(tasks.fail)(message)
    assert state_at_end(job) == "FAILED"
    assert job.get_status()["ExitCode"] == "1:0"
    with pytest.raises(DownloadError, match=f"State: FAILED(?s:.*)ValueError: refused: {message}") as caught:
        job.get_result()
    text = str(caught.value)
    assert "Traceback (most recent call last)" in text
    assert 'legacy_tasks.py", line' in text
    assert "in fail" in text
    assert f"KeyError: '{message}'" in text, "the cause belongs to the traceback"


def test_exit_status_is_kept(on_nodes: Prepare) -> None:
    job = on_nodes(tasks.exit_with)(7)
    assert state_at_end(job) == "FAILED"
    assert job.get_status()["ExitCode"] == "7:0"
    assert not job.is_successful()


def test_both_outputs_are_fetched(on_nodes: Prepare) -> None:
    out, err = f"aus ☀ {uuid.uuid4().hex}", f"err ☂ {uuid.uuid4().hex}"
    job = on_nodes(tasks.say)(out, err)
    assert state_at_end(job) == "COMPLETED"
    printed, complained = job.get_stdout().splitlines(), job.get_stderr().splitlines()
    assert out in printed
    assert err in complained
    assert err not in printed
    assert out not in complained


def test_job_works_in_a_folder_of_its_own(slurm_cluster: Cluster, on_nodes: Prepare, legacy_folder: str) -> None:
    text = uuid.uuid4().hex
    first, second = (on_nodes(tasks.leave)("left.txt", f"{text}-{number}") for number in (1, 2))
    assert result(first) == f"{first.target_job_dir}/left.txt"
    assert result(second) == f"{second.target_job_dir}/left.txt"
    assert first.target_job_dir != second.target_job_dir
    assert first.target_job_dir.startswith(f"{legacy_folder}/jobs/leave/")
    assert slurm_cluster.backend.read_file(f"{first.target_job_dir}/left.txt") == f"{text}-1"
    assert slurm_cluster.backend.read_file(f"{second.target_job_dir}/left.txt") == f"{text}-2"


def test_environment_of_a_job(on_nodes: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY_ON_THE_HOST", "leaked")
    marker = uuid.uuid4().hex
    prepared = on_nodes(tasks.environment, variables=f"MARKER={marker}", cpus_per_task=2, job_name="named-job")
    job = prepared(
        "MARKER", "ONLY_ON_THE_HOST", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_CPUS_PER_TASK", "HOME", "USER"
    )
    assert result(job) == {
        "MARKER": marker,
        "ONLY_ON_THE_HOST": None,
        "SLURM_JOB_ID": job.id,
        "SLURM_JOB_NAME": "named-job",
        "SLURM_CPUS_PER_TASK": "2",
        "HOME": "/home/tester",
        "USER": "tester",
    }


def test_refused_submission_says_why(on_nodes: Prepare) -> None:
    with pytest.raises(SubmissionError, match="invalid partition specified: no-such-partition"):
        on_nodes(tasks.where, partition="no-such-partition")()


def test_job_is_found_again_by_its_number(slurm_cluster: Cluster, on_nodes: Prepare) -> None:
    value = uuid.uuid4().hex
    job = on_nodes(tasks.echo)(value)
    assert state_at_end(job) == "COMPLETED"
    again = slurm_cluster.get_job(job.id)
    assert again.target_job_dir == job.target_job_dir
    assert again.get_result() == value


def test_queue_lists_a_job_while_it_runs(slurm_cluster: Cluster, on_nodes: Prepare, legacy_folder: str) -> None:
    job = on_nodes(tasks.beat, job_name="in-the-queue")(f"{legacy_folder}/queue-{uuid.uuid4().hex}")
    mine = "the job is in the queue, running and under its name"
    eventually(mine, lambda: ("in-the-queue", "RUNNING") in _queued(slurm_cluster, job.id))
    assert job.cancel()
    assert state_at_end(job) == "CANCELLED"
    eventually("the job has left the queue", lambda: _queued(slurm_cluster, job.id) == [])


def _queued(cluster: Cluster, job_id: str) -> list[tuple[str, str]]:
    rows = cluster.get_queue()
    return [(row["NAME"], row["STATE"]) for row in rows if row["JOBID"] == job_id]
