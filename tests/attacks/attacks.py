"""Ways to make a result say more than was seen; each has an honest answer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
import json
from pathlib import Path
import subprocess
import sys

from msgspec.structs import replace

from ci.engine.connection import connect
from ci.engine.labels import LABEL_RUN
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import Result
from tests.attacks.ground import Ground, believed, last_line
from tests.support import results

_CELL = results.cell("22.05", "debian12", "3.4.1", "0.19.0")
_PASSED = results.result(_CELL, seconds=10)
_BAD = TestOutcome(name="tests/integration/test_it.py::test_it", outcome=TestState.FAILED, message="assert 1 == 2")
_FAILED = results.result(_CELL, outcome=Outcome.FAILED, tests=[_BAD], seconds=10)
_NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/engine.sock"}
_PASSES = "embedded: 1 passed"
_TWO_TESTS = "def test_a():\n    pass\n\n\ndef test_b():\n    assert False\n"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of an attack."""

    held: bool
    """Whether the answer was honest."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One way to make a result lie."""

    name: str
    tries: str
    honest: str
    act: Callable[[Ground], Seen]
    cell: bool
    """Whether it starts a cell."""


ATTACKS: list[Attack] = []


def attack(
    name: str, tries: str, honest: str, *, cell: bool = False
) -> Callable[[Callable[[Ground], Seen]], Callable[[Ground], Seen]]:
    """Add a function to the list: what it tries, and what the honest answer is."""

    def added(act: Callable[[Ground], Seen]) -> Callable[[Ground], Seen]:
        ATTACKS.append(Attack(name=name, tries=tries, honest=honest, act=act, cell=cell))
        return act

    return added


# -- what pytest says -------------------------------------------------------------------------------------------------


@attack("tests that never run", "`--setup-plan`, which reports each test as passed", "not passed")
def _never_ran(ground: Ground) -> Seen:
    outcome = ground.pytest("def test_a():\n    assert False\n", "--setup-plan")
    return Seen(held=outcome is not Outcome.PASSED, text=outcome)


@attack("a log that goes on", "reports of a passed test behind the end of pytest's log", "not passed")
def _log_goes_on(ground: Ground) -> Seen:
    report = {"$report_type": "TestReport", "nodeid": "test_attack.py::test_x", "duration": 0.1, "outcome": "passed"}
    more = "".join(f"{json.dumps({**report, 'when': when})}\n" for when in ("setup", "call", "teardown"))
    outcome = ground.pytest("import pytest\n\n\ndef test_a():\n    pytest.skip('x')\n", after=more)
    return Seen(held=outcome is not Outcome.PASSED, text=outcome)


@attack("stopped in between", "a plugin ends pytest after one of three tests, with status 0", "not passed")
def _stopped_in_between(ground: Ground) -> Seen:
    text = f"def test_first(request):\n    request.session.shouldstop = 'enough'\n\n\n{_TWO_TESTS}"
    plugin = "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n"
    (ground.folder / "conftest.py").write_text(plugin, encoding="utf-8")
    outcome = ground.pytest(text)
    return Seen(held=outcome is not Outcome.PASSED, text=outcome)


# -- results that were made up ----------------------------------------------------------------------------------------


@attack("passed and failed", "results that are passed with a failed test, or with no test", "an error that names them")
def _passed_and_failed(ground: Ground) -> Seen:
    return _each(ground, replace(_PASSED, tests=(_BAD,)), replace(_PASSED, tests=()))


@attack(
    "another cell",
    "results whose runtime or versions are not those of the cell's id",
    "an error that names them",
)
def _another_cell(ground: Ground) -> Seen:
    other = replace(_PASSED, versions={**_PASSED.versions, "pyxis": "0.24.0"})
    return _each(ground, other, replace(_PASSED, cell=replace(_CELL, runtime="embedded")))


