"""Exit codes, signals and cancelling."""

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.expectations import not_promised
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -KILL $$", 137), ("no-such-program", 127)])
def test_the_commands_status_is_the_steps(steps: Steps, plain: TinyImage, script: str, status: int) -> None:
    assert steps.failing(plain, script)[0] == status


@pytest.mark.parametrize("signal", ["USR1", "TERM"])
def test_a_signal_reaches_the_command(steps: Steps, plain: TinyImage, signal: str) -> None:
    script = f"trap 'echo got-{signal}; exit 0' {signal}; echo ready; while :; do sleep 0.1; done"
    with steps.running(plain.reference, script) as step:
        job = steps.shell.run(f"squeue --noheader --name={step.name} --format=%i").stdout.strip()
        steps.shell.run(f"scancel --signal={signal} {job}.0")
        steps.wait_for_text(step.output, f"got-{signal}")


def test_an_import_can_be_cancelled(steps: Steps, silent_registry: str) -> None:
    image = f"{silent_registry}#silent/image:1"
    # curl or skopeo, whose command lines have the address in one form or another.
    programs = f"pgrep --full '://{silent_registry.replace('localhost', '[l]ocalhost')}/.*silent/image'"
    with steps.running(image, "true", ready="importing docker image") as step:
        steps.wait_for_output(programs)
        steps.shell.run(f"scancel --name={step.name}")
        steps.wait_for_text(step.output, "srun: error")
    steps.wait_until_fails(programs, "end of the import's own programs")


@pytest.mark.behaviour("signal-during-an-import")
def test_a_signal_during_an_import_is_forwarded(steps: Steps, silent_registry: str, cell: Cell, behaviour: Ask) -> None:
    not_promised(cell, "curl, whose process this test waits for")
    image = f"{silent_registry}#silent/image:1"
    with steps.running(image, "true", ready="importing docker image") as step:
        programs = f"pgrep --full '[h]ttp://{silent_registry}'"
        steps.wait_for_output(programs)
        job = steps.shell.run(f"squeue --noheader --name={step.name} --format=%i").stdout.strip()
        # To the task alone: scancel would reach the import's own programs as well, and they may be the first to end.
        steps.shell.run(f"pkill --signal TERM --euid $USER --full '^slurmstepd: .{job}[.]0'")
        if behaviour("signal-during-an-import").expects("forwarded"):
            steps.wait_for_text(step.output, "received SIGTERM, forwarding to child")
            return
        # Before, nobody catches it: it ends the task, and the step with it.
        assert "forwarding" not in steps.wait_for_text(step.output, "task 0: Terminated")
        # What becomes of the import's own programs is Slurm's affair: cgroups hold all processes of a step together,
        # parentage loses those whose parent ended.
        if steps.tracked_by_cgroups():
            steps.wait_until_fails(programs, "end of the import's own programs")
        else:
            steps.shell.run(f"sleep 1 && {programs}")
