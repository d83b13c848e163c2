"""The list of mutations, what counts as noticed, and the table."""

from collections.abc import Sequence
import json
from pathlib import Path
import re

import pytest

from ci.errors import LaunchError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.suites import SUITES
from tests.mutations import keeping
from tests.mutations.__main__ import _narrowed, select, select_suites
from tests.mutations.copies import replaced
from tests.mutations.judging import Colour, Row, Verdict, judge, table
from tests.mutations.mutation import CONTROL, UNIT_TESTS, Mutation
from tests.mutations.mutations import MUTATIONS
from tests.mutations.suites import suites_of
from tests.support.rows import SAMPLE

MATRIX = loading.load(SAMPLE)
EMBEDDED = MATRIX.cell(f"slurm22.05-embedded-debian12-{Arch.host()}")
LEGACY = MATRIX.cell(f"slurm22.05-legacy-debian12-{Arch.host()}")
BROKEN = Mutation(name="broken", says="unrecognized option")


def log_of(path: Path, *tests: tuple[str, str, str], finished: bool = True) -> Path:
    """Write a report log of tests: name, outcome, and what was captured from its standard output."""
    lines: list[dict[str, object]] = [{"$report_type": "SessionStart"}]
    for name, outcome, output in tests:
        report = {"$report_type": "TestReport", "nodeid": name, "sections": [["Captured stdout call", output]]}
        crash = {"reprcrash": {"message": f"AssertionError: {name}"}} if outcome == "failed" else None
        lines.append({**report, "when": "call", "outcome": outcome, "longrepr": crash})
        lines.append({**report, "when": "teardown", "outcome": "passed"})
    selection: dict[str, object] = {"$report_type": "Selection", "selected": [name for name, _, _ in tests]}
    lines += [selection, {"$report_type": "SessionFinish"}] if finished else []
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("tests", "exit_code", "expected"),
    [
        ([("a.py::test_a", "passed", "")], 0, Colour.GREEN),
        ([("a.py::test_a", "failed", "srun: unrecognized option '--container-image'")], 1, Colour.RED),
        ([("a.py::test_a", "failed", "ssh: Connection timed out")], 1, Colour.OTHER),
        # What another test said, or a test that passed, is no answer.
        (
            [("a.py::test_a", "passed", "unrecognized option"), ("a.py::test_b", "failed", "Connection timed out")],
            1,
            Colour.OTHER,
        ),
        ([("a.py::test_a", "skipped", "unrecognized option")], 0, Colour.OTHER),
        ([], 5, Colour.OTHER),
    ],
)
def test_a_red_suite_counts_only_with_the_words(
    tmp_path: Path, tests: Sequence[tuple[str, str, str]], exit_code: int, expected: Colour
) -> None:
    assert judge(BROKEN, "suite", log_of(tmp_path / "log", *tests), exit_code).colour is expected


def test_the_first_failing_test_is_named(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", ("a.py::test_a", "passed", ""), ("a.py::test_b", "failed", "unrecognized option"))
    verdict = judge(BROKEN, "suite", log, 1)
    assert (verdict.test, verdict.why) == ("a.py::test_b", "unrecognized option")


@pytest.mark.parametrize("name", ["report log removed", "report log cut", "report log ends after the first test"])
def test_a_spoilt_log_is_an_error(tmp_path: Path, name: str) -> None:
    (mutation,) = (it for it in MUTATIONS if it.name == name)
    log = log_of(tmp_path / "log", *((f"a.py::test_{number}", "passed", "") for number in range(5)))
    assert judge(mutation, "suite", log, 0).colour is Colour.GREEN
    assert mutation.log
    mutation.log(log)
    assert judge(mutation, "suite", log, 0).colour is Colour.RED


def test_a_failing_suite_is_not_the_error_that_is_asked_for(tmp_path: Path) -> None:
    (mutation,) = (it for it in MUTATIONS if it.name == "report log cut")
    log = log_of(tmp_path / "log", ("a.py::test_a", "failed", "the report log is invalid and did not finish"))
    assert judge(mutation, "suite", log, 1).colour is Colour.OTHER


def row(name: str, *colours: Colour) -> Row:
    verdicts = tuple(Verdict(suite=f"suite{number}", colour=colour) for number, colour in enumerate(colours))
    return Row(mutation=Mutation(name=name, says="words"), verdicts=verdicts)


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (row("broken", Colour.GREEN, Colour.RED, Colour.OTHER), ""),
        (row("broken", Colour.GREEN, Colour.GREEN), "nothing noticed"),
        (row("broken", Colour.GREEN, Colour.OTHER), "nothing noticed: no red suite says 'words'"),
        (row(CONTROL, Colour.GREEN, Colour.GREEN), ""),
        (row(CONTROL, Colour.GREEN, Colour.OTHER), "red, though nothing was changed: the other rows prove nothing"),
        (row(CONTROL, Colour.GREEN, Colour.RED), "red, though nothing was changed: the other rows prove nothing"),
        (row(CONTROL), "red, though nothing was changed: the other rows prove nothing"),
    ],
)
def test_what_a_row_says_against_the_suites(one: Row, problem: str) -> None:
    assert one.problem == problem


