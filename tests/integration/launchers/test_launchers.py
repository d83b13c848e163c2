"""Ten questions to launchers. Each answer is of a command that left, where it ran, what only the image has."""

import pytest

from ci.environment_file import EnvironmentFile
from tests.integration.launchers.conftest import Answer, LauncherOnNode
from tests.support.behaviours import Asked
from tests.support.cluster import Shell
from tests.support.enroot import enroot_form
from tests.support.launchers import each_launcher
from tests.support.markers import IMAGE_MARKER

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

_STATUS = 7
_NAME = "name-of-mine"
_WORDS = "words-of-the-failure"
_PYXIS = ("pyxis: ", "embedded: ")
"""What stands in front of what Pyxis, or its stand-in, says."""
_TELLS = f"""cat {IMAGE_MARKER}; echo "=$FOR_THE_COMMAND"; echo $SLURM_JOB_ID; echo written > /data/out"""
# The script is in messages, too: there the words are in two.
_FAILS = f"echo {_WORDS[:6]}''{_WORDS[6:]} >&2; exit {_STATUS}"
_LOST = "No such file or directory: 'slurm_job_"
"""slurm-sdk's words for the file with the arguments of a task."""
_BUSY = "i=0; while :; do i=$((i+1)); echo $i > FOLDER/alive; sleep 1; done"


def _told(launcher: LauncherOnNode) -> Answer:
    """Return the answer of a command that succeeds and tells what it finds; one job answers several questions."""
    fields = {"name": _NAME, "environment": {"FOR_THE_COMMAND": "two words"}}
    return launcher.asked(_TELLS, mounts=("{}/data:/data",), **fields)[0]


def _failed(launcher: LauncherOnNode) -> Answer:
    """Return the answer of a command that fails, in the image; fail if nothing of it came back."""
    (answer,) = launcher.asked(_FAILS)
    assert answer.in_image, answer
    assert "never" not in answer.said, answer
    return answer


def _kept(shell: Shell, answer: Answer, words: tuple[str, ...]) -> bool:
    """Tell whether a file that the launcher left has any of these words; what asks it has files of its own there."""
    patterns = " ".join(f"-e '{it}'" for it in words)
    own = "--exclude=request.json --exclude=answer.json --exclude=log"
    return shell.run_unchecked(f"grep --recursive --quiet {own} {patterns} {answer.folder}").status == 0


@each_launcher.behaviour("launcher-image")
def test_the_image(launcher: LauncherOnNode, question: Asked) -> None:
    answer = _told(launcher)
    if answer.said.get("status") == 0 and not answer.in_image:
        question.saw("on the host", answer)
    assert answer.lines[0] == launcher.image.marker, answer
    question.saw("in the image")


@each_launcher.behaviour("launcher-mount")
def test_a_mount(launcher: LauncherOnNode, question: Asked, cluster_shell: Shell) -> None:
    answer = _told(launcher)
    assert answer.lines, answer
    question.saw_by(cluster_shell.run(f"cat {answer.folder}/data/out").stdout, {"written\n": "read and written"})


@each_launcher.behaviour("launcher-variable")
def test_a_variable(launcher: LauncherOnNode, question: Asked) -> None:
    answer = _told(launcher)
    question.saw_by(answer.lines[1], {"=two words": "reaches it", "=": "lost"}, answer)


@each_launcher.behaviour("launcher-workdir")
def test_the_working_directory(launcher: LauncherOnNode, question: Asked) -> None:
    (answer,) = launcher.asked("pwd", workdir="/srv")
    if _LOST in answer.failure and not answer.in_image:
        question.saw("fails", answer)
    else:
        question.saw("the one given" if answer.lines == ["/srv"] else "another", answer)


@each_launcher.behaviour("launcher-name")
def test_the_name_of_the_job(launcher: LauncherOnNode, question: Asked, cluster_shell: Shell) -> None:
    answer = _told(launcher)
    name = cluster_shell.run(f"sacct --allocations --noheader --parsable2 --format=JobName --jobs={answer.lines[2]}")
    question.saw("the one given" if name.stdout.strip() == _NAME else "its own", name)


@each_launcher.behaviour("launcher-status")
def test_the_status_of_a_command_that_fails(launcher: LauncherOnNode, question: Asked) -> None:
    answer = _failed(launcher)
    question.saw({_STATUS: "its status", 0: "success"}.get(answer.said["status"], "a failure"), answer)


@each_launcher.behaviour("launcher-stderr")
def test_what_a_command_that_fails_says(launcher: LauncherOnNode, question: Asked, cluster_shell: Shell) -> None:
    answer = _failed(launcher)
    if _WORDS in answer.failure:
        question.saw("with the failure")
    else:
        question.saw("in a file" if _kept(cluster_shell, answer, (_WORDS,)) else "lost", answer)


@each_launcher.behaviour("launcher-several")
def test_several_commands_at_a_time(launcher: LauncherOnNode, question: Asked) -> None:
    answers = launcher.asked(*(f"echo {it}" for it in "abc"))
    outputs = [it.lines for it in answers]
    question.saw_by(outputs == [["a"], ["b"], ["c"]], {True: "its own"}, answers)


@each_launcher.behaviour("launcher-cancel")
def test_cancelling(launcher: LauncherOnNode, question: Asked) -> None:
    (answer,) = launcher.asked(_BUSY, cancel=True)
    assert answer.in_image, answer
    if "unsupported" in answer.said:
        question.saw("not supported", answer)
    else:
        question.saw("goes on" if answer.said["goes_on"] else "ends", answer)


@each_launcher.behaviour("launcher-missing-image")
def test_an_image_that_does_not_exist(
    launcher: LauncherOnNode, question: Asked, cluster_shell: Shell, environment: EnvironmentFile
) -> None:
    (answer,) = launcher.asked("true", image=enroot_form(f"{environment.registry}/no/such-image:1"))
    assert not answer.in_image, answer
    if "never" in answer.said:
        question.saw("nothing", answer)
    elif answer.said["status"] == 0:
        question.saw("success", answer)
    elif any(it in answer.failure for it in _PYXIS):
        question.saw("with Pyxis' words")
    else:
        question.saw("words in a file" if _kept(cluster_shell, answer, _PYXIS) else "without words", answer)
