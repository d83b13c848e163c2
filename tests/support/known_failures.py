"""A pytest plugin: failures that are known are expected of their cells, strictly and by their words.

They are rows of matrix.toml, and answers of behaviours that have ``fails``.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
import io
import os
import sys
from typing import TextIO

from packaging.version import Version
import pytest

from ci import environment_file
from ci.matrix import loading
from ci.matrix.behaviours import Answer, Behaviour, catalogue, version_of
from ci.matrix.cells import Cell
from ci.matrix.model import KnownFailure, Selector
from ci.record.reportlog import KNOWN_PROPERTY
from tests.support import behaviours
from tests.support.current import cell_of
from tests.support.enroot import LISTING_FAILED

KNOWN = pytest.StashKey[KnownFailure]()
"""The entry by which the test is expected to fail on this cell."""
CELL = pytest.StashKey[Cell]()
FAILS_AS = pytest.StashKey[str]()
"""The behaviour by whose answer the test is expected to fail."""
ABOUT = pytest.StashKey[tuple[KnownFailure, ...]]()
"""All entries that name the test, on whatever cell: none of their words may be said where it passes."""
CONTROLLED = pytest.StashKey[bool]()
"""Whether the test has shown, in this very try, that all but the fault is well."""

Control = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def control(request: pytest.FixtureRequest) -> Control:
    """Return the block in which a test shows its positive control: what differs from the fault in one thing, and works.

    Only a test that has shown one is excused by a known failure: the fault's words alone may come of something else,
    such as an image that is not there. The block takes what it shows, in words.
    """
    request.node.stash[CONTROLLED] = False

    @contextmanager
    def shown(what: str) -> Iterator[None]:
        request.node.stash[CONTROLLED] = False
        try:
            yield
        except Exception as error:
            raise AssertionError(
                f"the control failed, so that nothing is known of the fault: {what}: {error}"
            ) from error
        request.node.stash[CONTROLLED] = True

    return shown


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the known failures of this cell: strictly, so that one which starts to pass turns the suite red.

    What enroot 3 does to a test in passing is no failure of the test: that one is run again.
    """
    if not os.environ.get(environment_file.VARIABLE):
        return
    rows = loading.load()
    cell = cell_of(environment_file.current(), rows)
    if version_of(cell, "enroot") < Version("4.0"):
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=4, only_rerun=[LISTING_FAILED]))
    for item in items:
        item.stash[CELL] = cell
        answers = behaviours.expected_to_fail(item)
        rows_about = [failure for failure in rows.failures if failure.is_about(item.nodeid)]
        item.stash[ABOUT] = (*rows_about, *(_known(*it) for it in answers))
        here = [failure for failure in rows_about if failure.matches(cell, item.nodeid)]
        for behaviour, answer in answers:
            if behaviour.answer_on(cell) is answer:
                here.append(_known(behaviour, answer))
                item.stash[FAILS_AS] = behaviour.id
        for failure in here:
            reason = f"{failure.reason} ({failure.issue})" if failure.issue else failure.reason
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
            item.stash[KNOWN] = failure


def known_answers() -> list[KnownFailure]:
    """Return the known failures that are answers of behaviours."""
    return [_known(it, answer) for it in catalogue().values() for answer in it.answers if answer.fails]


def _known(behaviour: Behaviour, answer: Answer) -> KnownFailure:
    return KnownFailure(
        tests=(),
        selector=Selector(),
        reason=answer.what.removesuffix("."),
        says=answer.fails,
        issue=answer.issue or None,
        where=f"{behaviour.id} ({behaviour.where})",
    )


class _Heard(io.StringIO):
    """What was written, which is passed on at once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._stream.flush()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep what a test writes where pytest does not (``-s``): its words decide, and cases are reproduced from them."""
    if item.config.getoption("capture") != "no":
        return (yield)
    heard = {"stdout": _Heard(sys.stdout), "stderr": _Heard(sys.stderr)}
    try:
        with redirect_stdout(heard["stdout"]), redirect_stderr(heard["stderr"]):
            return (yield)
    finally:
        for name, text in heard.items():
            if text.getvalue():
                item.add_report_section("call", name, text.getvalue())


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last to see what pytest makes of a known failure
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn two things red: a known failure that is another failure, and words that a passing test says too.

    Another failure is one in a fixture, one without the words that the entry names, one of a test that has not shown
    that all else is well (`control`), or that saw another answer than the right one. Words that are also said where the
    test passes recognise nothing.
    """
    report = yield
    if report.when == "call" and report.outcome == "passed":
        for failure in item.stash.get(ABOUT, ()):
            if failure.says in _said(report):
                report.outcome = "failed"
                report.longrepr = (
                    f"it passes and says {failure.says!r}, by which {failure.where} ({failure.reason}) "
                    "recognises its failure: these words are no sign of it, find better ones"
                )
    failure_here = item.stash.get(KNOWN, None)
    if failure_here and report.outcome == "skipped" and call.excinfo and hasattr(report, "wasxfail"):
        said = f"{call.excinfo.value}\n{_said(report)}"
        report.user_properties.append((KNOWN_PROPERTY, failure_here.where))
        as_known = item.stash.get(CONTROLLED, False) and not behaviours.saw_another(item, item.stash[CELL])
        if report.when != "call" or failure_here.says not in said or not as_known:
            del report.wasxfail
            report.outcome = "failed"
            report.longrepr = (
                f"this is not the known failure of {failure_here.where} ({failure_here.reason}): "
                f"it has to fail in the test itself, after its control, and say {failure_here.says!r}"
                f"\n\n{report.longrepr}"
            )
    if CELL in item.stash:
        known = report.outcome == "skipped" and hasattr(report, "wasxfail")
        behaviours.record(item, report, item.stash[CELL], item.stash.get(FAILS_AS, "") if known else "")
    return report


def _said(report: pytest.TestReport) -> str:
    """Return what was written during the test itself; its fixtures may have to do with other things."""
    return "\n".join(text for title, text in report.sections if title.endswith(" call"))
