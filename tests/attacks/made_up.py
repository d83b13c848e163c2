"""Attacks that start no cell: logs and results that are made up, an engine that is not there, another release."""

from contextlib import suppress
from datetime import timedelta
import gzip
import hashlib
import json
import os
from pathlib import Path
import shlex
import subprocess
from typing import Any, cast

from msgspec.structs import replace

from ci import environment_file
from ci.engine.build_client import find_build_client
from ci.environment import ssh
from ci.errors import UntestedError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import catalogue
from ci.matrix.model import VERSION_AXES
from ci.record import reportlog
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.store import Result
from ci.session.record import Record
from tests.attacks.attack import Attacks, Seen
from tests.attacks.ground import TWO_TESTS, Ground, believed, last_line
from tests.support import results
from tests.support.login_node import LoginNode
from tests.support.ssh_server import serving
from tests.support.tag_archives import tag_tar

attack = Attacks(cell=False)
_CELL = results.cell("22.05", "debian12", "3.4.1", "0.19.0")
_PASSED = results.result(_CELL, seconds=10)
_BAD = TestOutcome(name="tests/integration/test_it.py::test_it", outcome=TestState.FAILED, message="assert 1 == 2")
_FAILED = results.result(_CELL, outcome=Outcome.FAILED, tests=[_BAD], seconds=10)
_NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/engine.sock"}
_PASSES = "embedded: 1 passed"


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


# -- the program ------------------------------------------------------------------------------------------------------


@attack(
    "a dead engine",
    "the run's id again where no engine answers",
    "the earlier result no longer counts",
    says=r"next: start that engine",
)
def _dead_engine(ground: Ground) -> Seen:
    of = replace(results.cell("22.05", "debian12", kind="embedded"), id=ground.cell)
    ground.made(results.result(of, run=ground.run))
    options = ("--run", ground.run, "--results", str(ground.results), "--suite", "pyxis_basic")
    ended = ground.program("matrix", ground.cell, *options, variables=_NO_ENGINE)
    said = (ended, ground.report())
    held = ended.exit_code != 0 and not any(_PASSES in it.output for it in said)
    return Seen(held=held, text=" and ".join(map(last_line, said)))


@attack(
    "refused early",
    "the run's id again, of a cell that needs another machine",
    "the earlier result no longer counts",
    says=r"needs \w+ hardware, and this is",
)
def _refused_early(ground: Ground) -> Seen:
    other = next(it for it in Arch if it is not Arch.host())
    of = results.cell("22.05", "debian12", kind="embedded", arch=other.value)
    ground.made(results.result(of, run=ground.run))
    ended = ground.program("suite", "pyxis_basic", of.id, "--run", ground.run, "--results", str(ground.results))
    said = ground.report()
    held = ended.exit_code != 0 and _PASSES not in said.output
    return Seen(held=held, text=f"{last_line(ended)}; {last_line(said)}")


@attack(
    "the same run on a site",
    "a session on a cluster that exists, with the id of a run that another machine has there",
    "refused, and what that run has there is left alone",
    says=r"is already in progress on the cluster",
)
def _same_run_on_a_site(ground: Ground) -> Seen:
    there, here = LoginNode(ground.folder / "there"), ground.folder / "here"
    theirs = there.home / "pyxis-matrix" / ground.run / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    (there.home / "jobs").write_text(f"1|pyxis-matrix-{ground.run}|(null)|/\n", encoding="utf-8")
    keys = {name: ssh.new_key(name) for name in ("host", "user")}
    with serving(keys, there.answer) as port:
        ssh.write_home(here, user_key=keys["user"], host_key=keys["host"], port=port)
        words = ("--run", ground.run, "--results", str(ground.results), "--suite", "pyxis_conformance")
        variables = {"HOME": str(here), "PYXIS_MATRIX_CACHE": str(here / "cache"), "SSH_AUTH_SOCK": ""}
        ended = ground.program("site", f"ann@127.0.0.1:{port}", *words, variables=variables)
    left = theirs.exists() and not (there.home / "cancelled").exists()
    return Seen(held=ended.exit_code != 0 and left, text=f"{'left alone' if left else 'removed'}; {last_line(ended)}")