def _each(ground: Ground, *made: Result) -> Seen:
    for number, result in enumerate(made):
        done = ground.report(ground.made(result, below=str(number)))
        if believed(done):
            return Seen(held=False, text=f"{number + 1} of {len(made)}: {last_line(done)}")
    return Seen(held=True, text=last_line(done))


@attack("another folder", "the result of one cell in the folder of another", "an error that names it")
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
)
def _order_of_arguments(ground: Ground) -> Seen:
    places = [ground.made(it, below=it.outcome) for it in (_PASSED, _FAILED)]
    said = [ground.report(*order) for order in (places, places[::-1])]
    return Seen(held=not any(map(believed, said)), text=" and ".join(map(last_line, said)))


@attack("from the future", "a result that passed, dated 2031, and a failure of today", "the failure is not hidden")
def _from_the_future(ground: Ground) -> Seen:
    future = replace(_PASSED, started=_PASSED.started + timedelta(days=5 * 365), run="20311120-023000-bbbb")
    done = ground.report(ground.made(future, _FAILED))
    return Seen(held=not believed(done), text=last_line(done))


@attack("the name of a part", "failed suites called `logs` and `bisect`", "they are in the report")
def _name_of_a_part(ground: Ground) -> Seen:
    for name in ("logs", "bisect"):
        done = ground.report(ground.made(_PASSED, replace(_FAILED, suite=name), below=name))
        if "1 failed" not in done.output:
            return Seen(held=False, text=f"{name}: {last_line(done)}")
    return Seen(held=True, text=last_line(done))


@attack("tries that are not told", "a test that passed at its third try, in the report's table", "the tries are named")
def _tries(ground: Ground) -> Seen:
    third = TestOutcome(name=_BAD.name, outcome=TestState.PASSED, reruns=2, message="assert 1 == 2")
    done = ground.report(ground.made(replace(_PASSED, tests=(third,))))
    return Seen(held="2 reruns" in done.output, text=last_line(done))


# -- the program ------------------------------------------------------------------------------------------------------


@attack("a dead engine", "the run's id again where no engine answers", "the earlier result no longer counts")
def _dead_engine(ground: Ground) -> Seen:
    of = replace(results.cell("22.05", "debian12", kind="embedded"), id=ground.cell)
    ground.made(results.result(of, run=ground.run))
    options = ("--run", ground.run, "--results", str(ground.results), "--suite", "pyxis_basic")
    ended = ground.program("matrix", ground.cell, *options, variables=_NO_ENGINE)
    said = (ended, ground.report())
    held = ended.exit_code != 0 and not any(_PASSES in it.output for it in said)
    return Seen(held=held, text=" and ".join(map(last_line, said)))


@attack(
    "a password on the command line",
    "as the value of an option, then a look into all that was written",
    "it is in no file",
)
def _password(ground: Ground) -> Seen:
    secret = "an-attackers-password"  # noqa: S105 - it is looked for
    ended = ground.session("--as", "mine", "--password", secret, behind=("true",), variables=_NO_ENGINE)
    written = [path.name for path in ground.results.rglob("*") if path.is_file() and secret in _text(path)]
    text = f"written into {', '.join(written)}" if written else last_line(ended)
    return Seen(held=not written, text=text)


@attack(
    "another release",
    "a mirror with other files and SHA256SUMS of its own, with `--strict`",
    "refused, and pins.toml named",
)
def _another_release(ground: Ground) -> Seen:
    mirror = ground.folder / "mirror"
    names = [
        *(f"NVIDIA/enroot/releases/download/v3.4.1/{it}_3.4.1-1_amd64.deb" for it in ("enroot", "enroot+caps")),
        "NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz",
    ]
    for name in names:
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_text("another release\n", encoding="utf-8")
    sums = subprocess.run(["sha256sum", *names], cwd=mirror, stdout=subprocess.PIPE, text=True, check=True).stdout
    (mirror / "SHA256SUMS").write_text(sums, encoding="utf-8")
    done = ground.program("images", _CELL.id, "--mirror", str(mirror), "--strict")
    return Seen(held=done.exit_code != 0 and "pins.toml" in done.output, text=last_line(done))


