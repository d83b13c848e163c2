"""The page of many cells: what is drawn, and when. How long it takes is measured by `nox -s scale`."""

from pathlib import Path

from playwright.sync_api import expect
import pytest

from ci.report import writing
from ci.report.forms import page
from ci.report.merging import ReportRequest
from tests.browser.conftest import Open
from tests.support import results as made
from tests.support.results import result
from tests.support.scale import measure

CELLS = made.many(1_000)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of a thousand cells."""
    folder = tmp_path_factory.mktemp("many")
    made.write(folder / "results", *map(result, CELLS))
    merged = writing.merge(ReportRequest(roots=(folder / "results",), base=folder))
    writing.write(merged, folder)
    return (folder / page.FILE).as_uri()


def test_a_wide_grid_is_small_boxes_that_still_say_what_they_are(open_page: Open, address: str) -> None:
    page = open_page(url=address)
    box = page.locator(f".box[href='#cell={CELLS[-1].id}']")
    shape = box.bounding_box()
    assert shape
    assert shape["width"] < 50
    expect(page.get_by_role("link", name=f"passed 1 test , {CELLS[-1].id}")).to_have_count(1)
    box.click()
    expect(page.locator("#detail-title")).to_have_text(CELLS[-1].id)


def test_heads_stay_in_sight(open_page: Open, address: str) -> None:
    page = open_page(url=address, height=700)
    box = page.locator(f".box[href='#cell={CELLS[-1].id}']")
    box.scroll_into_view_if_needed()
    table = page.locator("table.compact").first
    expect(table.locator("thead th").last).to_be_in_viewport()
    expect(table.locator("tbody tr").last.locator("th")).to_be_in_viewport()


def test_what_is_measured_is_measured(tmp_path: Path) -> None:
    figures = measure(12, tmp_path)
    assert (figures.cells, figures.suites) == (12, 36)
    assert min(figures.peak_mb, figures.page_mb, figures.first_paint_s or 0, figures.filter_s or 0) > 0
