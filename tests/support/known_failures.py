"""A pytest plugin: failures that matrix.toml knows are expected of its cells, strictly and by their words."""

from collections.abc import Generator
import os

import pytest

from ci import environment_file
from ci.matrix import loading
from ci.matrix.model import KnownFailure
from tests.support.enroot import LISTING_FAILED
from tests.support.expectations import holds

KNOWN = pytest.StashKey[KnownFailure]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the known failures of this cell: strictly, so that one which starts to pass turns the suite red.

    What enroot 3 does to a test in passing is no failure of the test: that one is run again.
    """
    if not os.environ.get(environment_file.VARIABLE):
        return
    rows = loading.load()
    cell = rows.cell(environment_file.current().cell)
    known = rows.known_failures(cell)
    if holds(cell, enroot="<4.0"):
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=4, only_rerun=[LISTING_FAILED]))
    for item in items:
        for failure in known:
            if failure.matches(cell, item.nodeid):
                reason = f"{failure.reason} ({failure.issue})" if failure.issue else failure.reason
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
                item.stash[KNOWN] = failure


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last to see what pytest makes of a known failure
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a known failure red that is another failure: in a fixture, or without the words that the entry names."""
    report = yield
    failure = item.stash.get(KNOWN, None)
    if failure and report.outcome == "skipped" and call.excinfo and hasattr(report, "wasxfail"):
        said = "\n".join([str(call.excinfo.value), *(text for _, text in report.sections)])
        if report.when != "call" or failure.says not in said:
            del report.wasxfail
            report.outcome = "failed"
            report.longrepr = (
                f"this is not the known failure of {failure.where} in matrix.toml ({failure.reason}): "
                f"it has to fail in the test itself and say {failure.says!r}\n\n{call.excinfo.getrepr()}"
            )
    return report