@attack("no suite", "`run CELL --as pyxis_conformance -- true`", "refused, or not counted", cell=True)
def _is_no_suite(ground: Ground) -> Seen:
    ended = ground.session("--as", "pyxis_conformance", behind=("true",))
    done = ground.report()
    return Seen(held=not believed(ended) and not believed(done), text=last_line(ended))


@attack(
    "a folder of a suite's name",
    "a suite of one's own called `pyxis_conformance`",
    "refused, or counted as another",
    cell=True,
)
def _folder_of_a_suites_name(ground: Ground) -> Seen:
    own = ground.folder / "pyxis_conformance"
    own.mkdir()
    (own / "test_mine.py").write_text("def test_a():\n    pass\n", encoding="utf-8")
    words = ("--suite", str(own), "--as", own.name, "--pytest")
    ended = ground.session(*words, behind=(sys.executable, "-m", "pytest", str(own)))
    done = ground.report()
    return Seen(held=not (believed(done) and "pyxis_conformance" in done.output), text=last_line(ended))


@attack(
    "a suite that is only planned",
    "`--setup-plan` on a suite of the project, also by `PYTEST_ADDOPTS`",
    "refused, or not passed",
    cell=True,
)
def _planned_only(ground: Ground) -> Seen:
    ended = ground.suite("--setup-plan", name="pyxis_conformance")
    variable = ground.suite(name="pyxis_conformance", variables={"PYTEST_ADDOPTS": "--setup-plan"})
    return Seen(held=not (believed(ended) or believed(variable)), text=last_line(ended))


@attack(
    "a part of the suite",
    "a failing suite, then `-k` with its passing test",
    "the failure counts, and a part of a suite does not",
    cell=True,
)
def _filtered(ground: Ground) -> Seen:
    own = ground.folder / "mine"
    own.mkdir()
    (own / "test_mine.py").write_text(_TWO_TESTS, encoding="utf-8")
    words = ("--suite", str(own), "--as", "mine", "--pytest")
    command = (sys.executable, "-m", "pytest", str(own / "test_mine.py"))
    whole = ground.session(*words, "--run", f"{ground.run}-a", behind=command)
    part = ground.session(*words, "--run", f"{ground.run}-b", behind=(*command, "-k", "test_a"))
    done = ground.report()
    held = "1 failed, 1 passed" in whole.output and not believed(done)
    return Seen(held=held, text=f"{last_line(part)}; report: {last_line(done)}")


@attack(
    "killed", "a run that passed again under its id, ended by kill -9", "the earlier result no longer counts", cell=True
)
def _killed(ground: Ground) -> Seen:
    first = ground.session("--as", "mine", behind=("true",))
    began = ground.folder / "began"
    ground.killed("--as", "mine", behind=("sh", "-c", f"touch {began}; sleep 600"), once=began)
    done = ground.report()
    return Seen(held=first.exit_code == 0 and began.exists() and not believed(done), text=last_line(done))


@attack(
    "the same run from elsewhere",
    "a session with the id of a cluster that is up, from another home and cache",
    "refused, and the cluster is left alone",
    cell=True,
)
def _same_run_from_elsewhere(ground: Ground) -> Seen:
    kept = ground.program("up", ground.cell, "--run", ground.run, "--results", str(ground.results))
    before = _containers(ground)
    other = {"HOME": str(ground.folder), "PYXIS_MATRIX_CACHE": str(ground.folder / "cache")}
    ended = ground.session("--as", "mine", behind=("true",), variables=other)
    after = _containers(ground)
    ground.program("down", ground.run)
    held = kept.exit_code == 0 and bool(before) and before == after and ended.exit_code != 0
    return Seen(held=held, text=f"{len(after)} of {len(before)} containers are left; {last_line(ended)}")


def _containers(ground: Ground) -> set[str]:
    found = connect().api.containers.list(filters={"label": f"{LABEL_RUN}={ground.run}"})
    return {str(it.id) for it in found}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
