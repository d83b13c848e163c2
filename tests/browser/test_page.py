"""The page as people use it: by sight, by mouse, by key, by screen reader, on a desk and on a phone."""

from pathlib import Path
import re

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect
import pytest

from ci.record.store import CellRecord
from ci.report.model import Merged, State
from tests.browser.conftest import BROKEN, EMBEDDED, FLAKY, LEFT_OUT, LEGACY, REUSED, SKIPPED, Open

FAILED = "slurm25.11.7-enroot4.1.2-pyxis0.21.0-debian13-amd64"


def boxes(page: Page) -> dict[str, str]:
    """Return what each box that is shown says, by its cell, as a screen reader reads it."""
    texts = page.locator("main .box:not(.off)").evaluate_all(
        "all => all.map(box => [new URLSearchParams(box.hash.slice(1)).get('cell'), box.innerText])"
    )
    return {cell: " ".join(text.split()) for cell, text in texts}


def named(page: Page, name: str) -> str:
    return " ".join(page.locator(f"#detail dt:text-is('{name}') + dd").first.inner_text().split())


def open_cell(page: Page, cell: str) -> None:
    page.locator(f".box[href='#cell={cell}']").click()
    expect(page.locator("#detail-title")).to_have_text(cell)


# -- the grid --------------------------------------------------------------------------------------------------------


def test_the_grid_is_a_table_with_heads_and_says_each_cell(open_page: Open, merged: Merged) -> None:
    page = open_page()
    grid = page.get_by_role("grid", name="Real enroot and Pyxis, amd64")
    expect(grid.get_by_role("columnheader")).to_have_count(1 + 2 + 6)
    assert grid.get_by_role("rowheader").all_inner_texts() == [
        "22.05\ndebian12",
        "24.11\ndebian13",
        "25.11.7\ndebian13",
    ]
    said = boxes(page)
    for cell in merged.compat.cells:
        assert re.search(rf"^\S+ {cell.state}\b.*, {re.escape(cell.id)}", said[cell.id])
    # A cell is never "succeeded": only a command is.
    missing = {State.INTERRUPTED, State.NOT_RUN, State.ERROR, State.UNFINISHED, State.SUCCEEDED}
    assert {cell.state for cell in merged.compat.cells} >= set(State) - missing


@pytest.mark.parametrize(("cell", "remark"), [(EMBEDDED, "not a compatibility verdict"), (LEGACY, "no containers")])
def test_cells_that_do_not_count_stand_apart(open_page: Open, cell: CellRecord, remark: str) -> None:
    page = open_page()
    section = page.locator("main > section", has=page.locator(f".box[href='#cell={cell.id}']"))
    expect(section.locator("h2")).to_contain_text(remark)
    expect(section.locator("table .box")).to_have_count(1)
    assert "embedded" not in page.locator(".verdict").inner_text()


def test_a_place_without_a_result_opens_with_its_reason(open_page: Open) -> None:
    page = open_page()
    gap = page.locator(".box.gap")
    expect(gap).to_have_count(1)
    gap.click()
    expect(page.locator("#detail")).to_contain_text("not run")
    expect(page.locator("#detail")).to_contain_text("no result of it in these folders")
    assert page.locator("#detail-title").inner_text().startswith(f"{LEFT_OUT.axes['slurm']}/{LEFT_OUT.os}/")


# -- filters ---------------------------------------------------------------------------------------------------------


