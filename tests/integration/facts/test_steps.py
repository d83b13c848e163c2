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


@pytest.mark.behaviour("srun-cpus-per-task-variable")
def test_the_variable_of_sruns_own(cluster_shell: Shell, behaviour: Ask) -> None:
    """Without --ntasks a step has as many tasks as fit into its job."""
    script = "#!/bin/sh\nSRUN_CPUS_PER_TASK=1 srun echo it-ran"
    ran = cluster_shell.sbatch(script, "--cpus-per-task=2").count("it-ran")
    behaviour("srun-cpus-per-task-variable").saw_by(ran, {2: "taken", 1: "ignored"})


def test_the_option_of_srun_wins_over_the_job(cluster_shell: Shell) -> None:
    script = "#!/bin/sh\nsrun --cpus-per-task=1 echo it-ran"
    assert cluster_shell.sbatch(script, "--cpus-per-task=2").count("it-ran") == 2


@pytest.mark.behaviour("changed-cpus-per-task-variable")
def test_a_variable_that_the_script_changes(cluster_shell: Shell, behaviour: Ask) -> None:
    script = "#!/bin/sh\nSLURM_CPUS_PER_TASK=1 srun echo it-ran 2>&1\ntrue"
    output = cluster_shell.sbatch(script, "--cpus-per-task=2")
    ran, refused = output.count("it-ran"), "set by two different environment variables" in output
    behaviour("changed-cpus-per-task-variable").saw_by((ran, refused), {(1, False): "runs", (0, True): "fatal"}, output)


# -- variables ------------------------------------------------------------------------------------------------------


def _variables(shell: Shell, *options: str) -> dict[str, str]:
    """Return the variables of Slurm's that a batch script finds."""
    lines = shell.sbatch("#!/bin/sh\nenv | grep ^SLURM", *options).splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("SLURM"))


def test_variables_of_every_release(cluster_shell: Shell) -> None:
    """What is there without any option, and what only an option brings about.

    SLURM_JOB_NAME is of neither kind: 22.05 lacks it where a script without a file has no --job-name.
    """
    found = _variables(cluster_shell)
    always = ["JOB_ID", "JOB_NODELIST", "JOB_NUM_NODES", "JOB_PARTITION", "JOB_UID", "JOB_USER"]
    always += ["CPUS_ON_NODE", "JOB_CPUS_PER_NODE", "TASKS_PER_NODE", "NODEID", "PROCID", "LOCALID", "SUBMIT_DIR"]
    assert [name for name in always if f"SLURM_{name}" not in found] == []
    with_an_option = ["SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_ARRAY_TASK_ID"]
    assert [name for name in with_an_option if name in found] == []
    assert (found["SLURM_JOB_NUM_NODES"], found["SLURM_CPUS_ON_NODE"], found["SLURM_PROCID"]) == ("1", "1", "0")


def test_variables_by_options(cluster_shell: Shell) -> None:
    found = _variables(cluster_shell, "--job-name=facts", "--nodes=1", "--ntasks=2", "--cpus-per-task=2", "--mem=100M")
    names = ("JOB_NAME", "NTASKS", "CPUS_PER_TASK", "CPUS_ON_NODE", "MEM_PER_NODE", "TASKS_PER_NODE")
    assert [found.get(f"SLURM_{name}") for name in names] == ["facts", "2", "2", "4", "100", "2"]


def test_variables_of_a_step(cluster_shell: Shell) -> None:
    script = "#!/bin/sh\nsrun --ntasks=1 sh -c 'echo $SLURM_NTASKS $SLURM_STEP_ID $SLURM_STEP_NUM_TASKS $SLURM_PROCID'"
    assert _written(cluster_shell.sbatch(script))[-4:] == ["1", "0", "1", "0"]


@pytest.mark.behaviour("tres-per-task-variable")
def test_the_tres_of_a_task(cluster_shell: Shell, behaviour: Ask) -> None:
    value = _variables(cluster_shell, "--cpus-per-task=2").get("SLURM_TRES_PER_TASK", "not set")
    assert value in ("not set", "cpu:2", "cpu=2")
    behaviour("tres-per-task-variable").saw(value)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        pytest.param("NODE_ALIASES", "node-aliases-variable", marks=pytest.mark.behaviour("node-aliases-variable")),
        pytest.param("OOM_KILL_STEP", "oom-kill-step-variable", marks=pytest.mark.behaviour("oom-kill-step-variable")),
    ],
)
def test_a_variable_of_some_releases(cluster_shell: Shell, behaviour: Ask, name: str, question: str) -> None:
    found = _variables(cluster_shell)
    behaviour(question).saw("set" if f"SLURM_{name}" in found else "not set", found)


@pytest.mark.behaviour("job-start-time-variable")
def test_the_times_of_a_job(cluster_shell: Shell, behaviour: Ask) -> None:
    script = "#!/bin/sh\nenv | grep -E '^SLURM_JOB_(START|END)_TIME=[0-9]+$' | cut -d= -f1 | sort | tr '\\n' ' '"
    names = _written(cluster_shell.sbatch(script))
    assert names in ([], ["SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"])
    behaviour("job-start-time-variable").saw("set" if names else "not set")
