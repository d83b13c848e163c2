"""What is removed on a cluster that exists, by a real bash; Slurm and enroot are programs of this test's own."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os
from pathlib import Path
import re
import signal
import subprocess

import pytest

from ci.site.cleaning import claim, clean, note
from ci.site.target import SiteTarget
from tests.support.login_node import LoginNode

RUN = "run-1"
LONGER = f"{RUN}-2"
NUMBER = "0a1b2c3d4e5f"
OTHERS = ["mine", f"x-{RUN}", f"pyxis_pyxis-matrix-{RUN}0-x", "pyxis_run.1", "pyxis_.mine"]
OTHERS += [f"pyxis_conformance-{LONGER}-{NUMBER}", f"pyxis_pyxis-matrix-{LONGER}-mine", "pyxis_7.0", "pyxis_9.0"]
LIMIT = 30.0
OF_THE_RUN = {"SBATCH_JOB_NAME": f"pyxis-matrix-{RUN}"}
_LATER = 4e9


@pytest.fixture
def there(tmp_path: Path) -> LoginNode:
    """Return a login node with a run's jobs, containers and folder, and others that only look like them."""
    sdk = f"/home/ann/pyxis-matrix/{RUN}/sdk-1"
    jobs = [
        f"1|pyxis-matrix-{RUN}|(null)|/home/ann",
        f"2|conformance-{RUN}-{NUMBER}|(null)|/home/ann",
        f"3|hello|{sdk}/job.sh|/home/ann",
        f"4|hello|(null)|{sdk}",
        f"5|pyxis-matrix-{RUN}0|(null)|/home/ann",
        f"6|my-{RUN}|/home/ann/{RUN}/x.sh|/home/ann/{RUN}",
        "7|production|/home/ann/x.sh|/home/ann",
        f"8|conformance-{LONGER}-{NUMBER}|(null)|/home/ann",
    ]
    containers = [
        f"pyxis_conformance-{RUN}-{NUMBER}",
        f"pyxis_12_conformance-{RUN}-{NUMBER}",
        f"conformance-{RUN}-{NUMBER}",
    ]
    containers += ["pyxis_slurm-sdk-20261129_200000_0a1b2c3d", f"pyxis_pyxis-matrix-{RUN}-mine"]
    unnamed = {"pyxis_3.0": "tiny-0a", "pyxis_4.0": "theirs", "pyxis_7.0": "tiny-0b", "pyxis_9.0": "somebody's"}
    for name, marker in unnamed.items():
        (tmp_path / "data" / name / "etc").mkdir(parents=True)
        (tmp_path / "data" / name / "etc" / "pyxis-matrix-image").write_text(f"{marker}\n", encoding="utf-8")
    node = LoginNode(tmp_path)
    (tmp_path / "jobs").write_text("".join(f"{job}/\n" for job in jobs), encoding="utf-8")
    (tmp_path / "containers").write_text(
        "".join(f"{it}\n" for it in [*containers, "pyxis_3.0", "pyxis_4.0", *OTHERS]), encoding="utf-8"
    )
    claim(node, SiteTarget(host="h"), RUN, "mine")  # type: ignore[arg-type]
    note(node, RUN, ["n1"], str(tmp_path / "data"))  # type: ignore[arg-type]
    closed = tmp_path / "pyxis-matrix" / RUN / "sdk-1" / "hello" / "20261129_200000_0a1b2c3d"
    closed.mkdir(parents=True)
    (tmp_path / "pyxis-matrix" / LONGER).mkdir()
    program(node, "sleep", "exec /bin/sleep 0.1")
    return node


def program(there: LoginNode, name: str, text: str) -> str:
    """Have a program there do this, and return what it was."""
    file = there.home / "bin" / name
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    file.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    file.chmod(0o755)
    return before.partition("\n")[2].strip()


