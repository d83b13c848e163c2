"""Attacks that start no cell: logs and results that are made up."""

from datetime import timedelta
import json
import shlex
from typing import Any, cast

from msgspec.structs import replace

from ci.errors import UntestedError
from ci.matrix.model import VERSION_AXES
from ci.record import reportlog
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.store import Result
from ci.session.record import Record
from tests.attacks.attack import Attacks, Seen
from tests.attacks.ground import TWO_TESTS, Ground, believed, last_line
from tests.support import results

attack = Attacks(cell=False)
_CELL = results.cell("22.05", "debian12", "3.4.1", "0.19.0")
_PASSED = results.result(_CELL, seconds=10)
_BAD = TestOutcome(name="tests/integration/test_it.py::test_it", outcome=TestState.FAILED, message="assert 1 == 2")
_FAILED = results.result(_CELL, outcome=Outcome.FAILED, tests=[_BAD], seconds=10)


# -- what pytest says -------------------------------------------------------------------------------------------------


@attack("tests that never run", "`--setup-plan`, which reports each test as passed", "not passed", says=r"^error$")
def _never_ran(ground: Ground) -> Seen:
    outcome = ground.pytest("def test_a():\n    assert False\n", "--setup-plan")
    return Seen(held=outcome is not Outcome.PASSED, text=outcome)


@attack("a log that goes on", "reports of a passed test behind the end of pytest's log", "not passed", says=r"^error$")
def _log_goes_on(ground: Ground) -> Seen:
    report = {"$report_type": "TestReport", "nodeid": "test_attack.py::test_x", "duration": 0.1, "outcome": "passed"}
    more = "".join(f"{json.dumps({**report, 'when': when})}\n" for when in ("setup", "call", "teardown"))
    outcome = ground.pytest("import pytest\n\n\ndef test_a():\n    pytest.skip('x')\n", after=more)
    return Seen(held=outcome is not Outcome.PASSED, text=outcome)


@attack(
    "stopped in between", "a plugin ends pytest after one of three tests, with status 0", "not passed", says=r"^error$"
)
def _stopped_in_between(ground: Ground) -> Seen:
    text = f"def test_first(request):\n    request.session.shouldstop = 'enough'\n\n\n{TWO_TESTS}"
    plugin = "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n"
    (ground.folder / "conftest.py").write_text(plugin, encoding="utf-8")
    outcome = ground.pytest(text)
    return Seen(held=outcome is not Outcome.PASSED, text=outcome)


@attack(
    "a part by other words",
    "one of two tests, chosen by options in one word, a file of words, settings, or the environment",
    "a part of the suite, and what asked for it",
    says=r"^partly run: ",
)
def _by_other_words(ground: Ground) -> Seen:
    (ground.folder / "words").write_text("-k\nnot test_b\n", encoding="utf-8")
    (ground.folder / "other.ini").write_text("[pytest]\npython_functions = test_a\n", encoding="utf-8")
    named: list[str] = []
    for words, variable in (
        ("-xsp no:doctest -k 'not test_b'", ""),
        ("@words", ""),
        ("-o python_functions=test_a", ""),
        ("-c other.ini", ""),
        ("", "-xW ignore --deselect test_attack.py::test_b"),
    ):
        behind = shlex.split(words)
        outcome = ground.pytest(TWO_TESTS, *behind, variables={"PYTEST_ADDOPTS": variable})
        # Nothing but the command is asked of the record.
        record = Record(plan=cast("Any", None), command=("pytest", *behind))
        selection = record.selection(reportlog.read(ground.log))
        if outcome is not Outcome.PASSED:
            return Seen(held=False, text=f"the attack itself failed: {words or variable}: {outcome}")
        if not (selection and selection.by):
            return Seen(held=False, text=f"{words or variable}: {outcome}, the whole suite")
        named += selection.by
    return Seen(held=True, text=f"partly run: {', '.join(dict.fromkeys(named))}")


