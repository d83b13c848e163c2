"""What ``--json`` prints: each release has its own types, filters and paths.

The jobs are held, so that none of them needs a node.
"""

from collections.abc import Callable, Iterator
import json
from typing import Any

import pytest

from ci.environment_file import EnvironmentFile
from tests.support.behaviours import Ask
from tests.support.cluster import Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]

Hold = Callable[[], str]

_NO_JOB = 999_999
_GONE = "Invalid job id specified"


@pytest.fixture
def hold(cluster_shell: Shell) -> Iterator[Hold]:
    """Return what submits a held job and returns its id."""
    jobs: list[str] = []

    def submit() -> str:
        command = "cd && sbatch --parsable --hold --output=slurm-%j.out --wrap true"
        jobs.append(cluster_shell.run(command).stdout.strip())
        return jobs[-1]

    yield submit
    cluster_shell.run(f"scancel {' '.join(jobs)}")


def _squeue(shell: Shell, job: str) -> dict[str, Any]:
    """Return what squeue says of a job."""
    jobs = json.loads(shell.run("squeue --states=all --json").stdout)["jobs"]
    (found,) = [it for it in jobs if str(it["job_id"]) == job]
    assert isinstance(found, dict)
    return found


@pytest.mark.behaviour("squeue-json-state")
def test_the_state(cluster_shell: Shell, hold: Hold, behaviour: Ask) -> None:
    state = _squeue(cluster_shell, hold())["job_state"]
    assert state in ("PENDING", ["PENDING"])
    behaviour("squeue-json-state").saw("text" if state == "PENDING" else "list")


@pytest.mark.behaviour("squeue-json-numbers")
def test_numbers(cluster_shell: Shell, hold: Hold, behaviour: Ask) -> None:
    limit = _squeue(cluster_shell, hold())["time_limit"]
    if isinstance(limit, dict):
        assert limit.keys() == {"set", "infinite", "number"}
    else:
        assert isinstance(limit, int)
    behaviour("squeue-json-numbers").saw("table" if isinstance(limit, dict) else "number")


@pytest.mark.behaviour("squeue-json-filter")
def test_a_filter(cluster_shell: Shell, hold: Hold, behaviour: Ask) -> None:
    """A job that is held is no running one (jobbergate#739)."""
    job = hold()

    def lists_it(state: str) -> bool:
        jobs = json.loads(cluster_shell.run(f"squeue --states={state} --json").stdout)["jobs"]
        return job in {str(it["job_id"]) for it in jobs}

    assert lists_it("PENDING")
    behaviour("squeue-json-filter").saw("ignored" if lists_it("RUNNING") else "kept")


@pytest.mark.behaviour("squeue-json-jobs-and-users")
@pytest.mark.parametrize("by", ["jobs", "user"])
def test_a_filter_by_job_or_user(
    *, cluster_shell: Shell, environment: EnvironmentFile, hold: Hold, behaviour: Ask, by: str
) -> None:
    mine, other = hold(), hold()
    option = f"--jobs={mine}" if by == "jobs" else f"--user={environment.second_user}"
    jobs = json.loads(cluster_shell.run(f"squeue {option} --json").stdout)["jobs"]
    found = {str(it["job_id"]) for it in jobs}
    assert by == "user" or mine in found
    behaviour("squeue-json-jobs-and-users").saw("ignored" if other in found else "kept")


@pytest.mark.behaviour("squeue-json-unknown-job")
def test_a_job_that_never_was(cluster_shell: Shell, behaviour: Ask) -> None:
    done = cluster_shell.run_unchecked(f"squeue --json --jobs={_NO_JOB}")
    if done.status == 0:
        jobs = json.loads(done.stdout)["jobs"]
        assert str(_NO_JOB) not in {str(it["job_id"]) for it in jobs}
    else:
        assert _GONE in done.stderr
    behaviour("squeue-json-unknown-job").saw("status 0" if done.status == 0 else "refused", done)


@pytest.mark.behaviour("scontrol-json")
def test_scontrol(cluster_shell: Shell, hold: Hold, behaviour: Ask) -> None:
    job = hold()
    done = cluster_shell.run_unchecked(f"scontrol show job {job} --json")
    if done.status == 0:
        (found,) = json.loads(done.stdout)["jobs"]
        assert str(found["job_id"]) == job
    else:
        assert "unrecognized option '--json'" in done.stderr
    behaviour("scontrol-json").saw("works" if done.status == 0 else "refused", done)


@pytest.mark.behaviour("scontrol-json-unknown-job")
def test_scontrol_of_a_job_that_never_was(cluster_shell: Shell, behaviour: Ask) -> None:
    """As text it is refused in every release."""
    text = cluster_shell.run_unchecked(f"scontrol show job {_NO_JOB}")
    assert (text.status, _GONE in text.stderr) == (1, True)
    done = cluster_shell.run_unchecked(f"scontrol show job {_NO_JOB} --json")
    if done.status == 0:
        assert json.loads(done.stdout)["jobs"] == []
    else:
        assert _GONE in done.stderr or "unrecognized option '--json'" in done.stderr
    behaviour("scontrol-json-unknown-job").saw("status 0" if done.status == 0 else "refused", done)


@pytest.mark.behaviour("json-standard-output")
def test_the_path_of_the_output(cluster_shell: Shell, hold: Hold, behaviour: Ask) -> None:
    job = hold()
    path = _squeue(cluster_shell, job)["standard_output"]
    assert isinstance(path, str)
    answers = {"slurm-%j.out": "pattern", f"slurm-{job}.out": "path"}
    behaviour("json-standard-output").saw_by(path.rpartition("/")[2], answers, path)


@pytest.mark.behaviour("squeue-json-version")
def test_a_version_of_the_format(cluster_shell: Shell, behaviour: Ask) -> None:
    """Programs pin one, so that an upgrade does not change what they read."""
    done = cluster_shell.run_unchecked("squeue --json=v0.0.40")
    if done.status == 0:
        assert isinstance(json.loads(done.stdout)["jobs"], list)
    else:
        assert "doesn't allow an argument" in done.stderr or "v0.0.40" in done.stderr, str(done)
    behaviour("squeue-json-version").saw("works" if done.status == 0 else "refused", done)


@pytest.mark.behaviour("sinfo-json-tree")
def test_sinfo(cluster_shell: Shell, behaviour: Ask) -> None:
    tree = json.loads(cluster_shell.run("sinfo --json").stdout)
    (key,) = {"nodes", "sinfo"} & tree.keys()
    assert isinstance(tree[key], list)
    assert tree[key]
    behaviour("sinfo-json-tree").saw(key)


@pytest.mark.behaviour("squeue-yaml")
def test_yaml(cluster_shell: Shell, hold: Hold, behaviour: Ask) -> None:
    job = hold()
    done = cluster_shell.run_unchecked("squeue --states=all --yaml")
    if done.status == 0:
        assert done.stdout.startswith("%YAML")
        assert job in done.stdout
    behaviour("squeue-yaml").saw("works" if done.status == 0 else "refused", done)
