"""What a report of so many cells takes. Each step is a process of its own, so that its peak of memory is its own."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
import resource
import shutil
import time
from typing import Any, ParamSpec, TypeVar

from ci.report import writing
from ci.report.forms import page
from ci.report.merging import ReportRequest
from tests.support import results as made
from tests.support.results import Story

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a report of so many cells took."""

    cells: int
    suites: int
    tests: int
    merge_s: float
    write_s: float
    cpu_s: float
    """Of merging and writing: seconds of the processor, whatever else the machine does."""
    peak_mb: float
    page_mb: float
    json_mb: float
    junit_mb: float
    first_paint_s: float | None = None
    """Absent where there is no browser."""
    usable_s: float | None = None
    """Until the filters are drawn and a cell can be opened."""
    open_cell_s: float | None = None
    filter_s: float | None = None


def measure(cells: int, folder: Path, *, browser: bool = True) -> Figures:
    """Return what a report of so many synthetic cells takes, made in a folder that is empty."""
    results, report = folder / "results", folder / "results/report"
    _apart(make, cells, results)
    figures = _apart(merge, cells, results, report)
    if not browser:
        return figures
    return replace(figures, **_apart(visit, report / page.FILE))


def make(cells: int, results: Path) -> None:
    """Write the results of a run on so many cells."""
    made.write(results, *Story(made.many(cells)).night(0))


def merge(cells: int, results: Path, report: Path) -> Figures:
    """Merge results into a report, and write it."""
    began, cpu = time.perf_counter(), time.process_time()
    merged = writing.merge(ReportRequest(roots=(results,), base=report))
    merged_at = time.perf_counter()
    writing.write(merged, report)
    sizes = {path.suffix: path.stat().st_size / 1e6 for path in report.iterdir()}
    return Figures(
        cells=cells,
        suites=sum(1 for _ in merged.compat.results()),
        tests=sum(sum(suite.counts.values()) for _, suite in merged.compat.results()),
        merge_s=merged_at - began,
        write_s=time.perf_counter() - merged_at,
        cpu_s=time.process_time() - cpu,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        page_mb=sizes[".html"],
        json_mb=sizes[".json"],
        junit_mb=sizes[".xml"],
    )


def visit(page_file: Path) -> dict[str, Any]:
    """Open the page, a cell and a filter in Chromium."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where a browser is wanted

    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(120_000)
        began = time.perf_counter()
        page.goto(page_file.as_uri())
        page.locator("#filters").wait_for()
        usable = time.perf_counter() - began
        # What can be used in the document may not have been painted yet.
        painted = page.wait_for_function("performance.getEntriesByName('first-contentful-paint')[0]")
        paint = painted.evaluate("it => it.startTime / 1000")
        began = time.perf_counter()
        page.locator(".box").nth(7).click()
        page.locator("#detail section").first.wait_for()
        opened = time.perf_counter() - began
        page.keyboard.press("Escape")
        # From the change to the frame in which it is seen.
        filtered = page.evaluate(
            "() => new Promise(done => { const began = performance.now(); location.hash = '#q=0.11.0';"
            " addEventListener('hashchange', () => requestAnimationFrame(() => setTimeout(() =>"
            " done((performance.now() - began) / 1000))), { once: true }); })"
        )
        browser.close()
    return {"first_paint_s": paint, "usable_s": usable, "open_cell_s": opened, "filter_s": filtered}


def _apart(function: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs) -> _Result:
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given, **named).result()
