"""The SPANK plugin under the address and undefined-behaviour sanitizers, called by a program that plays Slurm.

What its options mean is the command's business, for which a script stands in here. That it works with Slurm's own
headers and in Slurm itself is seen when an image is built, and by the suites.
"""

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import subprocess

import pytest

DATA = Path(__file__).parent / "data/embedded"
PLUGIN = Path(__file__).parents[2] / "containers/embedded/spank_embedded.c"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]

Play = Callable[..., list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the compiled driver and the command that stands in."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copy(DATA / "command", folder)
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.fail("gcc is missing: apt-get install gcc libc6-dev")
    definition = f'-DEMBEDDED_COMMAND="{folder}/command"'
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]
    command = [compiler, "-std=gnu11", *SANITIZERS, *warnings, f"-I{DATA}", definition, "-pthread"]
    command += ["-o", str(folder / "driver"), str(DATA / "plugin_driver.c"), str(PLUGIN)]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def play(folder: Path) -> Play:
    """Return a function that plays a scenario and returns the lines that were printed; any sanitizer's word fails."""

    def play(*words: str, ignoring: str = "", **variables: str) -> list[str]:
        for name in ("calls", "processes"):
            (folder / name).unlink(missing_ok=True)
        done = subprocess.run(
            ["env", *([f"--ignore-signal={ignoring}"] if ignoring else []), str(folder / "driver"), *words],
            env={"PATH": os.environ["PATH"], "BOTH": "job", "LANG": "xx", "LD_SOMETHING": "job", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr or done.stdout
        return done.stdout.splitlines()

    return play


def calls(folder: Path) -> list[list[str]]:
    """Return the arguments of each call of the command."""
    path = folder / "calls"
    return [line.rstrip("|").split("|") for line in path.read_text().splitlines()] if path.exists() else []


def test_srun_asks_the_command_about_its_options(folder: Path, play: Play) -> None:
    assert play("srun", "container-image=fine", "container-writable") == ["init: 0", "post_opt: 0"]
    expected = ["step", "check", "--", "container-image=fine", "container-writable", "--", "container_scope=job"]
    assert calls(folder) == [expected]


def test_srun_may_be_started_by_somebody_who_ignores_children(play: Play) -> None:
    assert play("srun", "container-image=fine", ignoring="CHLD") == ["init: 0", "post_opt: 0"]


def test_what_the_command_refuses_is_refused_in_its_words(play: Play) -> None:
    assert play("srun", "container-image=wrong") == ["init: 0", "error: embedded: that is wrong", "post_opt: -1"]


def test_tasks_join_one_container(folder: Path, play: Play) -> None:
    said = play("step", "container-image=fine", "container-env=BOTH")
    assert said[:4] == ["init: 0", "post_opt: 0", "user_init: 0", "log: from the entrypoint"]
    assert said[4:7] == ["task_init: 0 BOTH=job IMAGE=image LANG=(none) directory=/proc chown=0"] * 3
    assert said[7:] == ["task: 0", "task_exit: 0"] * 3
    options = ["--", "container-image=fine", "container-env=BOTH", "--", "container_scope=job"]
    facts = ["workdir=/proc", "env=BOTH", "unset=LANG", "log=yes", "save=/a/b"]
    assert calls(folder) == [
        ["step", "start", "id=7.0", "tasks=3", *options],
        ["step", "end", "id=7.0", "complete=yes", *facts],
    ]


def test_nothing_is_done_without_a_container(folder: Path, play: Play) -> None:
    said = play("step", "container-mounts=/a:/b")
    assert [line for line in said if line.startswith("task_init")] == [
        "task_init: 0 BOTH=job IMAGE=(none) LANG=xx directory=" + str(Path.cwd()) + " chown=-1"
    ] * 3
    assert calls(folder) == []


def test_a_variable_stands_in_for_the_option(folder: Path, play: Play) -> None:
    play("step", PYXIS_CONTAINER_IMAGE="fine")
    assert [call[1] for call in calls(folder)] == ["start", "end"]


def test_a_start_that_fails_is_told_once_and_cleaned_up(folder: Path, play: Play) -> None:
    said = play("step", "container-image=wrong")
    assert [line for line in said if line.startswith("error")] == [
        "error: embedded:     that is wrong",
        "error: embedded: container start failed with error code 4",
        "error: embedded: try something else",
    ]
    assert [line.split()[1] for line in said if line.startswith("task_init")] == ["-1"] * 3
    assert calls(folder)[1:] == [["step", "end", "id=7.0", "complete=no"]]


def test_a_task_that_never_joined_leaves_no_process(folder: Path, play: Play) -> None:
    play("lost", "container-image=fine")
    (process,) = (folder / "processes").read_text().split()
    path = Path("/proc", process, "stat")
    assert not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z"
    assert calls(folder)[1][:4] == ["step", "end", "id=7.0", "complete=no"]


def test_an_epilog_is_for_containers_of_a_job_alone(folder: Path, play: Play) -> None:
    assert play("epilog") == ["epilog: 0", "epilog: 0"]
    assert calls(folder) == [["step", "epilog", "id=7"]]
