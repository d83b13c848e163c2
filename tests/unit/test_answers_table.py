"""`ci.report.answers_table`: what each version answered, and that what was not observed never looks like an answer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ci.record.outcomes import TestOutcome, TestState
from ci.record.store import CellRecord, Result
from ci.report import writing
from ci.report.answers_table import Answers, AnswersTable, Entry
from ci.report.merging import ReportRequest
from ci.report.model import Compat
from ci.report.words import ANSWERS
from tests.support import results as made
from tests.support.questions import HAZARD, QUESTIONS, question, questions
from tests.support.results import cell, result

OLD = cell("22.05", "debian12", "3.4.1", "0.19.0")
OLD_NEWER = cell("22.05", "debian12", "3.4.1", "0.21.0")
NEW = cell("24.11", "debian13", "4.1.2", "0.21.0")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
LEGACY = cell("22.05", "debian12", kind="legacy")
ASKS = "pyxis_conformance"


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Make reports know questions of every kind."""
    with questions():
        yield


def seeing(of: CellRecord, *saw: tuple[str, str], suite: str = ASKS) -> Result:
    return result(of, suite, tests=[TestOutcome(name="t::sees", outcome=TestState.PASSED, saw=saw)])


def compat_of(folder: Path, *of: Result) -> Compat:
    made.write(folder, *of)
    return writing.merge(ReportRequest(roots=(folder,), base=folder)).compat


def table(compat: Compat, title: str) -> AnswersTable:
    return next(it for it in Answers(compat).tables if it.title == title)


def said(entry: Entry) -> str:
    return f"{entry.sign} {entry.word}, {entry.more or 'no cells'}"


def test_there_is_a_table_for_each_suite_and_each_axis_that_decides(tmp_path: Path) -> None:
    every = [(name, it.answers[0].name) for name, it in QUESTIONS.items() if it.suite == ASKS]
    found = Answers(
        compat_of(tmp_path, seeing(OLD, *every), seeing(NEW, ("by-enroot", "new"), suite="registry"))
    ).tables
    assert [(it.title, [row[0].behaviour.id for row in it.rows]) for it in found] == [
        ("pyxis_conformance, by Slurm", ["by-slurm", "by-two-axes"]),
        ("pyxis_conformance, by Pyxis", ["by-two-axes"]),
        ("pyxis_conformance, by OS", ["by-os"]),
        ("pyxis_conformance, whatever the version", ["everywhere"]),
        ("registry, by enroot", ["by-enroot"]),
    ]


def test_columns_are_versions_in_their_order_and_runtimes_stand_apart(tmp_path: Path) -> None:
    late = cell("24.5", "debian13", "4.1.2", "0.21.0")
    results = [seeing(it, ("by-slurm", "in the image")) for it in (NEW, late, OLD, EMBEDDED)]
    found = table(compat_of(tmp_path, *results, seeing(LEGACY)), "pyxis_conformance, by Slurm")
    assert [(runtime, version) for _, runtime, version in found.columns] == [
        ("nvidia", "22.05"),
        ("nvidia", "24.5"),
        ("nvidia", "24.11"),
        ("embedded", "22.05"),
    ], "one that has no cell that saw anything has no column"
    assert found.groups == [("Real enroot and Pyxis", 3), ("Embedded runtime, not a compatibility verdict", 1)]


def test_a_version_that_saw_nothing_is_not_observed_and_never_looks_like_yes(tmp_path: Path) -> None:
    compat = compat_of(tmp_path, seeing(OLD, ("by-slurm", "on the host"), ("everywhere", "hangs")), seeing(NEW))
    (row,) = table(compat, "pyxis_conformance, by Slurm").rows
    assert [said(it) for it in row] == ["⚠ on the host, 1 cell", "· not observed, no cells"]
    assert [it.kind for it in row] == ["hazard", "not observed"]
    assert len(set(ANSWERS.values())) == len(ANSWERS), "no two kinds share a sign"


def test_what_no_cell_answered_is_listed_and_has_no_row(tmp_path: Path) -> None:
    answers = Answers(compat_of(tmp_path, seeing(OLD, ("by-slurm", "on the host"))))
    assert [it.id for it in answers.unobserved] == [it for it in QUESTIONS if it != "by-slurm"]
    assert [row[0].behaviour.id for it in answers.tables for row in it.rows] == ["by-slurm"]


def test_different_answers_under_one_version_are_never_one_of_them(tmp_path: Path) -> None:
    compat = compat_of(tmp_path, seeing(OLD, ("by-two-axes", "refused")), seeing(OLD_NEWER, ("by-two-axes", "well")))
    (slurm,), (pyxis,) = (table(compat, f"pyxis_conformance, by {axis}").rows for axis in ("Slurm", "Pyxis"))
    assert [said(it) for it in slurm] == ["± 2 answers, 2 cells"]
    assert [said(it) for it in pyxis] == ["⊘ refused, 1 cell", "✓ well, 1 cell"]


def test_a_hazard_among_several_answers_is_seen(tmp_path: Path) -> None:
    both = ("by-slurm", "on the host"), ("by-slurm", "in the image")
    ((entry,),) = table(compat_of(tmp_path, seeing(OLD, *both)), "pyxis_conformance, by Slurm").rows
    assert (said(entry), entry.kind) == ("⚠ 2 answers, 1 cell", "hazard")


def test_what_only_an_older_catalogue_knew_is_not_lost(tmp_path: Path) -> None:
    answers = Answers(compat_of(tmp_path, seeing(OLD, ("by-slurm", "nowhere"), ("gone", "it did"))))
    assert [(it.title, [said(entry) for row in it.rows for entry in row]) for it in answers.tables] == [
        ("pyxis_conformance, by Slurm", ["≠ nowhere, 1 cell"]),
        ("no longer asked, whatever the version", ["≠ it did, 1 cell"]),
    ]


def test_what_was_renamed_since_counts_as_what_it_is_now(tmp_path: Path) -> None:
    with questions({"now": question("now", replace(HAZARD, was=("before: it did", "now: hangs")))}):
        compat = compat_of(tmp_path, seeing(OLD, ("before", "it did")), seeing(NEW, ("now", "hangs")))
    assert [(suite.saw, suite.hazards) for _, suite in compat.results()] == [({"now": ("on the host",)}, ("now",))] * 2


def test_the_script_reads_the_same_answers_once_for_all_cells_that_share_them(tmp_path: Path) -> None:
    saw = ("by-slurm", "on the host"), ("everywhere", "hangs")
    compat = compat_of(tmp_path, seeing(OLD, *saw), seeing(OLD_NEWER, *saw), seeing(NEW, saw[1]), seeing(EMBEDDED))
    data = Answers(compat).data()
    assert len(data["saws"]) == 2
    for report, of_cell in zip(compat.cells, data["cells"], strict=True):
        read = {
            data["behaviours"][at].id: tuple(data["behaviours"][at].answers[it].name for it in answers)
            for place, _, _ in of_cell
            for at, answers in data["saws"][place].items()
        }
        assert read == {name: names for it in report.suites for name, names in it.saw.items()}
    places = {name: place for place, (_, name) in enumerate(data["axes"])}
    assert [places["Slurm"], "nvidia", "22.05"] in data["columns"]
    assert [-1, "embedded", ""] in data["columns"]


def test_nothing_observed_is_no_table(tmp_path: Path) -> None:
    answers = Answers(compat_of(tmp_path, result(OLD)))
    assert answers.tables == []
    assert len(answers.unobserved) == len(QUESTIONS)