@attack(
    "a password on the command line",
    "as the value of an option, then a look into all that was written",
    "it is in no file",
    says=r"visible to every user",
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
    says=r"differs from pins\.toml, and --strict refuses it",
)
def _another_release(ground: Ground) -> Seen:
    mirror, _ = _mirror(ground.folder, b"another release\n")
    done = ground.program("images", _CELL.id, "--mirror", str(mirror), "--results", str(ground.results), "--strict")
    return Seen(held=done.exit_code != 0, text=last_line(done))


@attack(
    "a release that is swapped",
    "another file in the mirror as soon as the first was read, then a look at what the build is given",
    "the build is given what was checked",
    says=r"the build was given what was checked",
)
def _swapped(ground: Ground) -> Seen:
    mirror, package = _mirror(ground.folder, b"a release\n" * 10_000_000)
    checked = hashlib.sha256(package.read_bytes()).hexdigest()
    given, client = ground.folder / "given", ground.folder / "bin" / "docker"
    client.parent.mkdir()
    # A client that builds nothing: it notes the checksums of what it would build from.
    notes = f'find "$folder" -type f -exec sha256sum {{}} + >> {shlex.quote(str(given))}; exit 1'
    client.write_text(
        f'#!/bin/bash\nfor folder; do :; done\nif [ -d "$folder" ]; then {notes}; fi\n'
        f'exec {find_build_client().path} "$@"\n',
        encoding="utf-8",
    )
    client.chmod(0o755)
    variables = {"PATH": f"{client.parent}{os.pathsep}{os.environ['PATH']}", "PYXIS_MATRIX_CACHE": str(ground.folder)}
    words = ("images", _CELL.id, "--mirror", str(mirror), "--results", str(ground.results))
    with ground.started(*words, variables=variables) as process:
        read = ground.until(process, lambda: _opened(process, package))
        read = read and ground.until(process, lambda: not _opened(process, package))
        another = mirror / "another"
        another.write_bytes(b"another\n")
        another.replace(package)
    sums = given.read_text(encoding="utf-8") if given.exists() else ""
    if not read or package.name not in sums:
        return Seen(held=False, text=f"the attack itself failed: nothing was built of {package.name}")
    honest = checked in sums
    return Seen(held=honest, text=f"the build was given {'what was checked' if honest else 'another file'}")


def _mirror(folder: Path, package: bytes) -> tuple[Path, Path]:
    """Make a mirror of made-up files of `_CELL`, which its SHA256SUMS vouches for; return it, and enroot's package."""
    mirror = folder / "mirror"
    names = [
        *(f"NVIDIA/enroot/releases/download/v3.4.1/{it}_3.4.1-1_amd64.deb" for it in ("enroot", "enroot+caps")),
        "NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz",
    ]
    for name, content in zip(names, (package, package, gzip.compress(tag_tar())), strict=True):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(content)
    sums = subprocess.run(["sha256sum", *names], cwd=mirror, stdout=subprocess.PIPE, text=True, check=True).stdout
    (mirror / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return mirror, mirror / names[0]


def _opened(process: "subprocess.Popen[str]", file: Path) -> bool:
    """Whether a process has a file open."""
    for descriptor in Path(f"/proc/{process.pid}/fd").glob("*"):
        with suppress(OSError):
            if descriptor.readlink() == file:
                return True
    return False


@attack(
    "a fault's words alone",
    "tests that fail with the words of a known failure, but for another reason: nothing of the kind works",
    "failed, and no known failure",
    says=r"this is not the known failure of ",
)
def _words_alone(ground: Ground) -> Seen:
    cell = loading.load().cell(_CELL.id)
    name, words = next((it.id, words) for it in catalogue().values() if (words := it.answer_on(cell).fails))
    login = environment_file.Login(
        host="n1", port=22, user="alice", password="", private_key="/", known_hosts="/", home="/"
    )
    file = environment_file.EnvironmentFile(
        run=ground.run,
        cell=cell.id,
        suite="registry",
        runtime=cell.runtime,
        arch=cell.arch,
        slurm=cell.slurm.version,
        nodes=("n1",),
        containers=("n1",),
        login=login,
        second_user="tester2",
        engine_client="docker",
        results=str(ground.results),
    )
    environment = ground.folder / "environment.json"
    environment_file.save(environment, file)
    outcome = ground.pytest(
        f"import pytest\n\n@pytest.mark.behaviour({name!r})\ndef test_it():\n    raise OSError({words!r})\n",
        *("-p", "tests.support.known_failures"),
        variables={environment_file.VARIABLE: str(environment)},
    )
    return Seen(held=outcome is Outcome.FAILED, text=outcome)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
