"""How jobs end: what state and exit code tools report. These are the same in every release, unless marked."""

import time

import pytest

from ci.environment_file import EnvironmentFile
from tests.support.behaviours import Ask
from tests.support.cluster import JOB_LIMIT, Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]

_POLL_S = 0.5


def _ended(shell: Shell, job: str) -> dict[str, str]:
    """Return what scontrol says of a job once it has ended."""
    limit = time.monotonic() + JOB_LIMIT
    while time.monotonic() < limit:
        text = shell.run(f"scontrol --oneliner show job {job}").stdout
        facts = dict(word.split("=", 1) for word in text.split() if "=" in word)
        if facts["JobState"] not in {"PENDING", "RUNNING", "COMPLETING"}:
            return facts
        time.sleep(_POLL_S)
    raise AssertionError(f"job {job} did not end: {text}")


def test_parsable_is_the_id_alone(cluster_shell: Shell) -> None:
    assert cluster_shell.run("sbatch --parsable --output=/dev/null --wrap true").stdout.strip().isdecimal()


@pytest.mark.parametrize(
    ("script", "status", "state", "exit_code"),
    [
        ("true", 0, "COMPLETED", "0:0"),
        ("exit 3", 3, "FAILED", "3:0"),
        ("kill -9 $$", 1, "FAILED", "0:9"),
    ],
    ids=["well", "a status", "a signal"],
)
def test_the_end_of_a_script(cluster_shell: Shell, script: str, status: int, state: str, exit_code: str) -> None:
    done = cluster_shell.run_unchecked(f"sbatch --parsable --wait --output=/dev/null --wrap '{script}'")
    assert done.status == status, str(done)
    facts = _ended(cluster_shell, done.stdout.strip())
    assert (facts["JobState"], facts["ExitCode"]) == (state, exit_code)


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137)], ids=["a status", "a signal"])
def test_the_end_of_a_step(cluster_shell: Shell, script: str, status: int) -> None:
    assert cluster_shell.run_unchecked(f"srun sh -c '{script}'").status == status


def test_a_job_that_is_cancelled_while_it_waits(cluster_shell: Shell) -> None:
    job = cluster_shell.run("sbatch --parsable --hold --output=/dev/null --wrap true").stdout.strip()
    cluster_shell.run(f"scancel {job}")
    facts = _ended(cluster_shell, job)
    assert (facts["JobState"], facts["ExitCode"]) == ("CANCELLED", "0:0")


@pytest.mark.slow_integration_test
def test_a_job_that_reaches_its_time_limit(cluster_shell: Shell) -> None:
    done = cluster_shell.run_unchecked("sbatch --parsable --wait --time=1 --output=/dev/null --wrap 'sleep 300'")
    assert done.status != 0, str(done)
    facts = _ended(cluster_shell, done.stdout.strip())
    assert (facts["JobState"], facts["Reason"], facts["ExitCode"]) == ("TIMEOUT", "TimeLimit", "0:15")


@pytest.mark.behaviour("failed-step-in-a-good-script")
def test_a_failed_step_in_a_script_that_ends_well(
    cluster_shell: Shell, environment: EnvironmentFile, behaviour: Ask
) -> None:
    """Only DerivedExitCode tells of it."""
    if not environment.accounting:
        pytest.skip("it asks sacct: --accounting")
    script = "#!/bin/sh\nsrun sh -c 'exit 42'\ntrue"
    done = cluster_shell.run(f"sbatch --parsable --wait --output=/dev/null <<'END'\n{script}\nEND")
    job = done.stdout.strip()
    query = f"sacct --noheader --parsable2 --allocations --format=State,ExitCode,DerivedExitCode --jobs={job}"
    limit = time.monotonic() + JOB_LIMIT
    while (said := cluster_shell.run(query).stdout.strip()).partition("|")[0] in {"", "RUNNING", "COMPLETING"}:
        assert time.monotonic() < limit, said
        time.sleep(_POLL_S)
    assert said in {"COMPLETED|0:0|42:0", "FAILED|42:0|42:0"}, said
    behaviour("failed-step-in-a-good-script").saw("completed" if said.startswith("COMPLETED") else "failed")
