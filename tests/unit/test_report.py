"""`ci.results.report`: what people read, and that the embedded runtime is never taken for the real one."""

from datetime import UTC, datetime, timedelta
import io
from pathlib import Path
import re
from xml.etree import ElementTree as ET

from msgspec.structs import replace
import pytest
from rich.console import Console as RichConsole

from ci.errors import ResultsError
from ci.results import report, store
from ci.results.outcomes import Outcome, TestOutcome, TestState
from ci.results.report import Format
from ci.results.store import ArtefactRecord, CellRecord, ImageRecord, Result
from ci.terminal.console import Console

REAL = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"
OTHER = "slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64"
EMBEDDED = "slurm22.05-embedded-debian12-amd64"
LEGACY = "slurm22.05-legacy-debian12-amd64"


def a_test(name: str, state: str = "passed", message: str = "", reruns: int = 0) -> TestOutcome:
    return TestOutcome(name=name, outcome=TestState(state), seconds=1.0, message=message, reruns=reruns)


def result(cell: str, outcome: str, *tests: TestOutcome, suite: str = "pyxis_basic", reason: str = "") -> Result:
    runtime = next((name for name in ("embedded", "legacy") if name in cell), "nvidia")
    return Result(
        run="r1",
        cell=CellRecord(id=cell, runtime=runtime),
        suite=suite,
        outcome=Outcome(outcome),
        exit_code=0,
        again=f'nox -s "{suite}({cell})"',
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        seconds=41.2,
        reason=reason,
        versions={"kernel": "6.1.0", "pyxis": "0.19.0", "slurm": "22.05.8"},
        timings={"images": 20.04, "tests": 17.0},
        tests=tests,
        images=(ImageRecord(name="base", tag="ab", digest="sha256:1", built=True, seconds=3.0, size=173_000_000),),
        artefacts=(ArtefactRecord(path="a.deb", source="mirror", sha256="0" * 64, verified_against=""),),
    )


PASSED = result(REAL, "passed", a_test("t::a"))
FAILED = result(
    REAL,
    "failed",
    a_test("t::a"),
    a_test("t::mount <ro>|x", "failed", "AssertionError: 1 == 2\nsecond line"),
    a_test("t::gpu", "skipped", "no GPU here"),
    a_test("t::gpus", "skipped", "no GPU here"),
    a_test("t::known", "xfailed", "pyxis#175"),
    suite="pyxis_conformance",
)
SKIPPED = result(OTHER, "skipped", reason="enroot 4.1.2 not found; pass --mirror DIR")
ON_EMBEDDED = result(EMBEDDED, "passed", a_test("t::a"))
ALL = (PASSED, FAILED, SKIPPED, ON_EMBEDDED, result(LEGACY, "passed", a_test("t::a"), suite="legacy_integration"))


# -- the verdict ----------------------------------------------------------------------------------------------------


def test_the_verdict_counts_each_runtime_apart() -> None:
    assert report.verdict([PASSED, ON_EMBEDDED]) == (
        "real cells: 1 passed; embedded: 1 passed (not a compatibility verdict)"
    )


def test_embedded_and_legacy_alone_say_nothing_about_real_cells() -> None:
    words = report.verdict([ON_EMBEDDED, result(LEGACY, "passed", a_test("x"))])
    assert words.startswith("real cells: none run; ")
    assert "legacy: 1 passed (no containers)" in words


def test_a_failure_on_embedded_is_not_counted_as_a_real_one() -> None:
    assert report.verdict([PASSED, result(EMBEDDED, "failed")]).startswith("real cells: 1 passed; embedded: 1 failed")


def test_a_cell_is_as_good_as_its_worst_suite() -> None:
    assert report.verdict([PASSED, FAILED, SKIPPED]) == "real cells: 1 failed, 1 skipped"
    skipped = result(REAL, "skipped", suite="registry")
    assert report.verdict([PASSED, skipped]) == "real cells: 1 skipped"


# -- terminal and plain text ----------------------------------------------------------------------------------------


def test_plain_text_names_everything_that_is_needed_next() -> None:
    text = report.as_text(ALL, root=Path("results/r1"))
    assert "3 passed" not in text
    assert "1 passed, 1 failed, 2 skipped, 1 known failure" in text
    assert "images 20.0 · tests 17.0 s" in text
    assert "failed: t::mount <ro>|x: AssertionError: 1 == 2\n" in text
    assert "second line" not in text
    assert "2 skipped: no GPU here" in text
    assert f"logs: results/r1/{REAL}/pyxis_conformance/logs" in text
    assert f'again: nox -s "pyxis_conformance({REAL})"' in text
    assert "enroot 4.1.2 not found; pass --mirror DIR" in text
    assert f"{EMBEDDED} [embedded]" in text
    assert text.splitlines()[-1] == report.verdict(ALL)