@pytest.mark.parametrize("owner", ["mine", ""], ids=["its own session", "whoever is asked to"])
def test_what_a_run_made_goes_and_nothing_else(there: LoginNode, owner: str) -> None:
    assert clean(there, RUN, owner) == ""  # type: ignore[arg-type]
    assert sorted((there.home / "cancelled").read_text().split()) == ["1", "2", "3", "4"]
    assert (there.home / "containers").read_text().split() == OTHERS
    assert [it.name for it in (there.home / "pyxis-matrix").iterdir()] == [LONGER]
    (there.home / "pyxis-matrix" / LONGER).rmdir()
    assert clean(there, RUN, owner) == "", "a second time there is nothing to do"  # type: ignore[arg-type]


def test_what_another_session_made_stays(there: LoginNode) -> None:
    jobs, containers = ((there.home / name).read_text() for name in ("jobs", "containers"))
    assert clean(there, RUN, "another") == ""  # type: ignore[arg-type]
    assert ((there.home / "jobs").read_text(), (there.home / "containers").read_text()) == (jobs, containers)
    assert (there.home / "pyxis-matrix" / RUN / "sdk-1").is_dir()


@pytest.mark.parametrize(
    ("name", "says"),
    [("squeue", "jobs: squeue does not list them"), ("enroot", "containers: enroot does not list them")],
)
def test_what_can_not_be_looked_for_is_left_and_its_folder_with_it(there: LoginNode, name: str, says: str) -> None:
    works = program(there, name, "exit 1")
    assert says in clean(there, RUN, "mine")  # type: ignore[arg-type]
    assert (there.home / "pyxis-matrix" / RUN).is_dir()
    program(there, name, works)
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    assert (there.home / "cancelled").read_text().split()[:4] == ["1", "2", "3", "4"]


def test_what_a_node_says_by_itself_is_nothing_that_is_left(there: LoginNode) -> None:
    srun = there.home / "bin" / "srun"
    srun.write_text(srun.read_text(encoding="utf-8").replace("exec ", "echo of a prolog; exec "), encoding="utf-8")
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]


def test_a_home_that_is_not_there_is_no_empty_one(there: LoginNode) -> None:
    there.home.rename(there.home.with_name("away"))
    assert "No such file or directory" in clean(there, RUN, "mine")  # type: ignore[arg-type]


def test_a_container_that_stays_is_named_and_goes_the_next_time(there: LoginNode) -> None:
    enroot = there.home / "bin" / "enroot"
    enroot.write_text(enroot.read_text().replace("remove)", "never)"), encoding="utf-8")
    assert f"containers: pyxis_conformance-{RUN}-{NUMBER}" in clean(there, RUN, "mine")  # type: ignore[arg-type]
    enroot.write_text(enroot.read_text().replace("never)", "remove)"), encoding="utf-8")
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    assert (there.home / "containers").read_text().split() == OTHERS


