"""The command `compare`: what it says of results that are there, and how it ends."""

import argparse
from datetime import timedelta
import json
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.cli import groups
from ci.cli.main import main
from ci.errors import EngineError
from ci.matrix import behaviours, loading
from ci.matrix.behaviours import Behaviour
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import CellRecord, Result
from tests.support import results as made
from tests.support.compared import (
    ALL,
    FIRST,
    NEW,
    OLD,
    SECOND,
    SUITE,
    Capture,
    Compare,
    failed,
    on,
    question,
    sections,
)
from tests.support.results import cell, passed, result, saw


def test_the_task_prolog_is_fixed_between_24_11_6_and_24_11_7(compare: Compare) -> None:
    code, out, _ = compare([on(FIRST, {"task-prolog": "fails"}), on(SECOND)], FIRST.id, SECOND.id)
    assert code == 1
    assert out.startswith("differs; behaviours: 1 fixed, 2 the same\n")
    fixed = sections(out)["Fixed"]
    assert "task-prolog: Does a container step with a task prolog start?" in fixed
    assert "before: refused, fails: Every container step" in fixed
    assert "now: works, starts: " in fixed
    assert "NVIDIA/pyxis#163" in fixed
    assert out.count("task-prolog:") == 1


def test_the_boundary_of_export_none_is_named_once(compare: Compare) -> None:
    code, out, _ = compare([on(OLD, {"sbatch-export-none": "on the host"}), on(NEW)], OLD.id, NEW.id)
    assert code == 1
    assert "sbatch-export-none" in sections(out)["Fixed"]
    assert "before: hazard, on the host: " in out
    assert out.count("sbatch-export-none:") == 1
    code, out, _ = compare([], NEW.id, OLD.id)
    assert code == 1
    dangerous = next(body for title, body in sections(out).items() if title.startswith("Newly dangerous"))
    assert "what to do: Give --export=ALL" in dangerous


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("good", "worst", "newly dangerous"),
        ("bad", "worst", "newly dangerous"),
        ("worst", "good", "fixed"),
        ("bad", "good", "fixed"),
        ("good", "bad", "newly refused"),
        ("worst", "bad", "fixed"),
        ("good", "other", "changed"),
        ("other", "good", "changed"),
        ("worst", "other", "fixed"),
        ("good", "good", "the same"),
        ("worst", "worst", "the same"),
        ("a name of an older catalogue", "good", "changed"),
    ],
)
def test_each_kind_of_change(compare: Compare, before: str, after: str, kind: str) -> None:
    both = [on(OLD, {"made-up": before}), on(NEW, {"made-up": after})]
    code, out, _ = compare(both, OLD.id, NEW.id, "--format", "json")
    found = json.loads(out)
    assert {it["id"]: it["kind"] for it in found["behaviours"]}["made-up"] == kind
    assert (code, found["verdict"]) == ((0, "the same") if kind == "the same" else (1, "differs"))


def test_a_hazard_on_both_sides_is_named(compare: Compare) -> None:
    code, out, _ = compare([on(OLD, {"made-up": "worst"}), on(NEW, {"made-up": "worst"})], OLD.id, NEW.id)
    assert code == 0
    assert "made-up" in sections(out)["Hazards on both sides"]


def test_an_answer_that_only_some_tests_see_otherwise_is_a_change(compare: Compare) -> None:
    mixed = result(OLD, SUITE, tests=[*saw(ALL), replace(saw({"made-up": "worst"})[0], name="t::another")])
    code, out, _ = compare([mixed, on(NEW)], OLD.id, NEW.id)
    assert code == 1
    assert "made-up" in sections(out)["Fixed"]


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ([result(NEW)], f"{SUITE} was not run"),
        ([result(NEW), result(NEW, SUITE, Outcome.SKIPPED, tests=[])], f"{SUITE} is 'not run'"),
        ([result(NEW), result(NEW, SUITE, Outcome.ERROR, tests=[], reason="no cluster")], f"{SUITE} is 'error'"),
    ],
    ids=["not run", "skipped", "error"],
)
def test_what_was_not_run_on_one_side_could_not_be_told(compare: Compare, after: list[Result], why: str) -> None:
    code, out, err = compare([result(OLD), on(OLD), *after], OLD.id, NEW.id)
    assert code == 55
    assert out.startswith("could not be told; behaviours: 3 could not be told\n")
    untold = sections(out)["Could not be told"]
    assert untold.splitlines() == ["  sbatch-export-none, task-prolog, made-up", f"      {why}: {NEW.id}"]
    assert "--run" in err