def test_what_passed_needs_no_further_words() -> None:
    assert "again:" not in report.as_text([PASSED])


RERUN = result(
    REAL,
    "passed",
    a_test("t::a"),
    a_test("t::b", "passed", "failed to list the image\nmore", reruns=1),
    a_test("t::c", "xfailed", "pyxis#175", reruns=1),
)


def test_a_second_try_is_said_also_where_the_suite_passed() -> None:
    text = report.as_text([PASSED, RERUN])
    assert "2 passed, 1 known failure, 2 reruns · images" in text
    assert "  1 rerun: t::b passed; before, it failed: failed to list the image\n" in text
    assert text.count("\n  ") == 1 + 3, "nothing is said of the suite that passed at once"
    assert "2 passed, 1 known failure, 2 reruns" in report.as_markdown([RERUN])
    assert "1 rerun: t::b passed; before, it failed: failed to list the image" in report.as_markdown([RERUN])
    page = [" ".join("".join(element.itertext()).split()) for element in html(RERUN).iter()]
    assert "2 passed, 1 known failure, 2 reruns" in page
    assert "1 rerun: t::b passed; before, it failed: failed to list the image" in page


def test_a_test_that_failed_at_every_try_says_how_many() -> None:
    (remark,) = report.remarks(result(REAL, "failed", a_test("t::b", "failed", "no", reruns=4)))
    assert remark == "failed: t::b (after 4 reruns): no"


def test_tests_that_failed_for_the_same_reason_share_a_line() -> None:
    gone = [a_test(f"t::{name}", "error", f"setup failed: no registry\n{name}") for name in "abcdefgh"]
    assert report.remarks(result(REAL, "failed", gone[0], a_test("t::x", "failed", "1 == 2"), *gone[1:])) == [
        "failed: t::x: 1 == 2",
        "8 errors: setup failed: no registry (t: a, b, c and 5 more)",
    ]


def test_tests_of_several_files_that_share_a_line_keep_their_files() -> None:
    gone = [a_test(name, "failed", "no registry", reruns=1) for name in ("t::a", "u::a")]
    assert report.remarks(result(REAL, "failed", *gone)) == [
        "2 failed: no registry (t::a (after 1 rerun), u::a (after 1 rerun))"
    ]


def test_an_interrupted_suite_names_the_test_that_was_running() -> None:
    stopped = result(REAL, "interrupted", a_test("t::a"), a_test("t::b", "interrupted", "x"), reason="ended by SIGTERM")
    text = report.as_text([stopped])
    assert "1 passed, 1 interrupted" in text
    assert "  interrupted: ended by SIGTERM\n  interrupted: t::b: x\n" in text


def test_a_suite_that_never_began_has_no_logs() -> None:
    assert "logs:" not in report.as_text([SKIPPED], root=Path("results/r1"))


def test_no_results_are_said_to_be_none() -> None:
    assert report.as_text([]).strip() == "real cells: none run"


@pytest.mark.parametrize("width", [20, 80, 200])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    out = io.StringIO()
    RichConsole(file=out, width=width, color_system=None).print(report.summarise(ALL), soft_wrap=True)
    assert out.getvalue().count(REAL) == report.as_text(ALL).count(REAL)
    assert "…" not in out.getvalue()


def test_where_there_is_room_it_is_a_table() -> None:
    out = io.StringIO()
    RichConsole(file=out, width=200, color_system=None).print(report.summarise(ALL))
    head, first = out.getvalue().splitlines()[:2]
    assert head.split() == ["cell", "suite", "outcome", "tests", "images", "s", "tests", "s"]
    assert re.fullmatch(rf"{re.escape(REAL)} +pyxis_basic +✓ passed +1 passed +20\.0 +17\.0 *", first)


def test_phases_come_in_the_order_of_a_run_and_unknown_ones_last() -> None:
    odd = replace(PASSED, timings={"brewing": 1.0, "teardown": 1.0, "images": 1.0})
    assert report.phases([odd, PASSED]) == ["images", "tests", "teardown", "brewing"]


def test_show_writes_plain_text_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    report.show(ALL, stream=out)
    assert out.getvalue() == report.as_text(ALL)


# -- Markdown -------------------------------------------------------------------------------------------------------


def test_markdown_is_dated_and_has_a_table_per_runtime() -> None:
    text = report.as_markdown(ALL)
    assert text.startswith("# Container jobs on Slurm: 2026-01-02 03:04 UTC\n")
    assert "## Embedded runtime (not a compatibility verdict)" in text
    real, rest = text.split("## Embedded runtime")
    assert EMBEDDED not in real
    assert f"| `{EMBEDDED}` |" in rest
    assert f"[logs]({REAL}/pyxis_basic/logs/)" in real
    assert "- skipped: enroot 4.1.2 not found; pass --mirror DIR | not run |" in real
    assert "slurm 22.05.8, pyxis 0.19.0, kernel 6.1.0" in real


