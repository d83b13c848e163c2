"""Hazards, and what each version answers: by sight, by key, by screen reader, on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Locator, Page, expect
import pytest

from ci.record.outcomes import TestOutcome, TestState
from ci.record.store import Result
from ci.report import serving, writing
from ci.report.merging import ReportRequest
from ci.report.model import Merged
from ci.report.serving import Served
from tests.browser.conftest import REUSED, Open
from tests.support import results as made
from tests.support.questions import questions
from tests.support.results import cell, result

DANGEROUS = "slurm22.05-enroot4.1.2-pyxis0.21.0-debian12-amd64"
BY_SLURM = "pyxis_conformance, by Slurm"


def boxes(page: Page) -> dict[str, str]:
    """Return what each box of the grid that is shown says, by its cell."""
    texts = page.locator("main .box:not(.off)").evaluate_all(
        "all => all.map(box => [new URLSearchParams(box.hash.slice(1)).get('cell'), box.innerText])"
    )
    return {name: " ".join(text.split()) for name, text in texts}


def answers(table: Locator, row: int) -> list[str]:
    """Return what the entries of a row say that are shown."""
    return [" ".join(it.split()) for it in table.locator("tbody tr").nth(row).locator("td:visible").all_inner_texts()]


def rows(page: Page) -> set[str]:
    """Return the ids of the behaviours that are shown."""
    return set(page.locator("#answers tbody th:visible small").all_inner_texts())


def by_slurm(page: Page) -> Locator:
    return page.get_by_role("grid", name=BY_SLURM)


# -- hazards in the grid and in a cell -------------------------------------------------------------------------------


def test_hazards_can_be_chosen_by_key_and_stand_in_the_address(open_page: Open, merged: Merged) -> None:
    page = open_page()
    dangerous = {it.id for it in merged.compat.cells if it.hazards}
    page.locator("#filters").get_by_role("button", name="hazards").press("Enter")
    assert boxes(page).keys() == dangerous
    assert all(" hazard" in text for text in boxes(page).values())
    assert "only=hazards" in page.url
    page.get_by_label("Slurm", exact=True).select_option("22.05")
    shown = boxes(page)
    assert shown.keys() == {it for it in dangerous if it.startswith("slurm22.05-")}
    assert all("⚠ 2 hazards" in text for text in shown.values())
    assert boxes(open_page(page.url[page.url.index("#") :])) == shown


def test_with_a_suite_chosen_its_own_hazards_count(open_page: Open) -> None:
    page = open_page("#suite=pyxis_conformance")
    assert "⚠ 2 hazards" in boxes(page)[DANGEROUS]
    page.get_by_label("Suite", exact=True).select_option("registry")
    assert "hazard" not in boxes(page)[DANGEROUS]
    page.locator("#filters").get_by_role("button", name="hazards").click()
    assert boxes(page) == {}


def test_what_is_refused_is_chosen_and_counted_likewise(open_page: Open, merged: Merged) -> None:
    page = open_page("#only=refused")
    refused = {it.id for it in merged.compat.cells if it.refused}
    assert refused
    assert boxes(page).keys() == refused
    assert all("⊘ 1 refused" in text for text in boxes(page).values())
    page.get_by_label("Suite", exact=True).select_option("registry")
    assert boxes(page) == {}
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Suite", exact=True).select_option("registry")
    assert not [text for text in boxes(page).values() if "refused" in text]
    page.get_by_label("Suite", exact=True).select_option("")
    assert {name for name, text in boxes(page).items() if "⊘ 1 refused" in text} == refused
    page.locator("#answer-filters").get_by_role("button", name="refused").click()
    assert rows(page) == {"by-two-axes"}
    page.goto(f"{page.url.partition('#')[0]}#cell={min(refused)}")
    told = page.locator("#detail").get_by_role("group", name="Answers")
    told.get_by_text("⊘ 1 refused").click()
    expect(told.get_by_text("It says no.").first).to_be_visible()


def test_a_cell_says_of_each_hazard_what_happens_and_what_to_do(open_page: Open) -> None:
    page = open_page(f"#cell={DANGEROUS}")
    told = page.locator("#detail").get_by_role("group", name="Answers")
    expect(told.locator("h3")).to_have_text("⚠ 2 hazards")
    for words in ("What of by-slurm?", "The script runs on the host.", "What to do: Name the image in an srun."):
        expect(told.get_by_text(words).first).to_be_visible()
    expect(told.get_by_text("Slurm <23.11")).to_be_visible()
    expect(told.get_by_text("every version")).to_be_visible()
    expect(told.get_by_role("link", name="NVIDIA/pyxis#1")).to_have_attribute(
        "href", "https://github.com/NVIDIA/pyxis/issues/1"
    )
    expect(told.get_by_text("It differs.")).to_have_count(0)
    told.get_by_text("5 behaviours observed").click()
    expect(told.get_by_text("It differs.")).to_be_visible()


# -- what each version answers ---------------------------------------------------------------------------------------


def test_rows_are_behaviours_and_columns_versions(open_page: Open) -> None:
    table = by_slurm(open_page())
    heads = table.locator("th[scope^=col]").all_inner_texts()
    assert heads[1] == "Real enroot and Pyxis"
    assert heads[4:7] == ["Slurm 22.05", "Slurm 24.11", "Slurm 25.11.7"]
    assert [it[: it.index(" ", 2)] for it in answers(table, 0)[:3]] == ["⚠ on", "✓ in", "✓ in"]
    assert answers(table, 1)[0].startswith("± 2 answers 11 cells"), "decided by Slurm and by Pyxis"


def test_the_filters_of_the_grid_hold_the_other_axes(open_page: Open) -> None:
    page = open_page("#pyxis=0.19.0&arch=amd64")
    assert [it.split(" ,")[0] for it in answers(by_slurm(page), 1)] == [
        "⊘ refused 2 cells",
        "✓ well 2 cells",
        "✓ well 2 cells",
    ]
    expect(page.locator("#answer-count")).to_contain_text("on the cells that the filters of the grid show")
    page.get_by_role("button", name="Clear").click()
    assert answers(by_slurm(page), 1)[0].startswith("± 2 answers 11 cells")
    expect(page.locator("#answer-count")).to_have_text("5 behaviours")


def test_an_answer_opens_with_the_cells_and_dates_that_observed_it(open_page: Open) -> None:
    page = open_page("#arch=amd64")
    by_slurm(page).locator("tbody tr").nth(1).locator(".box").first.click()
    detail = page.locator("#detail")
    expect(page.locator("#detail-title")).to_have_text("What of by-two-axes?")
    refused = detail.get_by_role("region", name="refused")
    expect(refused).to_contain_text("It says no.")
    expect(refused).to_contain_text("Slurm <23, Pyxis <0.20")
    assert refused.locator("tbody tr").all_inner_texts()[0].endswith("2026-11-24 02:30")
    expect(refused.locator("tbody tr")).to_have_count(2)
    expect(detail.get_by_role("region", name="well").locator("tbody tr")).to_have_count(4)
    detail.get_by_text("All answers that are known").click()
    page.get_by_label("Pyxis", exact=True).select_option("0.21.0")
    expect(detail.get_by_role("region", name="refused")).to_have_count(0)
    detail.get_by_role("link", name=DANGEROUS).click()
    expect(page.locator("#detail-title")).to_have_text(DANGEROUS)
    page.go_back()
    expect(page.locator("#detail-title")).to_have_text("What of by-two-axes?")


def test_what_was_not_observed_never_looks_like_yes(open_page: Open) -> None:
    page = open_page(f"#q={REUSED.id}")
    (entry,) = by_slurm(page).locator("tbody tr").first.locator(".box:visible").all()
    assert entry.inner_text().split("\n")[0] == "· not observed"
    classes = entry.get_attribute("class") or ""
    assert "a-not-observed" in classes
    assert "a-works" not in classes
    entry.click()
    expect(page.locator("#detail")).to_contain_text("no test on the 1 cell here saw an answer, so nothing is known")
    assert page.locator("#detail section").count() == 0


def test_rows_can_be_searched_and_chosen_and_the_address_says_it(open_page: Open) -> None:
    page = open_page()
    view = page.locator("#answer-filters")
    view.get_by_role("button", name="hazards").click()
    assert rows(page) == {"by-slurm", "everywhere"}
    view.get_by_role("button", name="differs").click()
    assert rows(page) == {"by-slurm"}
    expect(page.locator("#answer-count")).to_have_text("1 of 5 behaviours")
    again = open_page(page.url[page.url.index("#") :])
    assert rows(again) == {"by-slurm"}
    view.get_by_role("button", name="hazards").click()
    assert rows(page) == {"by-slurm", "by-two-axes", "by-os", "by-enroot"}
    page.get_by_label("Slurm", exact=True).select_option("24.11")
    assert rows(page) == {"by-enroot"}, "only what differs between the versions that are shown"
    page.get_by_role("button", name="Clear").click()
    view.get_by_label("Behaviour").fill("in the image")
    expect(page.locator("#answer-count")).to_have_text("1 of 5 behaviours")
    assert rows(page) == {"by-slurm"}


def test_everything_can_be_done_by_key(open_page: Open) -> None:
    page = open_page()
    table = by_slurm(page)
    table.locator(".box").first.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#detail-title")).to_be_focused()
    expect(page.locator("#detail")).to_contain_text("Slurm 24.11 · asked by pyxis_conformance")
    page.get_by_role("button", name="Next answer").press("Enter")
    expect(page.locator("#detail")).to_contain_text("Slurm 25.11.7 · asked by pyxis_conformance")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(":focus")).to_have_attribute("href", "#answer=by-two-axes%20slurm%20nvidia%2024.11")
    assert table.locator(".box[tabindex='0']").count() == 1, "one stop per table, arrows within"


# -- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 375])
@pytest.mark.parametrize(
    "hash_", ["#only=hazards&rows=differs", "#answer=by-two-axes%20slurm%20nvidia%2022.05", f"#cell={DANGEROUS}"]
)
def test_axe_has_nothing_to_say(open_page: Open, scheme: str, width: int, hash_: str) -> None:
    page = open_page(hash_, scheme=scheme, width=width)
    for summary in page.locator("#detail summary, #answers summary").all():
        summary.click(force=True) if summary.is_visible() else None
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(it["id"], [node["html"][:200] for node in it["nodes"][:3]]) for it in found] == []


def test_a_phone_shows_questions_and_answers_side_by_side(open_page: Open) -> None:
    page = open_page(width=375, height=812)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    table = by_slurm(page)
    table.scroll_into_view_if_needed()
    expect(table.get_by_text("What of by-slurm?")).to_be_in_viewport()
    expect(table.locator(".box").first).to_be_in_viewport(ratio=1)
    table.locator(".box").first.click()
    box = page.locator("#detail").bounding_box()
    assert box
    assert box["width"] == 375
    assert page.locator("#detail").evaluate("it => it.scrollWidth <= it.clientWidth")


def test_without_a_script_answers_are_a_table(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#answer-filters")).to_be_hidden()
    table = page.get_by_role("table", name=BY_SLURM)
    expect(table).to_contain_text("⚠ on the host")
    expect(page.locator("#hazards")).to_contain_text("Name the image in an srun.")
    context.close()


# -- while a run goes on ---------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Return what is served, with an answer of one version."""
    with questions():
        made.write(tmp_path / "results", seeing("22.05", "on the host"))
        found = serving.Served(folder=tmp_path / "results/report", top=tmp_path / "results")
        show(found, "first")
        yield found


def seeing(slurm: str, answer: str) -> Result:
    saw = [TestOutcome(name="t::sees", outcome=TestState.PASSED, saw=(("by-slurm", answer),))]
    return result(cell(slurm, "debian13", "4.1.2", "0.24.0"), "pyxis_conformance", tests=saw)


def show(served: Served, state: str) -> None:
    served.show(writing.merge(ReportRequest(roots=(served.folder.parent,), base=served.folder)), state)


def test_new_answers_come_in_and_a_search_goes_on(open_page: Open, served: Served) -> None:
    with serving.serving(served) as address:
        page = open_page("#answer=by-slurm%20slurm%20nvidia%2022.05", url=address)
        search = page.locator("#answer-filters").get_by_label("Behaviour")
        search.fill("slurm")
        made.write(served.folder.parent, seeing("24.11", "in the image"))
        show(served, "second")
        expect(by_slurm(page)).to_contain_text("✓ in the image", timeout=15_000)
        expect(search).to_have_value("slurm")
        expect(search).to_be_focused()
        expect(page.locator("#detail-title")).to_have_text("What of by-slurm?")
