"""A known failure excuses that one failure: in the test itself, with the words that the entry names."""

import pytest

from ci.matrix import loading
from ci.matrix.model import KnownFailure, Selector
from ci.results.reportlog import KNOWN_PROPERTY
from tests.support import known_failures as plugin

SUITE = """
import pytest

@pytest.fixture
def broken():
    raise OSError("404 Not Found")

def test_as_known():
    print("curl: 404 Not Found")
    assert False

def test_as_known_in_the_message():
    raise OSError("404 Not Found")

def test_otherwise():
    raise OSError("the node is gone")

def test_in_a_fixture(broken):
    pass

def test_not_at_all():
    pass

def test_elsewhere_and_passing():
    print("URL returned 404 Not Found, asking for another format")

def test_elsewhere_and_silent():
    print("all is well")

def test_elsewhere_and_failing():
    raise OSError("404 Not Found")
"""


class Marking:
    """Marks tests as known failures, here or elsewhere, as the plugin does with those of matrix.toml."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark them."""
        failure = KnownFailure(
            tests=("*",), selector=Selector(), reason="OCI", says="404 Not Found", where="known-failure[0]"
        )
        for item in items:
            item.stash[plugin.ABOUT] = (failure,)
            if "elsewhere" in item.name:
                continue
            item.add_marker(pytest.mark.xfail(reason=failure.reason, strict=True))
            item.stash[plugin.KNOWN] = failure

    pytest_runtest_makereport = staticmethod(plugin.pytest_runtest_makereport)


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


@pytest.mark.parametrize("failure", loading.load().failures, ids=lambda failure: failure.where)
def test_no_entry_takes_progress_for_a_fault(failure: KnownFailure) -> None:
    assert [line for line in PROGRESS if failure.says in line] == []


def test_only_the_known_failure_is_excused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    done = pytester.inline_run("-p", "no:cacheprovider", plugins=[Marking()])
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
        "test_not_at_all": ("call", "failed", False),
        # Elsewhere means: on a cell of which the entry does not speak.
        "test_elsewhere_and_passing": ("call", "failed", False),
        "test_elsewhere_and_silent": ("call", "passed", False),
        "test_elsewhere_and_failing": ("call", "failed", False),
    }
    (why,) = [
        str(report.longrepr)
        for report in done.getreports("pytest_runtest_logreport")
        if report.nodeid.endswith("passing") and report.outcome == "failed"
    ]
    assert "these words are no sign of it" in why


def test_a_known_failure_says_so_in_its_report_so_that_no_other_xfail_is_called_one(pytester: pytest.Pytester) -> None:
    theirs = "@pytest.mark.xfail(reason='theirs')\ndef test_elsewhere_and_expected(): assert False"
    pytester.makepyfile(f"{SUITE}\n{theirs}\n")
    reports = pytester.inline_run(plugins=[Marking()]).getreports("pytest_runtest_logreport")
    expected = {it.nodeid.rpartition("::")[2]: dict(it.user_properties) for it in reports if hasattr(it, "wasxfail")}
    assert expected == {
        "test_as_known": {KNOWN_PROPERTY: "known-failure[0]"},
        "test_as_known_in_the_message": {KNOWN_PROPERTY: "known-failure[0]"},
        "test_elsewhere_and_expected": {},
    }