# -- results that were made up ----------------------------------------------------------------------------------------


@attack(
    "passed and failed",
    "results that are passed with a failed test, or with no test",
    "an error that names them",
    says=r"it says passed",
)
def _passed_and_failed(ground: Ground) -> Seen:
    return _each(ground, replace(_PASSED, tests=(_BAD,)), replace(_PASSED, tests=()))


@attack(
    "another cell",
    "results whose runtime or versions are not those of the cell's id",
    "an error that names them",
    says=r"the id says",
)
def _another_cell(ground: Ground) -> Seen:
    other = replace(_PASSED, versions={**_PASSED.versions, "pyxis": "0.24.0"})
    return _each(ground, other, replace(_PASSED, cell=replace(_CELL, runtime="embedded")))


@attack(
    "versions nobody saw",
    "results that passed without the versions of their cell, or without all of their tests",
    "an error that names them",
    says=r"pyxis is unknown, not 0\.19\.0",
)
def _nobody_saw(ground: Ground) -> Seen:
    not_asked = replace(_BAD, outcome=TestState.NOT_ASKED, message="needs a registry")
    return _each(
        ground,
        replace(_PASSED, versions={}),
        replace(_PASSED, versions={"slurm": "22.05.8"}),
        replace(_PASSED, selection=None),
        replace(_PASSED, selection=Selection(collected=10)),
        replace(_PASSED, selection=Selection(collected=10, deselected=9, by=("-k a",))),
        replace(_PASSED, tests=(*_PASSED.tests, not_asked), selection=Selection(collected=2)),
    )


def _each(ground: Ground, *made: Result) -> Seen:
    for number, result in enumerate(made):
        done = ground.report(ground.made(result, below=str(number)))
        if believed(done):
            return Seen(held=False, text=f"{number + 1} of {len(made)}: {last_line(done)}")
    return Seen(held=True, text=last_line(done))


@attack(
    "another folder",
    "the result of one cell in the folder of another",
    "an error that names it",
    says=r"its folder is that of",
)
def _another_folder(ground: Ground) -> Seen:
    (place,) = results.write(ground.results, _PASSED)
    elsewhere = place.parents[1] / results.cell("24.11", "debian13", "4.1.2", "0.24.0").id
    place.parent.rename(elsewhere)
    done = ground.report()
    return Seen(held=not believed(done), text=last_line(done))


@attack(
    "the order of arguments",
    "two results of one second that disagree, in both orders",
    "both are named, whatever the order",
    says=r"machines disagree",
)
def _order_of_arguments(ground: Ground) -> Seen:
    places = [ground.made(it, below=it.outcome) for it in (_PASSED, _FAILED)]
    said = [ground.report(*order) for order in (places, places[::-1])]
    return Seen(held=not any(map(believed, said)), text=" and ".join(map(last_line, said)))


@attack(
    "from the future",
    "a result that passed, dated 2031, and a failure of today",
    "the failure is not hidden",
    says=r"it is dated 2031",
)
def _from_the_future(ground: Ground) -> Seen:
    future = replace(_PASSED, started=_PASSED.started + timedelta(days=5 * 365), run="20311120-023000-bbbb")
    done = ground.report(ground.made(future, _FAILED))
    return Seen(held=not believed(done), text=last_line(done))


@attack(
    "less hides red",
    "a red result, then runs that skip what was red: with one node, without a registry, with no release",
    "the red one counts, and says so",
    says=r"this result stands: run .* is newer",
)
def _less_hides_red(ground: Ground) -> Seen:
    later = {"run": "20261121-023000-bbbb", "started": _PASSED.started + timedelta(days=1)}
    skipped = [
        replace(_BAD, outcome=state, message=why)
        for state, why in ((TestState.SKIPPED, "needs two nodes"), (TestState.NOT_ASKED, "needs a registry"))
    ]
    for number, tests in enumerate([(*_PASSED.tests, it) for it in skipped] + [()]):
        outcome = Outcome.PARTLY if skipped[1] in tests else Outcome.PASSED if tests else Outcome.SKIPPED
        less = replace(_PASSED, outcome=outcome, exit_code=0 if tests else 3, tests=tests, **later)
        done = ground.report(ground.made(_FAILED, less, below=str(number)))
        if "real cells: 1 failed" not in done.output:
            return Seen(held=False, text=f"{number + 1} of 3: {last_line(done)}")
    return Seen(held=True, text=last_line(done))


