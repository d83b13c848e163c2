"""A page that is served follows a run, and whoever reads it is not disturbed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import expect
import pytest

from ci.record.outcomes import Outcome
from ci.report import serving, writing
from ci.report.merging import ReportRequest
from ci.report.serving import Served
from tests.browser.conftest import Open
from tests.support import results as made
from tests.support.results import BEGIN, Axes, cell, result

CELLS = list(Axes().cells())
LATE = cell("25.11.7", "debian13", "4.1.2", "0.25.0")


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Return what is served, with the results of most cells."""
    made.write(tmp_path / "results", *map(result, CELLS))
    found = serving.Served(folder=tmp_path / "results/report", top=tmp_path / "results")
    show(found, "first")
    return found


@pytest.fixture
def address(served: Served) -> Iterator[str]:
    """Return the address of the page."""
    with serving.serving(served) as address:
        yield address


def show(served: Served, state: str) -> None:
    """Serve what the results are now."""
    merged = writing.merge(ReportRequest(roots=(served.folder.parent,), base=served.folder))
    served.show(merged, state)


def test_new_results_come_in_and_nothing_moves(open_page: Open, served: Served, address: str) -> None:
    page = open_page("#arch=amd64", url=address, height=400)
    page.locator(f".box[href='#cell={CELLS[3].id}']").click()
    page.get_by_text("5 images").first.click()
    page.evaluate("scrollTo(0, 150)")
    page.get_by_label("Search", exact=True).focus()
    failed = result(CELLS[4], outcome=Outcome.FAILED, run="b", started=BEGIN + timedelta(days=1))
    made.write(served.folder.parent, failed, result(LATE))
    show(served, "second")
    expect(page.locator(f".box[href='#cell={LATE.id}']")).to_be_visible(timeout=15_000)
    expect(page.locator(f".box[href='#cell={CELLS[4].id}']")).to_contain_text("failed")
    expect(page.locator("#count")).to_have_text("19 of 37 cells")
    expect(page.locator("#detail-title")).to_have_text(CELLS[3].id)
    expect(page.locator("#detail details[open] summary")).to_have_text("5 images")
    expect(page.get_by_label("Search", exact=True)).to_be_focused()
    assert page.evaluate("scrollY") == 150
    assert "arch=amd64" in page.url


def test_the_cell_that_is_open_shows_its_new_result(open_page: Open, served: Served, address: str) -> None:
    page = open_page(f"#cell={CELLS[3].id}", url=address)
    page.get_by_text("5 images").first.click()
    failed = result(CELLS[3], outcome=Outcome.FAILED, run="b", started=BEGIN + timedelta(days=1))
    made.write(served.folder.parent, failed)
    show(served, "second")
    expect(page.locator("#detail .suite-head")).to_contain_text("failed", timeout=15_000)
    expect(page.locator("#detail details[open] summary")).to_have_text("5 images")


def test_a_box_keeps_the_focus(open_page: Open, served: Served, address: str) -> None:
    page = open_page(url=address)
    page.locator(f".box[href='#cell={CELLS[3].id}']").focus()
    made.write(served.folder.parent, result(LATE))
    show(served, "second")
    expect(page.locator(f".box[href='#cell={LATE.id}']")).to_be_visible(timeout=15_000)
    expect(page.locator(":focus")).to_have_attribute("href", f"#cell={CELLS[3].id}")


def test_a_log_opens_from_a_served_page(open_page: Open, address: str) -> None:
    page = open_page(f"#cell={CELLS[3].id}", url=address)
    page.locator("#detail").get_by_role("link", name="logs/slurmctld.log").click()
    expect(page.locator("body")).to_have_text("slurmctld started\n")