def test_the_table_shows_every_suite_of_every_row() -> None:
    red = Verdict(suite="two", colour=Colour.RED, test="tests/x/test_a.py::test_a[a|b]", why="AssertionError: no")
    rows = [
        Row(mutation=BROKEN, verdicts=(Verdict(suite="one", colour=Colour.GREEN), red)),
        Row(mutation=Mutation(name="unseen", says=""), verdicts=(Verdict(suite="one", colour=Colour.GREEN),)),
    ]
    assert table(rows, ["one", "two"]).splitlines() == [
        "| mutation | one | two |",
        "| --- | --- | --- |",
        "| broken | green | red: test_a.py::test_a[a¦b] |",
        "| **unseen: nothing noticed** | green | - |",
        "",
        "- broken, two: AssertionError: no",
    ]


def test_calls_of_one_run_fill_one_table(tmp_path: Path) -> None:
    path = tmp_path / "mutations.json"
    assert keeping.load(path) == []
    control, plugin = (
        Row(mutation=mutation, verdicts=(Verdict(suite="one", colour=Colour.OTHER, test="a::b", why="c"),))
        for mutation in MUTATIONS[:2]
    )
    for new in (plugin, control):
        keeping.save(path, keeping.joined(keeping.load(path), new))
    assert keeping.load(path) == [control, plugin]
    again = Row(mutation=MUTATIONS[1], verdicts=tuple(Verdict(suite=it, colour=Colour.RED) for it in ("two", "one")))
    keeping.save(path, keeping.joined(keeping.load(path), again))
    (_, changed) = keeping.load(path)
    assert {it.suite: it.colour for it in changed.verdicts} == {"one": Colour.RED, "two": Colour.RED}


def test_the_list_is_sound() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names)
    suites = {*suites_of(EMBEDDED), *suites_of(LEGACY)}
    for mutation in MUTATIONS:
        before = (mutation.source, mutation.launch, mutation.nodes, mutation.registry)
        parts = (*before, mutation.environment, mutation.plugin, mutation.log)
        assert any(parts) == (mutation.name != CONTROL), f"{mutation.name} changes nothing"
        # What is satisfied with any words is satisfied with a suite that is red for any reason.
        assert mutation.name == CONTROL or not re.search(mutation.says, ""), mutation.name
        assert mutation.suites <= suites
        for suite in mutation.suites if mutation.file else ():
            narrowed = _narrowed(suites_of(EMBEDDED)[suite], mutation.file)
            assert f"{SUITES[suite].words()[-1]}/{mutation.file}" in narrowed


def test_code_that_is_changed_is_there_and_is_for_the_unit_tests_alone() -> None:
    changing = [mutation for mutation in MUTATIONS if mutation.source]
    assert changing
    for mutation in changing:
        assert mutation.source
        text = Path(mutation.source.path).read_text(encoding="utf-8")
        assert replaced(text, mutation.source) != text
        assert [suite for suite in suites_of(EMBEDDED) if mutation.concerns(suite)] == [UNIT_TESTS]
        assert not any((mutation.launch, mutation.nodes, mutation.registry, mutation.environment))
        with pytest.raises(LaunchError, match="occurs 2 times there"):
            replaced(text * 2, mutation.source)


def test_what_is_broken_in_a_cell_is_for_its_suites_alone() -> None:
    for mutation in MUTATIONS:
        if mutation.name != CONTROL and not mutation.source:
            assert not mutation.concerns(UNIT_TESTS)


def test_each_cell_has_the_control_and_mutations_that_its_suites_are_for() -> None:
    for cell in (EMBEDDED, LEGACY):
        fitting = select(cell, [])
        assert fitting[0].name == CONTROL
        assert all(any(mutation.concerns(suite) for suite in suites_of(cell)) for mutation in fitting)
    assert len(select(EMBEDDED, [])) > len(select(LEGACY, [])) > 1


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SelectionError, match=f"no mutation of {EMBEDDED.id} is called munge lost"):
        select(EMBEDDED, ["munge dead", "munge lost"])
    assert [mutation.name for mutation in select(EMBEDDED, ["munge dead"])] == ["munge dead"]


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(SelectionError, match="is called legacy_integration"):
        select_suites(EMBEDDED, ["registry", "legacy_integration"])
    assert list(select_suites(EMBEDDED, ["registry"])) == ["registry"]


def test_every_suite_has_its_files() -> None:
    for cell in (EMBEDDED, LEGACY):
        for words in suites_of(cell).values():
            assert [word for word in words if word.startswith("tests/") and not Path(word).exists()] == []