@attack(
    "by way of a report",
    "a failure that only a report tells: a newer run skips what was red, or the report is edited to say passed",
    "the failure counts; an error that names what was edited",
    says=r"it says passed",
)
def _by_way_of_a_report(ground: Ground) -> Seen:
    told = ground.folder / "told"
    ground.program("report", str(ground.made(_FAILED, below="old")), "--output", str(told))
    skipped = replace(_BAD, outcome=TestState.SKIPPED, message="needs two nodes")
    later = {"run": "20261121-023000-bbbb", "started": _PASSED.started + timedelta(days=1)}
    less = replace(_PASSED, tests=(results.passed("test_it.py::test_other"), skipped), **later)
    done = ground.report(told, ground.made(replace(less, selection=Selection(collected=2)), below="new"))
    if "real cells: 1 failed" not in done.output:
        return Seen(held=False, text=f"a newer run: {last_line(done)}")
    data = json.loads((told / "compat.json").read_text(encoding="utf-8"))
    data["cells"][0]["suites"][0] |= {"outcome": "passed", "state": "passed"}
    (told / "compat.json").write_text(json.dumps(data), encoding="utf-8")
    done = ground.report(told)
    return Seen(held=not believed(done), text=last_line(done))


@attack("the name of a part", "failed suites called `logs` and `bisect`", "they are in the report", says=r"1 failed")
def _name_of_a_part(ground: Ground) -> Seen:
    for name in ("logs", "bisect"):
        done = ground.report(ground.made(_PASSED, replace(_FAILED, suite=name), below=name))
        if "1 failed" not in done.output:
            return Seen(held=False, text=f"{name}: {last_line(done)}")
    return Seen(held=True, text=last_line(done))


@attack(
    "tries that are not told",
    "a test that passed at its third try, in the report's table",
    "the tries are named",
    says=r"2 reruns",
)
def _tries(ground: Ground) -> Seen:
    third = TestOutcome(name=_BAD.name, outcome=TestState.PASSED, reruns=2, message="assert 1 == 2")
    done = ground.report(ground.made(replace(_PASSED, tests=(third,))))
    return Seen(held="2 reruns" in done.output, text=last_line(done))


@attack(
    "a site's answer for a cell",
    "a result of a cluster that exists, asked for as the combination of its versions",
    "not tested",
    says=r": not tested$",
)
def _answer_of_a_site(ground: Ground) -> Seen:
    site = replace(_CELL, id=f"{_CELL.id}@mysite", site="mysite")
    return _asked(ground, replace(_PASSED, cell=site, suite="pyxis_conformance"))


@attack(
    "a cell without container jobs",
    "a suite that starts no container, passed alone, asked for as a combination that works",
    "not tested",
    says=r": not tested$",
)
def _no_container_jobs(ground: Ground) -> Seen:
    return _asked(ground, replace(_PASSED, suite="slurm_facts"))


def _asked(ground: Ground, *made: Result) -> Seen:
    """Ask for the versions of `_CELL`; a yes is no honest answer."""
    versions = [word for axis in VERSION_AXES for word in (f"--{axis}", _CELL.axes[axis] or "")]
    done = ground.program("ask", *versions, "--data", str(ground.made(*made)))
    return Seen(held=done.exit_code == UntestedError.exit_code, text=done.output.partition("\n")[0])