def test_a_suite_without_behaviours_that_one_side_lacks_is_named(compare: Compare) -> None:
    code, out, _ = compare([on(OLD), on(NEW), result(OLD, "registry")], OLD.id, NEW.id)
    assert code == 55
    assert f"registry was not run: {NEW.id}" in sections(out)["Could not be told"]


def test_a_behaviour_that_neither_side_saw_could_not_be_told(compare: Compare) -> None:
    code, out, _ = compare([result(OLD), result(NEW)], OLD.id, NEW.id)
    assert code == 55
    assert "sbatch-export-none, task-prolog, made-up" in sections(out)["Could not be told"]
    # Where the suite ran whole on both sides, its test does not apply there: named, and no reason against the rest.
    without = [result(it, SUITE, tests=saw({"made-up": "good"})) for it in (OLD, NEW)]
    code, out, _ = compare([replace(it, run="20261121-023000-bbbb") for it in without], OLD.id, NEW.id)
    assert code == 0
    assert "sbatch-export-none, task-prolog" in sections(out)["Could not be told"]
    assert f"{SUITE} did not ask it: {OLD.id}, {NEW.id}" in out


@pytest.mark.parametrize("asks", [OLD, NEW], ids=["before", "after"])
def test_a_behaviour_that_only_one_side_asked_is_not_the_same(compare: Compare, asks: CellRecord) -> None:
    silent = NEW if asks is OLD else OLD
    half = result(silent, SUITE, tests=saw({name: answer for name, answer in ALL.items() if name != "made-up"}))
    code, out, err = compare([on(asks), half], OLD.id, NEW.id)
    assert (code, out.partition("\n")[0]) == (55, "could not be told; behaviours: 1 could not be told, 2 the same")
    assert f"{SUITE} did not ask it: {silent.id}\n" in out
    assert f'next: nox -s "{SUITE}({silent.id})" -- --nodes 2\n' in err
    assert "--run" not in err, "it runs no suite that is there"


def test_a_suite_that_neither_side_ran_keeps_the_rest_from_being_the_same(
    compare: Compare, known: dict[str, Behaviour]
) -> None:
    known["of-another-suite"] = question("of-another-suite", "registry")
    code, out, _ = compare([on(OLD), on(NEW)], OLD.id, NEW.id)
    assert code == 55
    untold = sections(out)["Could not be told"].rstrip().splitlines()
    assert untold == ["  of-another-suite", f"      registry was not run: {OLD.id}, {NEW.id}"]


def test_a_suite_that_no_group_runs_is_missed_only_where_the_other_side_ran_it(
    compare: Compare, known: dict[str, Behaviour]
) -> None:
    known["of-subjects"] = question("of-subjects", "launchers")
    code, out, _ = compare([on(OLD), on(NEW)], OLD.id, NEW.id)
    assert (code, "of-subjects" in out) == (0, False)
    code, out, _ = compare([on(OLD), on(NEW), result(OLD, "launchers", run="more")], OLD.id, NEW.id)
    assert code == 55
    assert f"launchers was not run: {NEW.id}" in sections(out)["Could not be told"]


def test_a_question_that_is_not_for_such_cells_is_left_out(compare: Compare, known: dict[str, Behaviour]) -> None:
    known["of-plain-slurm"] = question("of-plain-slurm", "legacy_integration")
    code, out, _ = compare([on(OLD), on(NEW)], OLD.id, NEW.id)
    assert code == 0
    assert "of-plain-slurm" not in out