def test_a_container_of_another_name_that_is_new_is_told_and_stays(
    there: LoginNode, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pyxis_theirs", "other"):
        (there.home / "data" / name).mkdir()
        os.utime(there.home / "data" / name, (_LATER, _LATER))  # the clock of files ticks slowly
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    told = [line for line in capsys.readouterr().err.splitlines() if "left there" in line]
    assert len(told) == 1
    assert "left there: pyxis_theirs on " in told[0]
    assert (there.home / "data" / "pyxis_theirs").is_dir()


@pytest.mark.parametrize(
    ("asked", "told"),
    [("--format=*%j*", "jobs: 1 2 3 4"), ("--format=%A | --jobs=*", "containers: squeue does not list jobs")],
    ids=["on the login node", "on a node"],
)
def test_one_fault_of_squeue_takes_nothing_for_gone(there: LoginNode, asked: str, told: str) -> None:
    once = f'case "${{!#}}" in {asked}) test -e ~/once || {{ touch ~/once; exit 1; }};; esac'
    works = program(there, "squeue", "")
    program(there, "squeue", f"{once}\n{works}")
    left = clean(there, RUN, "mine")  # type: ignore[arg-type]
    assert left.split() == told.split()
    assert "pyxis_7.0" in (there.home / "containers").read_text().split()
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    assert (there.home / "containers").read_text().split() == OTHERS


def test_a_container_of_an_arrays_task_has_the_number_of_its_own(there: LoginNode) -> None:
    works = program(there, "squeue", "")
    program(there, "squeue", f"{works} | if [[ $* = *%i* ]]; then sed 's/^4|/12_3|/'; else cat; fi")
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    assert (there.home / "containers").read_text().split() == OTHERS


def test_where_no_job_is_cancelled_no_container_is_that_of_one(there: LoginNode) -> None:
    (there.home / "jobs").write_text("7|production|/home/ann/x.sh|/home/ann/\n")
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    assert "pyxis_.mine" in (there.home / "containers").read_text().split()


def test_names_that_can_not_be_kept_are_looked_for_and_told_where_any_is_left(there: LoginNode) -> None:
    (there.home / "pyxis-matrix" / RUN / ".patterns").mkdir()
    works = program(there, "enroot", 'test "$1" = list && cat ~/containers')
    left = clean(there, RUN, "mine")  # type: ignore[arg-type]
    assert f"pyxis_conformance-{RUN}-{NUMBER}" in left
    assert f"{RUN}/.patterns can't be written" in left
    program(there, "enroot", works)
    (there.home / "containers").write_text(f"conformance-{RUN}-{NUMBER}\n")
    assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
    assert not (there.home / "containers").read_text()


def test_a_folder_that_says_nobodys_is_told(there: LoginNode) -> None:
    (there.home / "pyxis-matrix" / RUN / ".session").unlink()
    assert clean(there, RUN, "mine") == f"folder: pyxis-matrix/{RUN} has no owner"  # type: ignore[arg-type]
    assert clean(there, RUN) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("linked", [False, True], ids=["a folder", "a link"])
def test_a_process_of_the_run_that_was_left_in_its_folder_ends_and_no_other(there: LoginNode, *, linked: bool) -> None:
    folder = there.home / "pyxis-matrix"
    if linked:
        folder.symlink_to(folder.rename(there.home / "scratch"))
    inside = folder / RUN / "sdk-1"
    theirs = [({}, inside), (OF_THE_RUN, there.home), (OF_THE_RUN, folder / LONGER)]
    theirs += [({"SBATCH_JOB_NAME": f"pyxis-matrix-{LONGER}"}, inside)]
    ours = [(OF_THE_RUN, folder / RUN), (OF_THE_RUN, inside)]
    started = [subprocess.Popen(["sleep", "600"], cwd=place, env=os.environ | of) for of, place in theirs + ours]
    # What a command's own shell goes on with; it has what it exports in its text alone.
    text = f"export SBATCH_JOB_NAME=pyxis-matrix-{RUN} A=b\nread line"
    started += [subprocess.Popen(["bash", "-c", text], cwd=inside, stdin=subprocess.PIPE)]
    try:
        assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
        assert [process.wait(LIMIT) for process in started[4:]] == [-signal.SIGTERM] * 3
        assert [process.poll() for process in started[:4]] == [None] * 4
    finally:
        _end(started)


def test_a_process_that_ignores_sigterm_is_killed(there: LoginNode) -> None:
    text = "trap '' TERM; echo ready; read line"
    with _running(there, text, OF_THE_RUN) as process:
        assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
        assert process.wait(LIMIT) == -signal.SIGKILL


def test_a_process_that_comes_again_is_told(there: LoginNode) -> None:
    text = "echo ready; while :; do SBATCH_JOB_NAME=$NAME sleep 600; done"
    with _running(there, text, {"NAME": OF_THE_RUN["SBATCH_JOB_NAME"]}):
        left = clean(there, RUN, "mine")  # type: ignore[arg-type]
        assert re.fullmatch(r"processes: \d+", left)
        assert (there.home / "pyxis-matrix" / RUN).is_dir()
        os.kill(int(left.split()[1]), 0)


@contextmanager
def _running(there: LoginNode, text: str, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    folder = there.home / "pyxis-matrix" / RUN
    process = subprocess.Popen(
        ["bash", "-c", text],
        cwd=folder,
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _end([process])


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    for process in started:
        process.kill()
        process.communicate()
