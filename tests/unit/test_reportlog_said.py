"""What the log says of why a test failed: the cluster's words first, and none that Ctrl-C broke."""

from pathlib import Path

import pytest

from ci.record import reportlog
from tests.unit.test_reportlog import END, crash, log, report, told

PYXIS, EXITED = "slurmstepd: error: pyxis:", "srun: error: n1: task 0: Exited with exit code 1\n"
IMPORT_FAILED = """\
pyxis: importing docker image: localhost:5000#no:1
slurmstepd: error: pyxis: child 52 failed with error code: 1
slurmstepd: error: pyxis: failed to import docker image
slurmstepd: error: pyxis: printing enroot log file:
slurmstepd: error: pyxis:     [INFO] Querying registry for permission grant
slurmstepd: error: pyxis:     [ERROR] URL http://localhost:5000/v2/no/manifests/1 returned error code: 404 Not Found
slurmstepd: error: pyxis: couldn't start container
slurmstepd: error: spank: required plugin spank_pyxis.so: task_init() failed with rc=-1
slurmstepd: error: Failed to invoke spank plugin stack
srun: error: n1: task 0: Exited with exit code 1
"""


@pytest.mark.parametrize(
    ("captured", "first"),
    [
        (
            IMPORT_FAILED,
            f"{PYXIS}     [ERROR] URL http://localhost:5000/v2/no/manifests/1 returned error code: 404 Not Found",
        ),
        (f"{PYXIS} failed to make it\n{PYXIS} couldn't start container\n{EXITED}", f"{PYXIS} failed to make it"),
        ("[INFO] Querying\n[ERROR] No such file: /x.sqsh\n", "[ERROR] No such file: /x.sqsh"),
        ("sbatch: error: invalid partition\nsbatch: error: submission failed\n", "sbatch: error: submission failed"),
        ("0: srun: unrecognized option '--container-image=x'\n", "0: srun: unrecognized option '--container-image=x'"),
    ],
    ids=["enroot in Pyxis", "Pyxis", "enroot", "Slurm", "an unknown option"],
)
def test_what_the_cluster_said_comes_first_and_then_the_exception(tmp_path: Path, captured: str, first: str) -> None:
    """Whoever reads a summary wants to know why the job failed, and not that its launcher's exception came."""
    why = crash("their.JobError: job 5 failed\nmore")
    failed = report("call", "failed", **why, sections=[["Captured stdout call", "x\n"], ["Captured stderr", captured]])
    (found,) = told(tmp_path, failed)
    assert found.message == f"{first}; their.JobError: job 5 failed\nmore"
    (found,) = told(tmp_path, report("call", "failed", **crash(f"AssertionError: $ srun x\n{captured}")))
    assert found.message.startswith(f"{first}; AssertionError: $ srun x\n"), "what the exception tells counts, too"
    (found,) = told(tmp_path, report("setup", "failed", **why, sections=[["Captured stderr setup", captured]]))
    assert found.message.startswith(f"setup failed: {first}; their")
    (found,) = told(tmp_path, report("call", "failed", **crash(first), sections=[["x", captured]]))
    assert found.message == first, "nothing is said twice"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (f"{PYXIS}     [ERROR] Invalid image reference: docker://localhost:5000/a/job:1", "JOB_IMAGE has the form"),
        ("slurmstepd-n1: error: pyxis:     [ERROR] Invalid image reference: docker://localhost:5/a", "JOB_IMAGE has"),
        ("[ERROR] Invalid image reference: docker://theirs", ""),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", "--partition NAME"),
        ("sbatch: error: invalid partition specified: normal", "--partition NAME"),
        ("Slurm accounting storage is disabled", "--accounting"),
        ("You are not running a supported accounting_storage plugin", "--accounting"),
    ],
)
def test_what_a_suite_met_that_a_cell_can_have_otherwise_has_a_hint(tmp_path: Path, line: str, hint: str) -> None:
    lines = [["Captured stderr call", f"{line}\n"]]
    (found,) = told(tmp_path, report("call", "failed", **crash("E: no"), sections=lines))
    first = found.message.partition("; E: no")[0]
    assert first.startswith(line)
    assert (hint in first) if hint else first == line


@pytest.mark.parametrize(
    "captured",
    [
        EXITED,  # any failed step ends with it
        "srun: job 5 queued and waiting for resources\npyxis: imported docker image: x\n",
        "my tool says srun: error: no\n",
    ],
)
def test_what_tells_nothing_is_left_out(tmp_path: Path, captured: str) -> None:
    (found,) = told(tmp_path, report("call", "failed", **crash("E: no"), sections=[["Captured stderr", captured], 5]))
    assert found.message == "E: no"


def test_what_fails_after_ctrl_c_is_interrupted_and_not_failed(tmp_path: Path) -> None:
    """A tool that handles Ctrl-C itself has its test fail, and pytest go on with the next."""
    lines = [
        *(report("call", "failed", name="before", **crash("E: no"), stop=9.5), report("teardown", name="before")),
        *(report("call", "failed", **crash("E: no result"), stop=10.5), report("teardown", stop=10.6)),
        *(report("call", name="after", stop=10.9), report("teardown", name="after", stop=11)),
    ]
    log(tmp_path, *lines, END)
    for at, states in ((10.0, "failed interrupted passed"), (20.0, "failed failed passed")):
        found = reportlog.read(tmp_path / "reportlog.jsonl", interrupted=at).tests
        assert " ".join(test.outcome for test in found) == states
    found = reportlog.read(tmp_path / "reportlog.jsonl", interrupted=10.0).tests
    assert found[1].message == "it was interrupted: E: no result"