def test_a_change_is_told_although_something_else_is_not_known(compare: Compare) -> None:
    code, out, _ = compare([on(FIRST, {"task-prolog": "fails"}), on(SECOND), result(FIRST)], FIRST.id, SECOND.id)
    assert code == 1
    assert f"pyxis_basic was not run: {SECOND.id}" in sections(out)["Could not be told"]


def test_a_test_that_fails_on_one_side_only_is_a_difference(compare: Compare) -> None:
    code, out, _ = compare([on(OLD), failed(NEW)], OLD.id, NEW.id)
    assert code == 1
    new = sections(out)["Tests that fail now and did not before"].splitlines()
    assert new == [f"  {SUITE} test_x.py::test_it", "      srun ended with status 1", f"      {NEW.id}"]
    code, out, _ = compare([], NEW.id, OLD.id)
    assert code == 1
    assert "test_x.py::test_it" in sections(out)["Tests that failed before and do not now"]


def test_a_test_that_fails_on_both_sides_is_no_difference(compare: Compare) -> None:
    assert compare([failed(OLD), failed(NEW)], OLD.id, NEW.id)[0] == 0


def known_failure(of: CellRecord, message: str = "the squashfs is broken (NVIDIA/enroot#1)") -> Result:
    """Return a result with a known failure beside the tests that saw all answers."""
    bad = TestOutcome(name="test_x.py::test_it", outcome=TestState.XFAILED, message=message)
    return result(of, SUITE, tests=[*saw(ALL), bad])


def test_a_known_failure_on_one_side_only_is_a_difference(compare: Compare) -> None:
    code, out, _ = compare([on(OLD), known_failure(NEW)], OLD.id, NEW.id)
    assert code == 1
    assert out.startswith("differs; behaviours: 3 the same; known failures on one side only: 1\n")
    said = [f"  {SUITE} test_x.py::test_it", "      the squashfs is broken (NVIDIA/enroot#1)", f"      {NEW.id}"]
    assert sections(out)["Known failures now, and not before"].splitlines() == said
    code, out, _ = compare([], NEW.id, OLD.id)
    assert (code, "test_x.py::test_it" in sections(out)["Known failures before, and not now"]) == (1, True)
    later = {"run": "20261121-023000-bbbb", "started": made.BEGIN + timedelta(days=1)}
    code, out, _ = compare([replace(failed(OLD), **later)], OLD.id, NEW.id)
    assert {"Tests that failed before and do not now", "Known failures now, and not before"} <= sections(out).keys()


def test_a_known_failure_on_both_sides_or_of_a_behaviour_is_no_other_difference(compare: Compare) -> None:
    assert compare([known_failure(OLD), known_failure(NEW)], OLD.id, NEW.id)[0] == 0
    both = [on(FIRST), known_failure(SECOND, "It is bad")]
    assert compare(both, FIRST.id, SECOND.id)[0] == 0, "the answers of behaviours are compared, and each once"


PAIRS = [cell(slurm, "debian12", "4.1.2", pyxis) for slurm in ("22.05", "25.11.7") for pyxis in ("0.21.0", "0.24.0")]


def test_versions_are_compared_in_all_pairs_that_differ_in_them_only(compare: Compare) -> None:
    old = {"sbatch-export-none": "on the host"}
    several = [
        on(PAIRS[0], old | {"made-up": "worst"}),
        on(PAIRS[1], old),
        on(PAIRS[2]),
        on(PAIRS[3]),
        on(cell("25.11.7", "debian13", "4.1.2", "0.24.0"), {"made-up": "worst"}),  # has no partner
        on(cell("22.05", "debian12", kind="embedded")),
    ]
    code, out, _ = compare(several, "--from", "slurm=22.05", "--to", "slurm=25.11.7")
    assert code == 1
    first, second = ("enroot4.1.2-pyxis0.21.0-debian12-amd64", "enroot4.1.2-pyxis0.24.0-debian12-amd64")
    fixed = sections(out)["Fixed"]
    assert "fixed: all 2 pairs" in fixed
    assert f"fixed: {first}\n" in fixed
    assert f"the same: {second}" in fixed
    assert [out.count(f"  {name}:") for name in ("sbatch-export-none", "made-up")] == [1, 1]
    assert "debian13" not in out


