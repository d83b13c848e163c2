"""How jobs end: what state and exit code tools report. These are the same in every release, unless marked."""

from collections.abc import Callable
import uuid

import pytest

from ci.environment.wait import NotYet, wait_for
from ci.environment_file import EnvironmentFile
from ci.errors import suite_session
from tests.support.behaviours import Ask
from tests.support.cluster import JOB_LIMIT, Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]

_POLL_S = 0.5
_RECORD_S = 60
"""More than a record takes to reach the database, on a machine that others use as well."""

WaitForRecord = Callable[..., None]


def _pending(shell: Shell, job: str) -> dict[str, str]:
    """Return what scontrol says of a job once it waits to be run (again)."""

    def probe() -> dict[str, str] | NotYet:
        facts = shell.facts_of(job)
        return facts if facts["JobState"] == "PENDING" else NotYet(facts["JobState"])

    return wait_for(f"job {job} to be PENDING", probe, limit=JOB_LIMIT, poll=_POLL_S)


@pytest.fixture
def wait_for_record(cluster_shell: Shell, environment: EnvironmentFile) -> WaitForRecord:
    """Return what waits until sacct says this of a job and its steps: name, state, exit codes."""
    if not environment.accounting:
        pytest.skip(f"it asks sacct: {suite_session('slurm_facts', environment.cell, '--accounting')}")

    def wait(job: str, *lines: str) -> None:
        query = f"sacct --noheader --parsable2 --duplicates --format=JobID,State,ExitCode,DerivedExitCode --jobs={job}"

        def probe() -> bool | NotYet:
            said = [line.removeprefix(job).removesuffix("|") for line in cluster_shell.run(query).stdout.splitlines()]
            return said == [*lines] or NotYet(f"{said}")

        wait_for(f"{lines} of job {job}", probe, limit=_RECORD_S, poll=_POLL_S)

    return wait


def test_parsable_is_the_id_alone(cluster_shell: Shell) -> None:
    assert cluster_shell.run("sbatch --parsable --output=/dev/null --wrap true").stdout.strip().isdecimal()


def test_parsable_of_an_array_is_its_id(cluster_shell: Shell) -> None:
    job = cluster_shell.run("sbatch --parsable --array=1-2 --hold --output=/dev/null --wrap true").stdout.strip()
    assert job.isdecimal()
    assert len(cluster_shell.run(f"squeue --noheader --array --jobs={job}").stdout.splitlines()) == 2
    cluster_shell.run(f"scancel {job}")


def test_parsable_has_the_cluster_where_one_is_named(cluster_shell: Shell, environment: EnvironmentFile) -> None:
    if not environment.accounting:
        pytest.skip(f"clusters are in the database: {suite_session('slurm_facts', environment.cell, '--accounting')}")
    (cluster,) = cluster_shell.run("scontrol show config | awk '/^ClusterName/ { print $3 }'").stdout.split()
    words = f"sbatch --parsable --clusters={cluster} --output=/dev/null --wrap true"
    job, _, named = cluster_shell.run(words).stdout.strip().partition(";")
    assert (job.isdecimal(), named) == (True, cluster)


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
    facts = cluster_shell.facts_of_ended(done.stdout.strip())
    assert (facts["JobState"], facts["ExitCode"]) == (state, exit_code)


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137)], ids=["a status", "a signal"])
def test_the_end_of_a_step(cluster_shell: Shell, script: str, status: int) -> None:
    assert cluster_shell.run_unchecked(f"srun sh -c '{script}'").status == status


