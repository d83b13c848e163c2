"""What is removed on a cluster that exists, by a real bash; Slurm and enroot are programs of this test's own."""

import os
from pathlib import Path
import subprocess

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.site.cleaning import clean

RUN = "run-1"
_PROGRAMS = {
    # number, name, command, folder; a job that is cancelled is gone.
    "squeue": 'case $2 in --jobs=*) grep "^${2#--jobs=}|" "$HOME/jobs";; *) cat "$HOME/jobs";; esac',
    "scancel": 'for job in "$@"; do echo "$job" >> "$HOME/cancelled"; sed -i "/^$job|/d" "$HOME/jobs"; done',
    "srun": 'while case $1 in --*) true;; *) false;; esac; do shift; done; exec "$@"',
    "enroot": 'case $1 in list) cat "$HOME/containers";; remove) sed -i "/^$3\\$/d" "$HOME/containers";; esac',
}


class Bash:
    """A connection whose login node is this machine, with a home and programs of its own."""

    def __init__(self, home: Path) -> None:
        """Make them."""
        self.home = home
        (home / "bin").mkdir()
        for name, text in _PROGRAMS.items():
            (home / "bin" / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
            (home / "bin" / name).chmod(0o755)

    def run(self, command: str, **_: object) -> RemoteAnswer:
        """Run it by bash."""
        variables = {"HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", command], env=variables, capture_output=True, text=True, check=False)
        return RemoteAnswer(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def there(tmp_path: Path) -> Bash:
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
    unnamed = {"pyxis_3.0": "tiny-0a", "pyxis_7.0": "tiny-0b", "pyxis_9.0": "somebody's"}
    for name, marker in unnamed.items():
        (tmp_path / "data" / name / "etc").mkdir(parents=True)
        (tmp_path / "data" / name / "etc" / "pyxis-matrix-image").write_text(f"{marker}\n", encoding="utf-8")
    (tmp_path / "jobs").write_text("".join(f"{job}/\n" for job in jobs), encoding="utf-8")
    (tmp_path / "containers").write_text("".join(f"{it}\n" for it in [*containers, *unnamed]), encoding="utf-8")
    closed = tmp_path / "pyxis-matrix" / RUN / "sdk-1" / "hello" / "20261129_200000_0a1b2c3d"
    closed.mkdir(parents=True)
    (tmp_path / "pyxis-matrix" / "run-2").mkdir()
    return Bash(tmp_path)


def test_what_a_run_made_goes_and_nothing_else(there: Bash) -> None:
    assert clean(there, RUN, ["n1"], str(there.home / "data")) == ""  # type: ignore[arg-type]
    assert sorted((there.home / "cancelled").read_text().split()) == ["1", "2", "3", "4"]
    assert (there.home / "containers").read_text().split() == ["mine", f"x-{RUN}", "pyxis_7.0", "pyxis_9.0"]
    assert [it.name for it in (there.home / "pyxis-matrix").iterdir()] == ["run-2"]
    (there.home / "pyxis-matrix" / "run-2").rmdir()
    assert clean(there, RUN, ["n1"], str(there.home / "data")) == "", "a second time there is nothing to do"  # type: ignore[arg-type]


def test_a_container_that_stays_is_named(there: Bash) -> None:
    enroot = there.home / "bin" / "enroot"
    enroot.write_text(enroot.read_text().replace("remove)", "never)"), encoding="utf-8")
    assert f"containers: pyxis_conformance-{RUN}-ab" in clean(there, RUN, ["n1"], str(there.home / "data"))  # type: ignore[arg-type]
