"""Exit codes, signals and cancelling."""

import shlex

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.expectations import not_promised
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

_CTRL_C = """
import os, pty, select, signal, subprocess, sys, time

programs, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
pressed = given_up = status = None
while True:
    if select.select([terminal], [], [], 0.3)[0]:
        try:
            os.write(1, os.read(terminal, 4096))
        except OSError:  # nobody has it open any more
            break
    if pressed and not given_up and time.monotonic() - pressed > 30:  # others end within a second
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:  # and somebody else has the terminal open
            break
        subprocess.run(programs, shell=True, stdout=subprocess.DEVNULL, check=True)
        os.kill(pid, signal.SIGTERM)
        given_up = True
    if not pressed and subprocess.run(programs, shell=True, stdout=subprocess.DEVNULL).returncode == 0:
        time.sleep(1)
        os.write(terminal, b"\\x03")
        pressed = time.monotonic()
if status is None:
    status = os.waitpid(pid, 0)[1]
print("\\nstatus=%s" % ("none" if given_up else os.waitstatus_to_exitcode(status)))
"""
"""Runs a command in a terminal, and presses Ctrl-C once when a command line succeeds; SIGTERM ends what ignores it."""


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


def _programs(registry: str) -> str:
    """Return what finds the programs of an import: curl or skopeo, which have the address in one form or another."""
    return f"pgrep --full '://{registry.replace('localhost', '[l]ocalhost')}/.*silent/image'"


def _end_by_hand(steps: Steps, programs: str) -> None:
    """Make sure that no signal ended the programs of an import by an importer, and end them.

    Pyxis first reads what the importer prints, and hears nothing meanwhile: an import that hangs lasts until KillWait.
    """
    steps.shell.run(f"sleep 2 && {programs}")
    steps.shell.run(programs.replace("pgrep", "pkill", 1))


def test_an_import_can_be_cancelled(steps: Steps, silent_registry: str) -> None:
    image = f"{silent_registry}#silent/image:1"
    programs = _programs(silent_registry)
    with steps.running(image, "true", ready="importing docker image") as step:
        steps.wait_for_output(programs)
        steps.shell.run(f"scancel --name={step.name}")
        if steps.cell.says("importer"):
            _end_by_hand(steps, programs)
        steps.wait_for_text(step.output, "srun: error")
    steps.wait_until_fails(programs, "end of the import's own programs")


@pytest.mark.behaviour("ctrl-c-during-an-import")
def test_ctrl_c_in_a_terminal_ends_an_import(steps: Steps, silent_registry: str, behaviour: Ask) -> None:
    programs = _programs(silent_registry)
    step = ["srun", steps.shell.here, "--pty", f"--container-image={silent_registry}#silent/image:1", "true"]
    done = steps.shell.run(shlex.join(["python3", "-c", _CTRL_C, programs, *step]))
    steps.wait_until_fails(programs, "end of the import's own programs")
    status = done.stdout.rpartition("status=")[2].strip()
    behaviour("ctrl-c-during-an-import").saw_by(status, {"130": "130", "1": "1", "none": "ignored"}, done)


def test_ctrl_c_without_a_terminal_has_to_be_pressed_twice(steps: Steps, silent_registry: str) -> None:
    programs, image = _programs(silent_registry), f"{silent_registry}#silent/image:1"
    with steps.running(image, "true", ready="importing docker image") as step:
        steps.wait_for_output(programs)
        press = f"pkill --signal INT --full '^srun .*{step.name}'"
        steps.shell.run(press)
        steps.wait_for_text(step.output, "interrupt (one more within 1 sec to abort)")
        steps.shell.run(f"sleep 2; {programs} && squeue --noheader --name={step.name} | grep -q .")
        steps.shell.run(f'timeout 60 sh -c "while {press}; do sleep 0.2; done"')
        steps.wait_for_text(step.output, "forcing job termination")
        # Where cgroups hold the step together, srun says nothing of the task, whose processes ended with it.
        if not steps.tracked_by_cgroups():
            steps.wait_for_text(step.output, "srun: error")
    steps.wait_until_fails(programs, "end of the import's own programs")


@pytest.mark.behaviour("signal-during-an-import")
def test_a_signal_during_an_import_is_forwarded(steps: Steps, silent_registry: str, cell: Cell, behaviour: Ask) -> None:
    not_promised(cell, "curl, whose process this test waits for")
    image = f"{silent_registry}#silent/image:1"
    with steps.running(image, "true", ready="importing docker image") as step:
        programs = f"pgrep --full 'https?://[l]{silent_registry[1:]}'"
        steps.wait_for_output(programs)
        job = steps.shell.run(f"squeue --noheader --name={step.name} --format=%i").stdout.strip()
        # To the task alone: scancel would reach the import's own programs as well, and they may be the first to end.
        steps.shell.run(f"pkill --signal TERM --euid $USER --full '^slurmstepd: .{job}[.]0'")
        says = {
            "forwarded": "received SIGTERM, forwarding to child",
            "the import fails": ": Interrupted system call",
            # Nobody catches it: it ends the task, and the step with it.
            "not forwarded": "task 0: Terminated",
            "not heard": "importing docker image",
        }
        asked = behaviour("signal-during-an-import")
        said = steps.wait_for_text(step.output, asked.of(says))
        assert ("forwarding" in said) == asked.expects("forwarded"), said
        if asked.expects("not heard"):
            _end_by_hand(steps, programs)
        if not asked.expects("not forwarded"):
            return
        # What becomes of the import's own programs is Slurm's affair: cgroups hold all processes of a step together,
        # parentage loses those whose parent ended.
        if steps.tracked_by_cgroups():
            steps.wait_until_fails(programs, "end of the import's own programs")
        else:
            steps.shell.run(f"sleep 1 && {programs}")