def test_a_filter_stands_in_the_address_and_comes_back_with_it(open_page: Open) -> None:
    page = open_page()
    everything = len(boxes(page))
    page.get_by_role("button", name="failed", exact=True).click()
    page.get_by_label("Arch", exact=True).select_option("amd64")
    shown = boxes(page)
    assert 0 < len(shown) < everything
    assert all(" failed" in text and cell.endswith("amd64") for cell, text in shown.items())
    assert "state=failed" in page.url
    assert "arch=amd64" in page.url
    expect(page.locator("#count")).to_have_text(f"{len(shown)} of {everything - 1} cells")
    again = open_page(page.url[page.url.index("#") :])
    assert boxes(again) == shown
    expect(again.get_by_role("button", name="failed", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(again.get_by_label("Arch", exact=True)).to_have_value("amd64")
    page.get_by_role("button", name="Clear").click()
    assert len(boxes(page)) == everything
    assert "#" not in page.url


def test_rows_and_columns_without_a_match_are_taken_out_and_heads_stay_right(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("enroot", exact=True).select_option("4.1.2")
    page.get_by_label("Slurm", exact=True).select_option("24.11")
    grid = page.get_by_role("grid", name="Real enroot and Pyxis, amd64")
    assert grid.get_by_role("rowheader").all_inner_texts() == ["24.11\ndebian13"]
    heads = grid.locator("th[scope^=col]:visible").all_inner_texts()
    assert heads == ["Slurm", "enroot 4.1.2", "Pyxis 0.19.0", "Pyxis 0.21.0", "Pyxis 0.24.0"]
    expect(page.locator("main").get_by_role("grid")).to_have_count(2)
    page.get_by_label("enroot", exact=True).select_option("")
    expect(grid.get_by_role("columnheader")).to_have_count(1 + 2 + 6)


def test_with_a_suite_chosen_boxes_say_what_that_suite_came_to(open_page: Open, merged: Merged) -> None:
    page = open_page()
    page.get_by_label("Suite", exact=True).select_option("pyxis_basic")
    states = {cell.id: suite.state for cell, suite in merged.compat.results() if suite.suite == "pyxis_basic"}
    said = {cell: text for cell, text in boxes(page).items() if "no result of it" not in text}
    assert said.keys() == states.keys()
    assert all(f"{states[cell]} pyxis_basic" in text for cell, text in said.items())
    page.get_by_label("Suite", exact=True).select_option("")
    assert "93 tests" in " ".join(boxes(page).values())


@pytest.mark.parametrize(
    ("word", "found"),
    [("script>", {BROKEN.id}), ("debian12 embedded", {EMBEDDED.id}), ("enroot 3.4.1 not found", {SKIPPED.id})],
)
def test_the_search_finds_cells_by_id_test_and_message(open_page: Open, word: str, found: set[str]) -> None:
    page = open_page()
    page.get_by_label("Search", exact=True).fill(word)
    expect(page.locator("#count")).to_contain_text(f"{len(found)} of ")
    assert boxes(page).keys() == found


def test_what_changed_and_what_is_flaky_can_be_chosen(open_page: Open, merged: Merged) -> None:
    assert merged.compat.changes
    page = open_page()
    page.get_by_role("button", name="flaky").click()
    assert FLAKY.id in boxes(page)
    assert all("flaky" in text for text in boxes(page).values())
    page.get_by_role("button", name="flaky").click()
    page.get_by_role("button", name="changed", exact=True).click()
    assert boxes(page).keys() == {it.cell for it in merged.compat.changes.items}


# -- a cell's details ------------------------------------------------------------------------------------------------


def test_a_click_opens_a_cell_with_all_that_is_known_of_it(open_page: Open) -> None:
    page = open_page()
    open_cell(page, FAILED)
    detail = page.locator("#detail")
    first = detail.locator("section").first
    expect(first.locator("h3")).to_have_text("pyxis_conformance")  # what failed comes first
    expect(first).to_contain_text("enroot-nsenter: failed to create user namespace")
    assert "slurm 25.11.7 · enroot 4.1.2 · pyxis 0.21.0" in named(page, "observed inside")
    expect(first.locator(".command pre")).to_have_text(f'nox -s "pyxis_conformance({FAILED})"')
    first.get_by_text("59 passed").last.click()
    expect(first.locator(".plain li")).to_have_count(59)
    first.get_by_text("2 artefacts").click()
    expect(first.locator("table").last).to_contain_text("SHA256SUMS")
    expect(first.locator("table b")).to_have_text("nothing")
    first.get_by_text("5 images").click()
    expect(first.locator("table").last).to_contain_text("sha256:")
    first.get_by_text("each of them").click()
    expect(first.get_by_role("img", name="Seconds of the last")).to_be_visible()
    expect(first.get_by_role("img", name="images")).to_have_attribute("aria-label", re.compile("tests .* s, teardown"))


def test_details_are_drawn_only_for_the_cell_that_is_open(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("#detail")).to_be_hidden()
    assert page.locator("#detail *").count() == 0
    open_cell(page, FAILED)
    assert page.locator("#detail .plain li").count() == 0, "lists are drawn when they are opened"


def test_a_link_to_a_log_leads_to_the_log(open_page: Open) -> None:
    page = open_page(f"#cell={FAILED}")
    link = page.locator("#detail").get_by_role("link", name="logs/slurmctld.log").first
    assert not re.match(r"[a-z]+:|/", link.get_attribute("href") or "")
    link.click()
    expect(page.locator("body")).to_have_text("slurmctld started\n")
    page.go_back()
    expect(page.locator("#detail-title")).to_have_text(FAILED)


def test_a_known_failure_links_to_its_upstream_issue(open_page: Open) -> None:
    page = open_page("#cell=slurm24.11-enroot3.4.1-pyxis0.19.0-debian13-amd64")
    page.locator("#detail").get_by_text("1 known failures").click()
    issue = page.locator("#detail").get_by_role("link", name="NVIDIA/enroot#273")
    expect(issue).to_have_attribute("href", "https://github.com/NVIDIA/enroot/issues/273")


def test_what_was_reused_says_since_when(open_page: Open) -> None:
    page = open_page(f"#cell={REUSED.id}")
    expect(page.locator("#detail section").first).to_contain_text("Unchanged since 20261124-023000-0004")


def test_what_is_flaky_is_named_so_and_shows_its_history(open_page: Open) -> None:
    page = open_page(f"#cell={FLAKY.id}")
    suite = page.locator("#detail section", has=page.locator("h3:text-is('pyxis_basic')"))
    expect(suite).to_contain_text("Flaky: it both passed and failed")
    suite.get_by_text("each of them").click()
    rows = suite.locator("tbody tr").all_inner_texts()
    assert ["failed" in row for row in rows[:2]] == [False, True], "the newest first"


def test_hostile_names_and_messages_are_text(open_page: Open) -> None:
    page = open_page(f"#cell={BROKEN.id}")
    expect(page.locator("#detail")).to_contain_text("<script>document.title='broken'</script>")
    assert "broken" not in page.title()
    assert page.locator("img").count() == 0


def test_an_address_with_a_cell_that_is_not_there_says_so(open_page: Open) -> None:
    page = open_page("#cell=<b>nope</b>")
    expect(page.locator("#detail")).to_contain_text("There is no such cell")
    expect(page.locator("#detail-title")).to_have_text("<b>nope</b>")


def test_back_closes_what_a_click_opened_and_filters_stay(open_page: Open) -> None:
    page = open_page("#state=failed")
    open_cell(page, FAILED)
    assert "state=failed" in page.url
    page.go_back()
    expect(page.locator("#detail")).to_be_hidden()
    assert all(" failed" in text for text in boxes(page).values())


# -- by key ----------------------------------------------------------------------------------------------------------


def test_everything_can_be_done_by_key(open_page: Open) -> None:
    page = open_page()
    grid = page.get_by_role("grid", name="Real enroot and Pyxis, amd64")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the grid")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("href", re.compile("slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"))
    for key in ("ArrowDown", "ArrowDown", "End", "ArrowLeft"):
        page.keyboard.press(key)
    expect(focused).to_have_attribute("href", f"#cell={FAILED}")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_be_focused()
    expect(page.locator("#detail-title")).to_have_text(FAILED)
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(focused).to_have_attribute("href", f"#cell={FAILED}")
    assert grid.locator(".box[tabindex='0']").count() == 1, "one stop per table, arrows within"
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    expect(page.locator("#detail-title")).to_contain_text("slurm25.11.7-enroot3.4.1-pyxis0.19.0")
    page.get_by_role("button", name="Next cell").press("Enter")
    expect(page.locator("#detail-title")).to_contain_text("slurm25.11.7-enroot3.4.1-pyxis0.21.0")


def test_arrows_pass_over_what_is_filtered_out(open_page: Open) -> None:
    page = open_page("#pyxis=0.24.0")
    grid = page.get_by_role("grid", name="Real enroot and Pyxis, amd64")
    grid.locator(".box:not(.off)").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(":focus")).to_have_attribute("href", re.compile("enroot4.1.2-pyxis0.24.0"))


# -- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 375])
@pytest.mark.parametrize("hash_", ["", f"#cell={FAILED}", "#state=failed&suite=pyxis_conformance", f"#cell={FLAKY.id}"])
def test_axe_has_nothing_to_say(open_page: Open, scheme: str, width: int, hash_: str) -> None:
    page = open_page(hash_, scheme=scheme, width=width)
    for summary in page.locator("#detail summary").all():
        summary.click()
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(it["id"], [node["html"][:200] for node in it["nodes"][:3]]) for it in found] == []


@pytest.mark.parametrize("hash_", ["", f"#cell={FAILED}"])
def test_nothing_is_wider_than_a_phone(open_page: Open, hash_: str) -> None:
    page = open_page(hash_, width=375, height=812)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("#detail").evaluate("it => it.scrollWidth <= it.clientWidth")
    if hash_:
        box = page.locator("#detail").bounding_box()
        assert box
        assert box["width"] == 375


def test_without_a_script_the_grid_and_the_lists_are_there(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#filters")).to_be_hidden()
    assert page.locator(".box").count() > 30
    expect(page.locator("#wrong")).to_contain_text("srun ended with status 1")
    context.close()


def test_the_page_asks_for_nothing(open_page: Open, address: str) -> None:
    asked: list[str] = []
    page = open_page()
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    open_cell(page, FAILED)
    assert asked == [address]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_kept(open_page: Open, scheme: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "pictures"
    for name, width, hash_ in (("grid", 1280, ""), ("cell", 1280, f"#cell={FAILED}"), ("phone", 375, "")):
        page = open_page(hash_, width=width, height=900, scheme=scheme)
        picture = folder / f"{name}-{scheme}.png"
        page.screenshot(path=picture)
        assert Path(picture).stat().st_size > 10_000
