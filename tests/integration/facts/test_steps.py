"""How many CPUs the steps of a batch job get, and what its script finds in its environment."""

import pytest

from tests.support.behaviours import Ask
from tests.support.cluster import Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]

_CPUS = 4
_PATIENCE_S = 30
"""More than a step takes to start beside another one, on a machine that others use as well."""
_REFUSED = "More processors requested than permitted"


def _written(output: str) -> list[str]:
    """Return the words that a job wrote, without what sbatch and srun say; where one of them fails, the job does."""
    lines = (line for line in output.splitlines() if not line.startswith(("Submitted ", "srun: ")))
    return [word for line in lines for word in line.split()]


@pytest.mark.behaviour("step-exact-cpus")
def test_the_cpus_of_an_exact_step(cluster_shell: Shell, behaviour: Ask) -> None:
    """A step takes the job's --cpus-per-task, or one CPU (webknossos-libs#1483, reframe#2655)."""
    script = "#!/bin/sh\nsrun --exact printenv SLURM_CPUS_ON_NODE"
    cpus = int(cluster_shell.sbatch(script, f"--cpus-per-task={_CPUS}").split()[-1])
    behaviour("step-exact-cpus").saw({1: "one", _CPUS: "those of the job"}[cpus])


@pytest.mark.behaviour("step-more-tasks")
def test_a_step_with_more_tasks_than_the_job(cluster_shell: Shell, behaviour: Ask) -> None:
    script = "#!/bin/sh\nsrun --ntasks=2 echo it-ran 2>&1\ntrue"
    output = cluster_shell.sbatch(script, f"--cpus-per-task={_CPUS}")
    ran = output.count("it-ran")
    assert (ran, _REFUSED in output) in {(2, False), (0, True)}, output
    behaviour("step-more-tasks").saw("runs" if ran else "refused", output)


@pytest.mark.behaviour("steps-side-by-side")
def test_steps_side_by_side(cluster_shell: Shell, behaviour: Ask) -> None:
    """Each leaves a mark and waits for that of the other one; where they can't meet, the first gives up and ends."""
    wait_for_it = f"for second in $(seq {_PATIENCE_S}); do test -e $1 && echo met && exit; sleep 1; done; echo alone"
    step = f"srun --ntasks=1 --exact sh -c 'touch $0; {wait_for_it}'"
    script = f"""#!/bin/bash
cd "$(mktemp --directory --tmpdir="$HOME" steps-XXXXXXXXXX)" || exit
{step} a b & first=$!
{step} b a & second=$!
wait $first && wait $second && rm -r "$PWD"
"""
    output = sorted(_written(cluster_shell.sbatch(script, f"--cpus-per-task={_CPUS}")))
    answers = {("met", "met"): "at once", ("alone", "met"): "one after another"}
    behaviour("steps-side-by-side").saw_by(tuple(output), answers)


@pytest.mark.behaviour("job-start-time-variable")
def test_the_times_of_a_job(cluster_shell: Shell, behaviour: Ask) -> None:
    script = "#!/bin/sh\nenv | grep -E '^SLURM_JOB_(START|END)_TIME=[0-9]+$' | cut -d= -f1 | sort | tr '\\n' ' '"
    names = _written(cluster_shell.sbatch(script))
    assert names in ([], ["SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"])
    behaviour("job-start-time-variable").saw("set" if names else "not set")