def test_markdown_tables_have_as_many_cells_in_every_row() -> None:
    odd = result(REAL, "skipped", reason="a|b\nc")
    for text in (report.as_markdown(ALL), report.as_markdown([odd])):
        blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
        assert blocks
        for block in blocks:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


# -- HTML -----------------------------------------------------------------------------------------------------------


def html(*of: Result) -> ET.Element:
    """Parse the page: it is well-formed XML but for its void elements and boolean attributes."""
    text = re.sub(r"<!doctype html>|<meta [^>]*>", "", report.as_html(of))
    return ET.fromstring(text)  # noqa: S314 - our own page


def test_the_page_needs_no_other_file_and_runs_no_script() -> None:
    page = html(*ALL)
    names = {element.tag for element in page.iter()}
    assert not names & {"script", "link", "img", "iframe"}
    assert not re.search(r"url\(|@import|https?:", report.as_html(ALL))


def test_the_page_says_each_outcome_in_words() -> None:
    page = html(*ALL)
    links = [" ".join("".join(a.itertext()).split()) for a in page.iter("a") if "outcome" in a.get("class", "")]
    assert links == ["✓ passed", "✗ failed", "- skipped", "✓ passed", "✓ passed"]


def test_every_link_of_the_page_leads_somewhere() -> None:
    page = html(*ALL)
    ids = {element.get("id") for element in page.iter() if element.get("id")}
    links = [a.get("href", "") for a in page.iter("a")]
    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    logs = {link for link in links if not link.startswith("#")}
    assert logs == {f"{each.cell_id}/{each.suite}/logs/" for each in ALL if each is not SKIPPED}


def test_the_page_keeps_the_embedded_runtime_apart() -> None:
    page = html(*ALL)
    tables = [" ".join(table.itertext()) for table in page.iter("table")][:3]
    assert [REAL in table for table in tables] == [True, False, False]
    assert [EMBEDDED in table for table in tables] == [False, True, False]
    titles = [" ".join("".join(title.itertext()).split()) for title in page.iter("h2")]
    assert "Embedded runtime not a compatibility verdict" in titles


def test_the_page_begins_with_real_cells_and_its_details_with_what_went_wrong() -> None:
    page = html(*ALL)
    assert [p.text for p in page.iter("p") if p.get("class") == "verdict"] == ["Real cells: 1 failed, 1 skipped"]
    details = [section.get("id", "").rpartition("/")[2] for section in page.iter("section")]
    assert details == ["pyxis_conformance", "pyxis_basic", "pyxis_basic", "pyxis_basic", "legacy_integration"]


def test_suites_stand_in_the_order_in_which_they_were_begun() -> None:
    later = replace(PASSED, suite="a_later_suite", started=PASSED.started + timedelta(seconds=1))
    (section,) = report.sections([later, PASSED])
    assert section.suites == ("pyxis_basic", "a_later_suite")
    assert section.rows == ((REAL, (PASSED, later)),)


def test_text_from_tests_can_not_break_the_page() -> None:
    nasty = result(REAL, "failed", a_test("t::x", "failed", '<script>alert(1)</script> & "quotes"'))
    page = html(nasty)
    assert not list(page.iter("script"))
    assert any("<script>alert(1)</script>" in "".join(item.itertext()) for item in page.iter("li"))


def test_a_page_without_results_says_so() -> None:
    assert "This run has no results." in "".join(html().itertext())


# -- from the folder of a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "words"), [("text", "✓ passed"), ("md", "# Container jobs"), ("html", "<!doctype")])
def test_a_run_is_reported_from_its_folder(tmp_path: Path, wanted: str, words: str) -> None:
    store.write(PASSED, tmp_path / REAL / "pyxis_basic" / "result.json")
    out, messages = io.StringIO(), io.StringIO()
    report.report(tmp_path, format=Format(wanted), stream=out, console=Console(stream=messages, environ={}))
    assert out.getvalue().startswith(words)
    assert messages.getvalue() == ""


def test_a_result_that_can_not_be_read_is_named_and_the_rest_reported(tmp_path: Path) -> None:
    store.write(PASSED, tmp_path / REAL / "pyxis_basic" / "result.json")
    broken = tmp_path / OTHER / "pyxis_basic" / "result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    out, messages = io.StringIO(), io.StringIO()
    report.report(tmp_path, format=Format.TEXT, stream=out, console=Console(stream=messages, environ={}))
    assert REAL in out.getvalue()
    assert str(broken) in messages.getvalue()


def test_a_run_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="run not found"):
        report.report(tmp_path / "nope", format=Format.TEXT, stream=io.StringIO())
