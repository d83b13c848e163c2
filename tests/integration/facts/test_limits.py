"""What keeps a job to its memory, its CPUs and its end: nothing on a plain cell, cgroups where a profile has them."""

import pytest

from tests.support.behaviours import Ask
from tests.support.cluster import Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]

_GREEDY = """#!/bin/sh
exec python3 -c "taken = b'x' * (300 << 20); print('it went on')"
"""
_LEAVES_ONE_BEHIND = """#!/bin/sh
setsid sh -c 'echo $$; exec sleep 600 > /dev/null 2>&1' < /dev/null &
sleep 1
"""


@pytest.mark.behaviour("job-over-its-memory")
def test_a_job_that_takes_more_than_its_memory(cluster_shell: Shell, behaviour: Ask) -> None:
    words = f"sbatch --parsable {cluster_shell.here} --mem=100M --output=/dev/null"
    job = cluster_shell.run(words, stdin=_GREEDY).stdout.strip()
    ends = {("OUT_OF_MEMORY", "0:125"): "killed", ("COMPLETED", "0:0"): "completed"}
    facts = cluster_shell.facts_of_ended(job)
    ended = (facts["JobState"], facts["ExitCode"])
    assert ended in ends, ended
    behaviour("job-over-its-memory").saw(ends[ended])


@pytest.mark.behaviour("process-that-leaves-its-session")
def test_a_process_that_leaves_its_session(cluster_shell: Shell, behaviour: Ask) -> None:
    process = cluster_shell.sbatch(_LEAVES_ONE_BEHIND).split()[-1]
    assert process.isdecimal(), process
    lives_on = cluster_shell.run_unchecked(f"kill {process}").status == 0
    behaviour("process-that-leaves-its-session").saw("outlives its job" if lives_on else "ended")


@pytest.mark.behaviour("cpus-of-a-step")
def test_the_cpus_that_a_step_sees(cluster_shell: Shell, behaviour: Ask) -> None:
    there = int(cluster_shell.run("nproc").stdout)
    if there == 1:
        pytest.skip("the machine has one CPU, and all of it is what a step sees: run it on one with more")
    seen = int(cluster_shell.srun("--ntasks=1", "--cpus-per-task=1", "nproc", image="").stdout)
    assert seen in {1, there}, seen
    behaviour("cpus-of-a-step").saw("its own" if seen == 1 else "all")
