"""A known failure excuses that one failure: in the test itself, after its control, with the words of the entry."""

from dataclasses import replace
from types import SimpleNamespace

from packaging.version import Version
import pytest

from ci import environment_file
from ci.matrix import loading
from ci.matrix.model import KnownFailure, Selector
from ci.record.reportlog import KNOWN_PROPERTY
from tests.support import known_failures as plugin
from tests.support.rows import SAMPLE

SUITE = """
import pytest

@pytest.fixture
def broken():
    raise OSError("404 Not Found")

def test_as_known(control):
    with control("another format runs"):
        pass
    print("curl: 404 Not Found")
    assert False

def test_as_known_in_the_message(control):
    with control("another format runs"):
        pass
    raise OSError("404 Not Found")

def test_otherwise(control):
    with control("another format runs"):
        pass
    raise OSError("the node is gone")

def test_in_a_fixture(control, broken):
    pass

def test_without_a_control():
    raise OSError("404 Not Found")

def test_before_its_control(control):
    raise OSError("404 Not Found")

def test_in_its_control(control):
    with control("another format runs"):
        raise OSError("404 Not Found")

def test_in_its_second_control(control):
    with control("another format runs"):
        pass
    with control("another image runs"):
        raise OSError("404 Not Found")

def test_not_at_all(control):
    with control("another format runs"):
        pass

def test_elsewhere_and_passing():
    print("URL returned 404 Not Found, asking for another format")

def test_elsewhere_and_silent():
    print("all is well")

def test_elsewhere_and_failing():
    raise OSError("404 Not Found")
"""
CELL = loading.load(SAMPLE).cell("slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64")
HERE = KnownFailure(
    tests=tuple(f"test_{name}" for name in ("as_*", "otherwise", "in_*", "without_*", "before_*", "not_*")),
    selector=Selector(),
    reason="OCI",
    says="404 Not Found",
    where="known-failure[0]",
)
ELSEWHERE = replace(HERE, tests=("test_elsewhere*",), selector=Selector(enroot=frozenset({Version("3.4.1")})))
"""Of another cell than the one that the tests run on."""


@pytest.fixture
def marking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the plugin know these two failures, and nothing of matrix.toml."""
    monkeypatch.setenv(environment_file.VARIABLE, "environment.json")
    monkeypatch.setattr(environment_file, "current", lambda: None)
    monkeypatch.setattr(plugin, "cell_of", lambda *_: CELL)
    monkeypatch.setattr(loading, "load", lambda: SimpleNamespace(failures=(HERE, ELSEWHERE)))


PROGRESS = (
    "pyxis: importing docker image: localhost:5000#team/img:1",
    "pyxis: imported docker image: localhost:5000#team/img:1",
    "pyxis: creating container filesystem: pyxis_1.0",
    "pyxis: exported container pyxis_1.0 to /home/tester/saved.sqsh",
    "embedded: imported docker image: localhost:5000#team/img:1",
    "[INFO] Querying registry for permission grant",
    "[INFO] Authenticating with user: first",
    "[INFO] Using credentials from file: /home/tester/.credentials",
    "[INFO] Fetching image manifest list",
    "[INFO] Fetching image manifest",
    "[INFO] Downloading 2 missing layers...",
    "[INFO] Extracting image layers...",
    "[INFO] Converting whiteouts...",
    "[INFO] Creating squashfs filesystem...",
    # What any failure may come with.
    "pyxis: failed to import docker image",
    "cat: can't open '/kept': No such file or directory",
)


@pytest.mark.project_matrix
def test_no_entry_takes_progress_for_a_fault() -> None:
    failures = (*loading.load().failures, *plugin.known_answers())
    assert [(it.where, line) for it in failures for line in PROGRESS if it.says in line] == []


@pytest.mark.usefixtures("marking")
@pytest.mark.parametrize(
    "option",
    [(), ("-o", "xfail_strict=false"), ("-s",), ("--capture=no",), ("--capture=sys",), ("--capture=tee-sys",)],
    ids=["as usual", "pytest not strict", "-s", "capture nothing", "capture sys", "capture and show"],
)
def test_only_the_known_failure_is_excused(pytester: pytest.Pytester, option: tuple[str, ...]) -> None:
    """It is strict by itself, and hears what tests say, whatever pytest's configuration and options say."""
    pytester.makepyfile(SUITE)
    done = pytester.inline_run("-p", "no:cacheprovider", *option, plugins=[plugin])
    outcomes = {
        report.nodeid.partition("::")[2]: (report.when, report.outcome, hasattr(report, "wasxfail"))
        for report in done.getreports("pytest_runtest_logreport")
        if report.when == "call" or report.outcome != "passed"
    }
    assert outcomes == {
        "test_as_known": ("call", "skipped", True),
        "test_as_known_in_the_message": ("call", "skipped", True),
        "test_otherwise": ("call", "failed", False),
        "test_in_a_fixture": ("setup", "failed", False),
        "test_without_a_control": ("call", "failed", False),
        "test_before_its_control": ("call", "failed", False),
        "test_in_its_control": ("call", "failed", False),
        "test_in_its_second_control": ("call", "failed", False),
        "test_not_at_all": ("call", "failed", False),
        # Elsewhere means: on a cell of which the entry does not speak.
        "test_elsewhere_and_passing": ("call", "failed", False),
        "test_elsewhere_and_silent": ("call", "passed", False),
        "test_elsewhere_and_failing": ("call", "failed", False),
    }
    said = {
        report.nodeid.partition("::")[2]: str(report.longrepr)
        for report in done.getreports("pytest_runtest_logreport")
        if report.outcome == "failed"
    }
    assert "these words are no sign of it" in said["test_elsewhere_and_passing"]
    assert "[XPASS(strict)]" in said["test_not_at_all"]
    assert "after its control" in said["test_without_a_control"]
    assert "the control failed, so that nothing is known of the fault: another format" in said["test_in_its_control"]


