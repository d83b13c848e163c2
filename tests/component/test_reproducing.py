"""Scripts that `reproduce` writes, run by bash with stand-ins for the cluster's programs: what their exit code says."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import subprocess

import pytest

from ci.record.outcomes import TestOutcome, TestState
from ci.record.store import REPORT_LOG_FILE
from ci.report.finding import FoundResult
from ci.reproducing.case import Case
from ci.reproducing.writing import Reproducer
from tests.support.results import cell, result

OLD, NEW = cell("22.05", "debian12", "3.4.1", "0.19.0"), cell("24.11.7", "debian12", "4.1.2", "0.24.0")
TEST = "tests/integration/conformance/test_it.py::test_it"
_STAND_INS = {
    "sinfo": "echo n1",
    "scancel": "true",
    "enroot": "true",
    "mksquashfs": ': > "$2"',
    "busybox": "echo sh; echo busybox",
    # It reads what stands on its standard input, as the real one does.
    "srun": 'cat > /dev/null; echo "${CONTROL-tiny}"',
    "prepare": 'exit "${PREPARE-0}"',
    "tell": 'echo "$TELLS"; exit "${TELL-0}"',
}
Reproduced = Callable[..., "subprocess.CompletedProcess[str]"]


def case_of(folder: Path, of: object, answer: str) -> Case:
    """Return a test on a cell: a command that prepares, and one that tells."""
    folder.mkdir()
    said = f"$ prepare\n[exit status 0]\n\n--- stderr\n\n$ tell\n[exit status 0]\n{answer}\n--- stderr\n\n"
    report = {
        "$report_type": "TestReport",
        "nodeid": TEST,
        "when": "call",
        "sections": [["Captured stdout call", said]],
    }
    (folder / REPORT_LOG_FILE).write_text(json.dumps(report) + "\n", encoding="utf-8")
    test = TestOutcome(name=TEST, outcome=TestState.PASSED)
    return Case.of(FoundResult(result=result(of, tests=[test]), folder=folder), test)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Reproduced:
    """Return what runs the script, in a cluster that answers as the variables say."""
    fault, right = (case_of(tmp_path / name, of, name) for name, of in (("bad", OLD), ("good", NEW)))
    script = Reproducer(case=fault, fixed=right).written("cluster")
    (programs := tmp_path / "bin").mkdir()
    for name, body in _STAND_INS.items():
        (file := programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        file.chmod(0o755)
    (home := tmp_path / "a home").mkdir()

    def run(**variables: str) -> "subprocess.CompletedProcess[str]":
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environ = {"PATH": path, "HOME": str(home), "BUSYBOX": str(programs / "busybox"), **variables}
        given = {name: value for name, value in environ.items() if value != "unset"}
        # On standard input, where a command that reads it would eat the rest of the script.
        done = subprocess.run(["bash", "-s"], input=script, env=given, capture_output=True, text=True, check=False)
        assert not [*home.iterdir()], "it leaves nothing"
        return done

    return run


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({"TELLS": "bad"}, 1, "the fault is there"),
        ({"TELLS": "good"}, 0, "the fault is not there"),
        ({"TELLS": "else"}, 2, "unknown: status 0, and\nelse"),
        ({"TELLS": "bad", "TELL": "3"}, 2, "unknown: status 3, and\nbad"),
        ({"TELLS": "bad", "PREPARE": "1"}, 2, "unknown: a command ended with 1, and with 0"),
        ({"TELLS": "bad", "CONTROL": "no such image"}, 2, "no container of this image starts on the node 'n1'"),
        ({"TELLS": "bad", "BUSYBOX": "/nowhere"}, 2, "unknown: /nowhere is missing"),
    ],
    ids=["fault", "right", "neither", "another status", "prepared otherwise", "nothing works", "no busybox"],
)
def test_what_the_exit_code_says(run: Reproduced, variables: dict[str, str], code: int, says: str) -> None:
    done = run(**variables)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout


def test_a_script_that_does_not_get_to_its_end_says_nothing_of_the_fault(tmp_path: Path) -> None:
    """Else the status of whatever it ended with would be read as an answer."""
    script = Reproducer(case=case_of(tmp_path / "bad", OLD, "bad")).written("cluster")
    cut = script[: script.index("BUSYBOX=")] + "clean() { :; }\n"
    done = subprocess.run(["bash", "-s"], input=cut, capture_output=True, text=True, check=False)
    assert done.returncode == 2


@pytest.mark.parametrize("broken", ["docker", "curl", ""])
def test_a_node_that_can_not_be_made_says_nothing_of_the_fault(tmp_path: Path, broken: str) -> None:
    fault = case_of(tmp_path / "bad", OLD, "bad")
    node = Reproducer(case=fault).written("docker")
    (programs := tmp_path / "bin").mkdir()
    for name, body in {"docker": "true", "curl": "true", "sha256sum": "true"}.items():
        (file := programs / name).write_text(f"#!/bin/sh\n{'exit 1' if name == broken else body}\n", encoding="utf-8")
        file.chmod(0o755)
    (script := tmp_path / "show.sh").write_text("exit 0\n", encoding="utf-8")
    environ = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-s", str(script) if broken else str(tmp_path / "none.sh")]
    done = subprocess.run(words, input=node, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "unknown: line " in done.stdout
