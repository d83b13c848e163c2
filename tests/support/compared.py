"""What tests of the command `compare` share: cells, made-up questions and results, and the command itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ci.cli.main import main
from ci.matrix import behaviours
from ci.matrix.behaviours import Answer, AnswerKind, Behaviour
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import CellRecord, Result
from ci.report import merging
from tests.support import results as made
from tests.support.results import cell, result, saw

FIRST = cell("24.11.6", "debian12", "4.1.2", "0.24.0")
SECOND = cell("24.11.7", "debian12", "4.1.2", "0.24.0")
OLD = cell("22.05", "debian12", "4.1.2", "0.24.0")
NEW = cell("25.11.7", "debian12", "4.1.2", "0.24.0")
SUITE = "pyxis_conformance"
REAL = ("sbatch-export-none", "task-prolog")
KINDS = {"good": AnswerKind.WORKS, "other": AnswerKind.CHANGED, "bad": AnswerKind.REFUSED, "worst": AnswerKind.HAZARD}
Capture = pytest.CaptureFixture[str]
Compare = Callable[..., tuple[int, str, str]]


def question(name: str, suite: str = SUITE) -> Behaviour:
    """Return a made-up question with an answer of each kind."""
    answers = [Answer(name=it, kind=kind, what=f"It is {it}.", otherwise=it == "good") for it, kind in KINDS.items()]
    answers = [replace_versions(it) if not it.otherwise else it for it in answers]
    return Behaviour(id=name, suite=suite, question=f"What of {name}?", answers=tuple(answers), where="x:1")


def replace_versions(of: Answer) -> Answer:
    """Return an answer that is for no version; what is right where is not asked here."""
    return Answer(name=of.name, kind=of.kind, what=of.what, only={"slurm": ("<1",)})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Behaviour]:
    """Have two questions of the catalogue and one that is made up; results go to a folder of the test's own."""
    every = behaviours.catalogue()
    found = {name: every[name] for name in REAL} | {"made-up": question("made-up")}
    monkeypatch.setattr(merging, "catalogue", lambda: found)
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("PYXIS_MATRIX_RUN", raising=False)
    return found


@pytest.fixture
def compare(known: dict[str, Behaviour], tmp_path: Path, capsys: Capture) -> Compare:  # noqa: ARG001 - set up
    """Return what writes results, compares, and returns exit code, output and errors."""

    def run(of: list[Result], *words: str) -> tuple[int, str, str]:
        made.write(tmp_path / "results", *of)
        code = main(["compare", *words])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    return run


ALL = {"sbatch-export-none": "in the image", "task-prolog": "starts", "made-up": "good"}


def on(of: CellRecord, answers: Mapping[str, str] = ALL, **more: Any) -> Result:  # noqa: ANN401 - of `result`
    """Return the result of a suite that saw all answers, those given in place of the usual ones."""
    return result(of, more.pop("suite", SUITE), tests=saw({**ALL, **answers}), **more)


def sections(text: str) -> dict[str, str]:
    """Return what stands under each title."""
    _, *parts = text.split("\n\n")
    return {title: body for title, _, body in (part.partition("\n") for part in parts)}


def failed(of: CellRecord) -> Result:
    """Return a result with a test that failed beside those that saw all answers."""
    bad = TestOutcome(name="test_x.py::test_it", outcome=TestState.FAILED, message="srun ended with status 1")
    return result(of, SUITE, Outcome.FAILED, tests=[*saw(ALL), bad])