def test_a_job_that_is_cancelled_while_it_waits(cluster_shell: Shell) -> None:
    job = cluster_shell.run("sbatch --parsable --hold --output=/dev/null --wrap true").stdout.strip()
    cluster_shell.run(f"scancel {job}")
    facts = cluster_shell.facts_of_ended(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("CANCELLED", "0:0")


# -- jobs that are cancelled, run again, or too long ------------------------------------------------------------------

_FIRST_TRY_WAITS = """#!/bin/sh
echo "restarts:$SLURM_RESTART_COUNT"
test -n "$SLURM_RESTART_COUNT" || exec sleep 300"""


def _running(shell: Shell, *options: str) -> tuple[str, str]:
    """Submit a job whose first try waits; return its id and the file with its output once its script is running.

    A job that is RUNNING may have no script yet, and ends otherwise then.
    """
    out = f"{shell.environment.work}/facts-{uuid.uuid4().hex[:12]}"  # a job may have a /tmp of its own
    words = " ".join(["sbatch", "--parsable", shell.here, f"--output={out}", *options])
    job = shell.run(words, stdin=_FIRST_TRY_WAITS).stdout.strip()

    def probe() -> bool | NotYet:
        return shell.run_unchecked(f"grep restarts: {out}").status == 0 or NotYet("it has written nothing")

    wait_for(f"the script of job {job}", probe, limit=JOB_LIMIT, poll=_POLL_S)
    return job, out


def _start_again(shell: Shell, job: str) -> None:
    """Have a job that was requeued run now.

    Not within the second in which its first try was killed: slurmd counts in whole seconds, takes the new try's
    credential for the one that was revoked, and the job ends as FAILED ("already killed, do not launch batch job").
    """
    shell.run(f"sleep 2; scontrol update JobId={job} StartTime=now")


def test_a_job_that_is_cancelled_while_it_runs(cluster_shell: Shell) -> None:
    job, _ = _running(cluster_shell)
    cluster_shell.run(f"scancel {job}")
    facts = cluster_shell.facts_of_ended(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("CANCELLED", "0:15")


def test_the_record_of_a_job_that_is_cancelled_while_it_runs(
    cluster_shell: Shell, wait_for_record: WaitForRecord
) -> None:
    """The job's own exit code is that of no process; that of its script has the signal."""
    job, _ = _running(cluster_shell)
    cluster_shell.run(f"scancel {job}")
    uid = cluster_shell.run("id -u").stdout.strip()
    wait_for_record(job, f"|CANCELLED by {uid}|0:0|0:0", ".batch|CANCELLED|0:15")


def test_a_job_that_is_requeued(cluster_shell: Shell) -> None:
    """It waits for two minutes, whatever is free, and then runs under the same id; its output begins anew."""
    job, out = _running(cluster_shell, "--requeue")
    cluster_shell.run(f"scontrol requeue {job}")
    facts = _pending(cluster_shell, job)
    assert (facts["Reason"], facts["Restarts"], facts["ExitCode"]) == ("BeginTime", "1", "0:0")
    _start_again(cluster_shell, job)
    facts = cluster_shell.facts_of_ended(job)
    assert (facts["JobState"], facts["Restarts"], facts["ExitCode"]) == ("COMPLETED", "1", "0:0")
    assert cluster_shell.run(f"cat {out}; rm {out}").stdout == "restarts:1\n"


def test_the_record_of_a_job_that_is_requeued(cluster_shell: Shell, wait_for_record: WaitForRecord) -> None:
    """Only with --duplicates is the first try told."""
    job, _ = _running(cluster_shell, "--requeue")
    cluster_shell.run(f"scontrol requeue {job}")
    _pending(cluster_shell, job)
    _start_again(cluster_shell, job)
    cluster_shell.facts_of_ended(job)
    first, second = ("|REQUEUED|0:0|0:0", ".batch|CANCELLED|0:15"), ("|COMPLETED|0:0|0:0", ".batch|COMPLETED|0:0")
    wait_for_record(job, *first, *second)


def test_a_job_that_is_requeued_and_held(cluster_shell: Shell) -> None:
    job, _ = _running(cluster_shell, "--requeue")
    cluster_shell.run(f"scontrol requeuehold {job}")
    facts = _pending(cluster_shell, job)
    cluster_shell.run(f"scancel {job}")
    assert (facts["Reason"], facts["Restarts"]) == ("job_requeued_in_held_state", "1")


def test_a_job_that_may_not_be_requeued(cluster_shell: Shell) -> None:
    job, _ = _running(cluster_shell, "--no-requeue")
    done = cluster_shell.run_unchecked(f"scontrol requeue {job}")
    facts = cluster_shell.facts_of(job)
    cluster_shell.run(f"scancel {job}")
    assert (done.status, facts["JobState"], facts["Restarts"]) == (1, "RUNNING", "0"), str(done)
    assert "Requested operation is presently disabled" in done.stdout + done.stderr


@pytest.mark.slow_integration_test
def test_a_job_that_reaches_its_time_limit(cluster_shell: Shell) -> None:
    """Of a script that waits for a program it may be 143:0: whichever of the two hears the signal first decides."""
    done = cluster_shell.run_unchecked("sbatch --parsable --wait --time=1 --output=/dev/null --wrap 'exec sleep 300'")
    assert done.status != 0, str(done)
    facts = cluster_shell.facts_of_ended(done.stdout.strip())
    assert (facts["JobState"], facts["Reason"], facts["ExitCode"]) == ("TIMEOUT", "TimeLimit", "0:15")


# -- steps that fail in a script that ends well -----------------------------------------------------------------------

_FAILED_STEPS = pytest.mark.parametrize(
    ("step", "derived", "state"),
    [
        ("srun sh -c 'exit 42'", "42:0", "FAILED"),
        ("srun sh -c 'exit 42' | cat", "42:0", "FAILED"),
        ("srun sh -c 'kill -9 $$'", "0:9", "CANCELLED"),
    ],
    ids=["a status", "a pipe", "a signal"],
)


def _with_a_failed_step(shell: Shell, step: str) -> str:
    """Run a script that ends well after this step; return its job.

    srun ends before slurmctld has heard of the step's end. Where the job is over by then (seen on a busy machine under
    22.05), its DerivedExitCode stays 0:0.
    """
    heard = 'while [ -n "$(squeue --noheader --steps=$SLURM_JOB_ID.0)" ]; do sleep 0.2; done'
    script = f"#!/bin/sh\n{step}\n{heard}\ntrue\n"
    return shell.run("sbatch --parsable --wait --output=/dev/null", stdin=script).stdout.strip()


@pytest.mark.behaviour("failed-step-in-a-good-script")
@_FAILED_STEPS
def test_a_failed_step_in_a_script_that_ends_well(
    cluster_shell: Shell, behaviour: Ask, step: str, derived: str, state: str
) -> None:
    """Only DerivedExitCode tells of it."""
    facts = cluster_shell.facts_of_ended(_with_a_failed_step(cluster_shell, step))
    assert facts["DerivedExitCode"] == derived, f"{state}: {facts}"
    behaviour("failed-step-in-a-good-script").saw_by(
        (facts["JobState"], facts["ExitCode"]), {("COMPLETED", "0:0"): "completed"}, facts
    )


@_FAILED_STEPS
def test_the_record_of_a_failed_step(
    cluster_shell: Shell, wait_for_record: WaitForRecord, step: str, derived: str, state: str
) -> None:
    """A step that a signal ended is CANCELLED, as if a user had done it."""
    job = _with_a_failed_step(cluster_shell, step)
    wait_for_record(job, f"|COMPLETED|0:0|{derived}", ".batch|COMPLETED|0:0", f".0|{state}|{derived}")


def test_a_pipe_in_a_step_hides_all_but_its_last_program(cluster_shell: Shell) -> None:
    facts = cluster_shell.facts_of_ended(_with_a_failed_step(cluster_shell, "srun sh -c 'exit 42 | cat'"))
    assert (facts["JobState"], facts["ExitCode"], facts["DerivedExitCode"]) == ("COMPLETED", "0:0", "0:0")
