"""Tests of the page in a real browser: Chromium, steered by playwright. `nox -s page`."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
import shutil
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright
import pytest

from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import CellRecord, Result
from ci.report import writing
from ci.report.merging import ReportRequest
from ci.report.model import Merged
from tests.support import results as made
from tests.support.questions import ASKED, questions
from tests.support.results import BEGIN, Axes, Story, cell, result

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
EMBEDDED = cell("22.05", "debian12", kind="embedded")
LEGACY = cell("22.05", "debian12", kind="legacy")
CELLS = [*Axes().cells(), EMBEDDED, LEGACY]
FLAKY, REUSED, SKIPPED, BROKEN = CELLS[3], CELLS[20], CELLS[2], CELLS[5]
LEFT_OUT = CELLS[14]

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the browser, started once."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.exit(
            f"none of {', '.join(_PROGRAMS)} was found on PATH\n  next: apt-get install chromium, or as root on "
            "Debian: ci/bootstrap nox -s page",
            returncode=1,
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield started
        started.close()


def week(folder: Path) -> Merged:
    """Write a week of results and a report of them, with all that a report can have; return it."""
    results, story, previous = folder / "results", Story([it for it in CELLS if it is not LEFT_OUT], asked=ASKED), None
    for night in range(5):
        made.write(results, *story.night(night, share=1.0 if night == 0 else 0.9))
        if night == 3:
            previous = writing.merge(ReportRequest(roots=(results,), base=results / "report")).compat
    late = BEGIN + timedelta(days=6)
    bad = [TestOutcome(name=f"t::{HOSTILE}", outcome=TestState.FAILED, message=HOSTILE)]
    made.write(
        results,
        *(result(REUSED, suite, run="late", started=late, reused_from="20261124-023000-0004") for suite in made.SUITES),
        result(SKIPPED, outcome=Outcome.SKIPPED, tests=[], reason="enroot 3.4.1 not found", run="late", started=late),
        result(BROKEN, "registry", Outcome.FAILED, tests=bad, run="late", started=late),
        flaky(FLAKY, Outcome.FAILED, 7),
        flaky(FLAKY, Outcome.PASSED, 8),
    )
    merged = writing.merge(ReportRequest(roots=(results,), base=results / "report", previous=previous))
    writing.write(merged, results / "report")
    return merged


def flaky(of: CellRecord, outcome: Outcome, number: int) -> Result:
    """Return a result of one fingerprint, whatever it came to."""
    return result(
        of, outcome=outcome, run=f"late-{number}", started=BEGIN + timedelta(days=number), fingerprint="the-same"
    )


@pytest.fixture(scope="session")
def merged_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[Merged, Path]:
    """Return the report of a week, and its page."""
    folder = tmp_path_factory.mktemp("week")
    with questions():
        return week(folder), folder / "results/report/report.html"


@pytest.fixture(scope="session")
def merged(merged_at: tuple[Merged, Path]) -> Merged:
    """Return the report of a week."""
    return merged_at[0]


@pytest.fixture(scope="session")
def address(merged_at: tuple[Merged, Path]) -> str:
    """Return where the page of a week is."""
    return merged_at[1].as_uri()


Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Return a function that opens the page; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def opened(
        hash_: str = "", *, width: int = 1400, height: int = 1000, scheme: Scheme = "light", url: str = ""
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((url or address) + hash_)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
