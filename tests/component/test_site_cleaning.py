"""What is removed on a cluster that exists, by a real bash; Slurm and enroot are programs of this test's own."""

import os
from pathlib import Path
import signal
import subprocess

import pytest

from ci.site.cleaning import claim, clean, note
from ci.site.target import SiteTarget
from tests.support.login_node import LoginNode

RUN = "run-1"
OTHERS = ["mine", f"x-{RUN}", f"pyxis_pyxis-matrix-{RUN}0-x", "pyxis_7.0", "pyxis_9.0"]
LIMIT = 30.0
_LATER = 4e9


@pytest.fixture
def there(tmp_path: Path) -> LoginNode:
    """Return a login node with a run's jobs, containers and folder, and others that only look like them."""
    sdk = f"/home/ann/pyxis-matrix/{RUN}/sdk-1"
    jobs = [
        f"1|pyxis-matrix-{RUN}|(null)|/home/ann",
        f"2|conformance-{RUN}-ab12|(null)|/home/ann",
        f"3|hello|{sdk}/job.sh|/home/ann",
        f"4|hello|(null)|{sdk}",
        f"5|pyxis-matrix-{RUN}0|(null)|/home/ann",
        f"6|my-{RUN}|/home/ann/{RUN}/x.sh|/home/ann/{RUN}",
        "7|production|/home/ann/x.sh|/home/ann",
    ]
    containers = [f"pyxis_conformance-{RUN}-ab", "pyxis_slurm-sdk-20261129_200000_0a1b2c3d", "mine", f"x-{RUN}"]
    containers += [f"pyxis_pyxis-matrix-{RUN}-mine", f"pyxis_pyxis-matrix-{RUN}0-x"]
    unnamed = {"pyxis_3.0": "tiny-0a", "pyxis_4.0": "theirs", "pyxis_7.0": "tiny-0b", "pyxis_9.0": "somebody's"}
    for name, marker in unnamed.items():
        (tmp_path / "data" / name / "etc").mkdir(parents=True)
        (tmp_path / "data" / name / "etc" / "pyxis-matrix-image").write_text(f"{marker}\n", encoding="utf-8")
    node = LoginNode(tmp_path)
    (tmp_path / "jobs").write_text("".join(f"{job}/\n" for job in jobs), encoding="utf-8")
    (tmp_path / "containers").write_text("".join(f"{it}\n" for it in [*containers, *unnamed]), encoding="utf-8")
    claim(node, SiteTarget(host="h"), RUN, "mine")  # type: ignore[arg-type]
    note(node, RUN, ["n1"], str(tmp_path / "data"))  # type: ignore[arg-type]
    closed = tmp_path / "pyxis-matrix" / RUN / "sdk-1" / "hello" / "20261129_200000_0a1b2c3d"
    closed.mkdir(parents=True)
    (tmp_path / "pyxis-matrix" / "run-2").mkdir()
    return node


@pytest.mark.parametrize("owner", ["mine", ""], ids=["its own session", "whoever is asked to"])
def test_what_a_run_made_goes_and_nothing_else(there: LoginNode, owner: str) -> None:
    assert clean(there, RUN, owner) == ""  # type: ignore[arg-type]
    assert sorted((there.home / "cancelled").read_text().split()) == ["1", "2", "3", "4"]
    assert (there.home / "containers").read_text().split() == OTHERS
    assert [it.name for it in (there.home / "pyxis-matrix").iterdir()] == ["run-2"]
    (there.home / "pyxis-matrix" / "run-2").rmdir()
    assert clean(there, RUN, owner) == "", "a second time there is nothing to do"  # type: ignore[arg-type]


def test_what_another_session_made_stays(there: LoginNode) -> None:
    jobs, containers = ((there.home / name).read_text() for name in ("jobs", "containers"))
    assert clean(there, RUN, "another") == ""  # type: ignore[arg-type]
    assert ((there.home / "jobs").read_text(), (there.home / "containers").read_text()) == (jobs, containers)
    assert (there.home / "pyxis-matrix" / RUN / "sdk-1").is_dir()


@pytest.mark.parametrize(
    ("program", "says"),
    [("squeue", "jobs: squeue does not list them"), ("enroot", "containers: enroot does not list them")],
)
def test_what_can_not_be_looked_for_is_left_and_its_folder_with_it(there: LoginNode, program: str, says: str) -> None:
    file = there.home / "bin" / program
    works = file.read_text(encoding="utf-8")
    file.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    assert says in clean(there, RUN, "mine")  # type: ignore[arg-type]
    assert (there.home / "pyxis-matrix" / RUN).is_dir()
    file.write_text(works, encoding="utf-8")
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
    assert f"containers: pyxis_conformance-{RUN}-ab" in clean(there, RUN, "mine")  # type: ignore[arg-type]
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


def test_a_process_that_was_left_in_the_folder_ends_and_no_other(there: LoginNode) -> None:
    folder = there.home / "pyxis-matrix"
    (folder / f"{RUN}0").mkdir()
    places = (there.home, folder / f"{RUN}0", folder / RUN, folder / RUN / "sdk-1")
    started = [subprocess.Popen(["sleep", "600"], cwd=place) for place in places]
    try:
        assert clean(there, RUN, "mine") == ""  # type: ignore[arg-type]
        assert [process.wait(LIMIT) for process in started[2:]] == [-signal.SIGTERM] * 2
        assert [process.poll() for process in started[:2]] == [None] * 2
    finally:
        for process in started:
            process.kill()
            process.wait()