def test_several_axes_may_differ(compare: Compare) -> None:
    ends = [on(cell("22.05", "debian12", "4.1.2", "0.19.0"), {"made-up": "bad"}), on(PAIRS[3])]
    words = ("--from", "slurm=22.05", "--from", "pyxis=0.19.0", "--to", "slurm=25.11.7", "--to", "pyxis=0.24.0")
    code, out, _ = compare(ends, *words, "--format", "json")
    assert code == 1
    assert json.loads(out)["pairs"] == {"enroot4.1.2-debian12-amd64": [ends[0].cell_id, ends[1].cell_id]}


def test_markdown_has_the_same_and_steers_nothing(compare: Compare) -> None:
    both = [on(OLD, {"made-up": "<b>*"}), on(NEW)]
    code, out, _ = compare(both, OLD.id, NEW.id, "--format", "md")
    assert code == 1
    assert out.startswith("# differs; behaviours: 1 changed, 2 the same\n")
    assert "\n## Changed\n\n- made-up: What of made-up?\n" in out
    assert "&lt;b\\>\\*" in out


def test_a_report_is_data_too(compare: Compare, tmp_path: Path, capsys: Capture) -> None:
    made.write(tmp_path / "results", on(FIRST, {"task-prolog": "fails"}), on(SECOND))
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    for data in (tmp_path / "report", tmp_path / "report/compat.json"):
        code, out, _ = compare([], FIRST.id, SECOND.id, "--data", str(data))
        assert (code, out.partition("\n")[0]) == (1, "differs; behaviours: 1 fixed, 2 the same")


WELL = [on(FIRST), on(SECOND)]
OTHER = replace(on(SECOND), subject={"requirement": "other==1"})


