"""A known failure excuses that one failure: in the test itself, with the words that the entry names."""

import pytest

from ci.matrix.model import KnownFailure, Selector
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
"""


class Marking:
    """Marks every test as a known failure, as the plugin does with those of matrix.toml."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark them."""
        failure = KnownFailure(
            tests=("*",), selector=Selector(), reason="OCI", says="404 Not Found", where="known-failure[0]"
        )
        for item in items:
            item.add_marker(pytest.mark.xfail(reason=failure.reason, strict=True))
            item.stash[plugin.KNOWN] = failure

    pytest_runtest_makereport = staticmethod(plugin.pytest_runtest_makereport)


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
    }
