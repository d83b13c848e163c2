"""`ci.report.forms.page`: what the page says without a browser, and that nothing from results can become part of it."""

import base64
from datetime import timedelta
import hashlib
from html.parser import HTMLParser
import json
from pathlib import Path
import re
from typing import Any

from msgspec.structs import replace
import pytest

from ci.record import store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import Result
from ci.report import writing
from ci.report.forms import page
from ci.report.merging import ReportRequest
from ci.report.model import Merged, State
from ci.report.words import HAZARD
from tests.support import results as made
from tests.support.questions import ASKED, questions
from tests.support.results import BEGIN, Axes, Story, cell, result

HOSTILE = "</script></style><script>alert(1)</script><!--<img src=x onerror=alert(1)> javascript:alert(1) \u2028'\""
REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
VOID = {"meta", "input", "link", "br", "img"}


class Page(HTMLParser):
    """A page as its elements, each with its attributes and its own text."""

    def __init__(self, text: str) -> None:
        """Parse a page."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self.open: list[int] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the end of the innermost element."""
        assert self.elements[self.open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        """Note text for all elements that it is in."""
        for at in self.open:
            self.texts[at] = self.texts.get(at, "") + data

    def all(self, tag: str, **attributes: str) -> list[str]:
        """Return the texts of elements; of an attribute that holds several words, one has to be there."""
        return [
            " ".join(self.texts.get(at, "").split())
            for at, (name, has) in enumerate(self.elements)
            if name == tag
            and all(
                value in (has.get(key.rstrip("_").replace("_", "-")) or "").split() for key, value in attributes.items()
            )
        ]

    def data(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return a piece of the data."""
        (text,) = [self.texts[at] for at, (_, has) in enumerate(self.elements) if has.get("id") == name]
        return json.loads(text)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Merged:
    """Return the report of a week, with a report before it."""
    folder = tmp_path_factory.mktemp("week")
    story, previous = Story([*Axes().cells(), EMBEDDED], asked=ASKED), None
    with questions():
        for night in range(2):
            made.write(folder / "results", *story.night(night, share=0.9))
            request = ReportRequest(roots=(folder / "results",), base=folder / "report", previous=previous)
            merged = writing.merge(request)
            previous = merged.compat
    return merged


def merged_of(folder: Path, *of: Result) -> Merged:
    made.write(folder / "results", *of)
    return writing.merge(ReportRequest(roots=(folder / "results",), base=folder / "report"))


# -- what it says without a script -----------------------------------------------------------------------------------


def test_the_page_begins_with_the_verdict_and_the_grid(week: Merged) -> None:
    parsed = Page(page.as_html(week))
    assert parsed.open == [], "every element is closed"
    assert parsed.all("p", class_="verdict")[0].startswith("Verdict. Real cells: ")
    titles = [title.rpartition(" ")[0] for title in parsed.all("h2")[:3]]
    assert titles == [
        "Real enroot and Pyxis, amd64 18",
        "Real enroot and Pyxis, arm64 18",
        "Embedded runtime not a compatibility verdict 1",
    ]
    assert parsed.all("th", scope="colgroup")[:2] == ["enroot 3.4.1", "enroot 4.1.2"]
    assert parsed.all("th", scope="row")[0] == "22.05 debian12"


def test_every_cell_is_a_box_that_says_its_state_in_words_and_its_id(week: Merged) -> None:
    parsed = Page(page.as_html(week))
    boxes = [it for it in parsed.all("a", class_="box") if it not in parsed.all("a", class_="answer")]
    assert len(boxes) == len(week.compat.cells) + len(week.compat.gaps)
    for each in week.compat.cells:
        assert any(f" {each.state}" in text and text.count(f", {each.id}") == 1 for text in boxes)


def test_a_place_without_a_result_is_a_box_with_its_reason(tmp_path: Path) -> None:
    other = cell("24.11", "debian13", "4.1.2", "0.24.0")
    boxes = Page(page.as_html(merged_of(tmp_path, result(REAL), result(other)))).all("a", class_="gap")
    assert boxes == ["· not run, no result of it in these folders"] * 2


def test_what_was_reused_says_so(tmp_path: Path) -> None:
    text = page.as_html(merged_of(tmp_path, result(REAL, reused_from="r0")))
    assert Page(text).all("span", class_="word") == ["reused"]
    assert Page(text).data("cell-0")["suites"][0]["reused_from"] == "r0"


def test_one_cause_on_several_cells_is_one_entry(tmp_path: Path) -> None:
    bad = [TestOutcome(name="t::a", outcome=TestState.FAILED, message="AssertionError: 1 == 2\nmore")]
    cells = [cell("22.05", "debian12", "3.4.1", pyxis) for pyxis in ("0.19.0", "0.20.0")]
    text = page.as_html(merged_of(tmp_path, *(result(it, outcome=Outcome.FAILED, tests=bad) for it in cells)))
    (entry,) = [text for text in Page(text).all("li") if "1 == 2" in text]
    assert "t::aAssertionError: 1 == 2 2 cells: " in entry


def test_known_failures_link_to_their_issue(week: Merged) -> None:
    assert '<a href="https://github.com/NVIDIA/enroot/issues/273" rel="noopener noreferrer">NVIDIA/enroot#273</a>' in (
        page.as_html(week)
    )


def test_a_box_says_how_many_hazards_in_words_and_the_list_says_what_to_do(week: Merged) -> None:
    parsed = Page(page.as_html(week))
    boxes = parsed.all("a", class_="box")
    assert any(text.startswith("✓ passed93 tests⚠ 2 hazards, slurm22.05-") for text in boxes)
    assert any(text.startswith("✓ passed93 tests⚠ 1 hazard, slurm24.11-") for text in boxes)
    (listed,) = parsed.all("section", id="hazards")
    for words in (
        "pyxis_conformance by-slurm",
        "NVIDIA/pyxis#1",
        "What of by-slurm? The script runs on the host. (Slurm <23.11) Name the image in an srun.",
    ):
        assert words in listed
    (told,) = [text for text in parsed.all("p", class_="since") if HAZARD in text]
    assert told.startswith("⚠ 2 hazards on ")
    assert parsed.all("button", data_flag="hazards") == ["⚠ hazards"]


def test_what_is_refused_is_counted_and_listed_beside_hazards(tmp_path: Path) -> None:
    seen = made.saw({"by-slurm": "on the host", "by-two-axes": "refused", "by-os": "well"})
    with questions():
        parsed = Page(page.as_html(merged_of(tmp_path, result(REAL, "pyxis_conformance", tests=seen))))
    box, *_ = parsed.all("a", class_="box")
    assert box.startswith("✓ passed3 tests⚠ 1 hazard⊘ 1 refused, ")
    (listed,) = parsed.all("section", id="refused")
    assert "Refused it fails, and says so" in listed
    assert "What of by-two-axes? It says no. (Slurm <23, Pyxis <0.20) 1 cell" in listed
    assert parsed.all("button", data_flag="refused") == ["⊘ refused"]
    assert "⊘ refused: it fails, and says so" in " ".join(parsed.all("ul", class_="key"))


def test_what_each_version_answers_is_a_table_without_a_script(week: Merged) -> None:
    parsed = Page(page.as_html(week))
    titles = [title for title in parsed.all("h3") if "registry" not in title]
    assert titles == [f"pyxis_conformance, {it}" for it in ("by Slurm", "by Pyxis", "by OS", "whatever the version")]
    entries = parsed.all("a", class_="answer")
    assert [re.sub(r"\d+ cells?", "N", text) for text in entries[:3]] == [
        "⚠ on the hostN, hazard",
        "✓ in the imageN, works",
        "✓ in the imageN, works",
    ]
    assert any(text.startswith("± 2 answers") for text in entries)
    assert "1 behaviour not observed in these results What of never-asked?" in " ".join(
        parsed.all("section", id="answers")
    )


def test_a_report_in_which_nothing_was_asked_says_so(tmp_path: Path) -> None:
    parsed = Page(page.as_html(merged_of(tmp_path, result(REAL))))
    assert "No test of these results asked a question" in parsed.all("section", id="answers")[0]
    assert parsed.all("a", class_="answer") == parsed.all("section", id="hazards") == []


def test_answers_of_any_name_are_text(tmp_path: Path) -> None:
    seen = [TestOutcome(name="t::a", outcome=TestState.PASSED, saw=((HOSTILE, HOSTILE), ("by-slurm", HOSTILE)))]
    with questions():
        plain = [TestOutcome(name="t::a", outcome=TestState.PASSED, saw=(("gone", "b"), ("by-slurm", "c")))]
        clean = Page(page.as_html(merged_of(tmp_path / "clean", result(REAL, tests=plain))))
        dirty = Page(page.as_html(merged_of(tmp_path, result(REAL, tests=seen))))
    assert [name for name, _ in dirty.elements] == [name for name, _ in clean.elements]
    assert [has for name, has in dirty.elements if name == "script" and "type" not in has] == [{}]
    assert HOSTILE in [it["question"] for it in dirty.data("answered")["behaviours"]]


def test_a_report_of_suites_that_only_began_says_so(tmp_path: Path) -> None:
    log = tmp_path / "results/r/c/s/reportlog.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("")
    parsed = Page(page.as_html(writing.merge(ReportRequest(roots=(tmp_path,), base=tmp_path))))
    assert "There are no results yet." in parsed.all("main")[0]
    assert parsed.all("section", id="unfinished") == [
        "Not finished These suites have begun. They are running, or they were killed. c s, run r: 0 tests have ended"
    ]


# -- what the script reads -------------------------------------------------------------------------------------------


def test_details_of_each_cell_are_a_piece_of_their_own(week: Merged) -> None:
    parsed = Page(page.as_html(week))
    shared = parsed.data("shared")
    index = parsed.data("index")
    assert [it[0] for it in index["cells"]] == [it.id for it in week.compat.cells]
    for number, each in enumerate(week.compat.cells):
        details = parsed.data(f"cell-{number}")
        assert details["id"] == each.id
        for told, suite in zip(details["suites"], each.suites, strict=True):
            names, seconds = told["passed"]
            assert len(shared["names"][names]) == len(seconds) == len(week.passed[each.id, suite.suite].names)
            assert shared["files"][told["files"]] == ["result.json", "logs/slurmctld.log"]
            assert shared["runs"][told["history"][0][0]] == suite.run
            assert index["states"][told["history"][0][2]][0] == suite.state


def test_a_change_stands_with_its_suite(tmp_path: Path) -> None:
    before = merged_of(tmp_path / "a", result(REAL)).compat
    made.write(tmp_path / "b", result(REAL, outcome=Outcome.FAILED, started=BEGIN + timedelta(days=1)))
    after = writing.merge(ReportRequest(roots=(tmp_path / "b",), base=tmp_path, previous=before))
    parsed = Page(page.as_html(after))
    assert parsed.data("cell-0")["suites"][0]["change"] == ["broken", ": passed → failed"]
    assert parsed.all("a", class_="k-broken") == ["1 broken"]
    assert len(parsed.all("a", class_="changed")) == 1


# -- nothing from results becomes part of the page -------------------------------------------------------------------


def test_the_page_needs_no_other_file_and_its_policy_allows_none(week: Merged) -> None:
    text = page.as_html(week)
    parsed = Page(text)
    (policy,) = [
        has["content"] or "" for _, has in parsed.elements if has.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (own,) = [
            parsed.texts[at] for at, (name, has) in enumerate(parsed.elements) if name == tag and "type" not in has
        ]
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"url\(|@import|\bsrc=", text)
    assert not {"link", "img", "iframe", "object"} & {name for name, _ in parsed.elements}
    assert not [has for _, has in parsed.elements if any(key == "style" or key.startswith("on") for key in has)]


def test_hostile_text_is_text_everywhere(tmp_path: Path) -> None:
    odd = cell(HOSTILE, HOSTILE, HOSTILE, HOSTILE, arch=HOSTILE)
    tests = [TestOutcome(name=HOSTILE, outcome=state, message=HOSTILE, reruns=1) for state in TestState]
    bad = result(odd, HOSTILE, Outcome.FAILED, tests=tests, run=HOSTILE, reason=HOSTILE, reused_from=HOSTILE)
    plain = result(REAL, tests=[made.passed("t::a")])
    store.write(bad, tmp_path / "results/r/c/s/result.json")
    clean, dirty = (Page(page.as_html(it)) for it in (merged_of(tmp_path / "clean", plain), merged_of(tmp_path, plain)))
    assert {name for name, _ in dirty.elements} <= {name for name, _ in clean.elements} | {"b", "select", "option"}
    scripts = [has for name, has in dirty.elements if name == "script"]
    assert [has for has in scripts if has.get("type") != "application/json"] == [{}]
    for name, has in dirty.elements:
        if name == "a":
            assert re.match(r"#|https://github\.com/", has["href"] or "")
        assert not any(key.startswith("on") for key in has)
    number = next(at for at, it in enumerate(dirty.data("index")["cells"]) if it[0] == odd.id)
    assert dirty.data(f"cell-{number}")["suites"][0]["reason"].endswith(f"\n{HOSTILE}")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("NVIDIA/enroot#273", "https://github.com/NVIDIA/enroot/issues/273"),
        ("https://example.org/1", "https://example.org/1"),
        ("javascript:alert(1)", ""),
        ("https://x/\"onclick='", ""),
        ("see NVIDIA/enroot#273", ""),
        ("", ""),
    ],
)
def test_only_addresses_are_linked_to(text: str, address: str) -> None:
    assert page.issue_address(text) == address


def test_seconds_that_make_no_sense_do_not_break_the_plot(tmp_path: Path) -> None:
    odd = replace(result(REAL), timings={"images": -3.0, "tests": 0.0, "<b>": 1e300})
    parsed = Page(page.as_html(merged_of(tmp_path, odd)))
    assert all(float(has["width"] or 0) >= 0 for name, has in parsed.elements if name == "rect")


def test_every_state_has_a_look_of_its_own() -> None:
    css = (Path(page.__file__).parent / "assets/report.css").read_text(encoding="utf-8")
    assert [state for state in State if f".s-{state.replace(' ', '-')} {{" not in css] == []


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Does `sbatch --x=<y>` work?", "Does <code>sbatch --x=&lt;y&gt;</code> work?"),
        ("one ` alone", "one ` alone"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_what_stands_between_backticks_is_code(text: str, html: str) -> None:
    assert page.coded(text) == html