@pytest.mark.parametrize(
    ("given", "words", "code", "says"),
    [
        (WELL, [FIRST.id], 11, "two cells are compared; named: 1"),
        (WELL, [], 11, "two cells are compared; named: 0"),
        (WELL, [FIRST.id, FIRST.id], 11, "both names are of the same cell"),
        (WELL, [FIRST.id, SECOND.id + "x"], 11, f"did you mean {SECOND.id}"),
        (
            WELL,
            [FIRST.id, SECOND.id, "--from", "slurm=22.05"],
            11,
            "cells cannot be named together with --from and --to",
        ),
        (WELL, [FIRST.id, NEW.id], 40, f"nox -s matrix -- {NEW.id}"),
        ([], [FIRST.id, NEW.id], 40, f"nox -s matrix -- {FIRST.id} {NEW.id}"),
        ([on(FIRST), OTHER], [FIRST.id, SECOND.id], 40, "different subjects: other==1 and slurm-sdk==0.4.6"),
        (WELL, ["--from", "slrum=22.05", "--to", "slurm=25.11.7"], 11, "did you mean 'slurm'"),
        (WELL, ["--from", "slurm=", "--to", "slurm=25.11.7"], 11, "it has no value"),
        (WELL, ["--from", "slurm=24.11.6", "--from", "slurm=22.05"], 11, "slurm is named twice"),
        (WELL, ["--from", "slurm=24.11.6", "--to", "slurm=24.11.06"], 11, "slurm has the same value"),
        (WELL, ["--from", "slurm=24.11.6"], 11, "slurm is in only one of --from and --to"),
        (WELL, ["--from", "slurm=24.11.6", "--to", "slurm=24.11.77"], 11, "did you mean '24.11.7'"),
        (WELL, ["--from", "slurm=24.11.6", "--to", "slurm=25.11.7"], 40, f"nox -s matrix -- {FIRST.id} {NEW.id}"),
        (WELL, [FIRST.id, SECOND.id, "--data", "nope"], 40, "run not found: 'nope'"),
        (WELL, [FIRST.id, SECOND.id, "--data", "nope.json"], 40, "run not found: 'nope.json'"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    compare: Compare, given: list[Result], words: list[str], code: int, says: str
) -> None:
    found, out, err = compare(given, *words)
    assert (found, out) == (code, "")
    assert says in err


def test_data_of_another_schema_is_an_error(compare: Compare, tmp_path: Path) -> None:
    (tmp_path / "compat.json").write_text('{"schema": 1}')
    code, _, err = compare([], FIRST.id, SECOND.id, "--data", str(tmp_path))
    assert (code, "a report has another schema" in err) == (40, True)
    (other,) = made.write(tmp_path / "results", on(FIRST))
    file = other / "result.json"
    file.write_text(file.read_text().replace('"schema": 4', '"schema": 99'))
    code, _, err = compare([on(SECOND)], FIRST.id, SECOND.id)
    assert (code, "another schema" in err) == (40, True)


def test_results_that_can_not_be_read_are_named_and_no_success(compare: Compare, tmp_path: Path) -> None:
    bad = tmp_path / "results/run/cell/suite/result.json"
    bad.parent.mkdir(parents=True)
    bad.write_text("{")
    code, out, err = compare(WELL, FIRST.id, SECOND.id)
    assert code == 40
    assert out.startswith("the same")
    assert str(bad) in err


def test_what_is_missing_is_run_as_a_group_is(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[argparse.Namespace] = []

    def matrix(parsed: argparse.Namespace) -> int:
        asked.append(parsed)
        made.write(tmp_path / "results", *(replace(on(it), run=parsed.run) for it in (FIRST, SECOND)))
        return 1

    monkeypatch.setattr(groups, "matrix", matrix)
    code, out, _ = compare([on(FIRST)], FIRST.id, SECOND.id, "--run")
    (found,) = asked
    assert found.cells == [FIRST.id, SECOND.id]
    assert SUITE in found.suites
    assert "pyxis_upstream" not in found.suites, "no group runs it by itself"
    assert (code, out.partition(";")[0]) == (0, "the same"), "the exit code of the run is no answer"
    compare([], "--from", "slurm=24.11.6", "--to", "slurm=25.11.7", "--run")
    assert asked[1].cells == [FIRST.id, NEW.id]


def test_what_is_run_is_added_to_a_report(compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made.write(tmp_path / "old", on(FIRST))
    assert main(["report", str(tmp_path / "old"), "--output", str(tmp_path / "report")]) == 0

    def matrix(parsed: argparse.Namespace) -> int:
        made.write(tmp_path / "results", replace(on(SECOND), run=parsed.run))
        return 0

    monkeypatch.setattr(groups, "matrix", matrix)
    code, out, _ = compare([], FIRST.id, SECOND.id, "--run", "--data", str(tmp_path / "report"))
    assert (code, out.partition(";")[0]) == (0, "the same")


def test_a_run_that_cannot_begin_is_an_error(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: argparse.Namespace) -> int:
        raise EngineError("no engine")

    monkeypatch.setattr(groups, "matrix", refused)
    assert compare([on(FIRST)], FIRST.id, SECOND.id, "--run")[0] == 20


def test_nothing_is_run_where_nothing_is_missing(compare: Compare) -> None:
    cells = [loading.load().cell(it.id) for it in (FIRST, SECOND)]
    suites = [
        "pyxis_basic",
        "registry",
        "pyxis_advanced",
        *{it.suite for it in behaviours.catalogue().values()} - {SUITE},
    ]
    every = [result(it, name) for it in (FIRST, SECOND) for name in dict.fromkeys(suites)]
    assert [it.id for it in cells] == [FIRST.id, SECOND.id]
    assert compare([*WELL, *every], FIRST.id, SECOND.id, "--run")[0] == 0


@pytest.mark.usefixtures("known")
def test_a_mistake_of_ours_does_not_end_as_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    made.write(tmp_path / "results", *WELL)
    monkeypatch.setattr("ci.answers.comparing.compare", lambda *_: 1 / 0)
    assert main(["compare", FIRST.id, SECOND.id]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_own_suites_say_nothing(compare: Compare) -> None:
    of = [*WELL, result(FIRST, "suite", Outcome.FAILED, tests=[replace(passed("t::x"), outcome=TestState.FAILED)])]
    assert compare(of, FIRST.id, SECOND.id)[0] == 0