@pytest.mark.usefixtures("marking")
def test_a_control_of_an_earlier_try_is_none_of_this_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        tries = []

        @pytest.mark.flaky(reruns=1, only_rerun=["once"])
        def test_in_two_tries(control):
            tries.append(1)
            if len(tries) == 1:
                with control("another format runs"):
                    pass
                raise OSError("once more")
            raise OSError("404 Not Found")
        """
    )
    done = pytester.inline_run("-p", "no:cacheprovider", plugins=[plugin])
    last = [it for it in done.getreports("pytest_runtest_logreport") if it.when == "call"][-1]
    assert (last.outcome, hasattr(last, "wasxfail")) == ("failed", False)


@pytest.mark.usefixtures("marking")
def test_what_is_shown_at_once_is_also_kept(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    pytester.makepyfile("import sys\ndef test_it():\n    print('shown')\n    print('too', file=sys.stderr)\n")
    (report,) = (
        it
        for it in pytester.inline_run("-s", plugins=[plugin]).getreports("pytest_runtest_logreport")
        if it.when == "call"
    )
    assert report.sections == [("Captured stdout call", "shown\n"), ("Captured stderr call", "too\n")]
    assert "shown\n" in capsys.readouterr().out


@pytest.mark.usefixtures("marking")
def test_a_known_failure_says_so_in_its_report_so_that_no_other_xfail_is_called_one(pytester: pytest.Pytester) -> None:
    theirs = "@pytest.mark.xfail(reason='theirs')\ndef test_elsewhere_and_expected(): assert False"
    pytester.makepyfile(f"{SUITE}\n{theirs}\n")
    reports = pytester.inline_run(plugins=[plugin]).getreports("pytest_runtest_logreport")
    expected = {it.nodeid.rpartition("::")[2]: dict(it.user_properties) for it in reports if hasattr(it, "wasxfail")}
    assert expected == {
        "test_as_known": {KNOWN_PROPERTY: "known-failure[0]"},
        "test_as_known_in_the_message": {KNOWN_PROPERTY: "known-failure[0]"},
        "test_elsewhere_and_expected": {},
    }
