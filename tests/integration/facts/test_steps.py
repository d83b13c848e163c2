"""How many CPUs the steps of a batch job get, and what its script finds in its environment."""

import pytest

from tests.support.behaviours import Ask
from tests.support.cluster import Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]

_CPUS = 4
_REFUSED = "More processors requested than permitted"


def _written(output: str) -> list[str]:
    """Return the words that a job wrote, without what sbatch says of it."""
    return [word for line in output.splitlines() if not line.startswith("Submitted ") for word in line.split()]


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
    """Each says when it begins and when it ends."""
    step = "srun --ntasks=1 --exact sh -c 'echo begin; sleep 2; echo end'"
    script = f"#!/bin/sh\nfor each in 1 2 3 4; do {step} 2>/dev/null & done; wait"
    output = _written(cluster_shell.sbatch(script, f"--cpus-per-task={_CPUS}"))
    assert sorted(output) == ["begin"] * 4 + ["end"] * 4, output
    together = output[:4] == ["begin"] * 4
    assert together or output == ["begin", "end"] * 4, output
    behaviour("steps-side-by-side").saw("at once" if together else "one after another", output)


@pytest.mark.behaviour("job-start-time-variable")
def test_the_times_of_a_job(cluster_shell: Shell, behaviour: Ask) -> None:
    script = "#!/bin/sh\nenv | grep -E '^SLURM_JOB_(START|END)_TIME=[0-9]+$' | cut -d= -f1 | sort | tr '\\n' ' '"
    names = _written(cluster_shell.sbatch(script))
    assert names in ([], ["SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"])
    behaviour("job-start-time-variable").saw("set" if names else "not set")
