"""`ci.report.model` and its forms that other programs read: what is promised of `compat.json`, JUnit, Markdown."""

from datetime import UTC, datetime, timedelta
import json
from pathlib import Path
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from ci.errors import ResultsError
from ci.record import store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.report import model, writing
from ci.report.forms import forms
from ci.report.merging import ReportRequest
from ci.report.model import Compat, Merged
from tests.support import results as made
from tests.support.results import Axes, Story, cell, result

DOCS = Path(__file__).resolve().parents[2] / "docs/read-a-report.md"
HOSTILE = '</script><script>alert(1)</script> ](javascript:x) | `\x00\x1b[31m\ud800 & "'
REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")


def text_of(merged: Merged, form: str) -> str:
    return "".join(forms()[form].pieces(merged))


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Merged:
    """Return a report of a week, with all that a report can have; made of two reports before it."""
    folder = tmp_path_factory.mktemp("week")
    cells = [*Axes().cells(), cell("22.05", "debian12", kind="embedded")]
    story, previous = Story(cells), None
    for night in range(3):
        made.write(folder / "results", *story.night(night, share=0.7))
        asked = ReportRequest(roots=(folder / "results",), base=folder / "report", previous=previous)
        merged = writing.merge(asked, now=lambda: datetime(2026, 12, 1, tzinfo=UTC))
        previous = merged.compat
    (folder / "results/foreign").mkdir()
    (folder / "results/foreign/result.json").write_text('{"schema": 99}')
    (folder / "results/run/cell/suite").mkdir(parents=True)
    (folder / "results/run/cell/suite/reportlog.jsonl").write_text("")
    return writing.merge(ReportRequest(roots=(folder / "results",), base=folder / "report", previous=previous))


@pytest.fixture
def hostile(tmp_path: Path) -> Merged:
    """Return a report of results that try to break out of it."""
    odd = made.cell(HOSTILE, HOSTILE, HOSTILE, HOSTILE, arch=HOSTILE)
    tests = [TestOutcome(name=HOSTILE, outcome=state, message=HOSTILE, reruns=1) for state in TestState]
    bad = result(odd, HOSTILE, Outcome.FAILED, tests=tests, run=HOSTILE, reason=HOSTILE)
    folder = tmp_path / "results/r/c/s"
    store.write(bad, folder / "result.json")
    return writing.merge(ReportRequest(roots=(tmp_path / "results",), base=tmp_path))


# -- compat.json ----------------------------------------------------------------------------------------------------


def test_the_keys_of_a_report_are_those_that_are_documented(merged: Merged) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert documented == [it.name for it in msgspec.structs.fields(Compat)]
    data = json.loads(text_of(merged, "json"))
    assert data.keys() <= set(documented)
    assert data.keys() >= {"cells", "changes", "problems"}


def test_a_report_survives_being_written_and_read(tmp_path: Path, merged: Merged) -> None:
    writing.write(merged, tmp_path)
    assert model.load(tmp_path / "compat.json") == merged.compat
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        filter(None, (it.FILE for it in forms().values()))
    )


def test_keys_of_a_newer_version_with_the_same_schema_are_ignored(tmp_path: Path, merged: Merged) -> None:
    data = json.loads(text_of(merged, "json")) | {"more": 1}
    (tmp_path / "compat.json").write_text(json.dumps(data))
    assert model.load(tmp_path / "compat.json") == merged.compat


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "invalid"),
        ("{", "invalid"),
        ("[" * 100_000, "invalid"),
        ('{"schema": 9}', f"schema 9, and this version of pyxis-matrix knows {model.SCHEMA}"),
        (f'{{"schema": {model.SCHEMA}}}', "missing required field `made`"),
    ],
)
def test_what_is_no_report_is_an_error_and_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    (tmp_path / "compat.json").write_text(content)
    assert writing.previous(tmp_path) is None
    said = capsys.readouterr().err
    assert words in said
    assert (tmp_path / "compat-unreadable.json").read_text() == content
    assert "compat-unreadable.json" in said


def test_a_folder_without_a_report_has_no_previous_one(tmp_path: Path) -> None:
    assert writing.previous(tmp_path) is None
    with pytest.raises(ResultsError, match="failed to read a report"):
        model.load(tmp_path / "compat.json")


def test_a_clock_out_of_its_mind_does_not_stop_a_report() -> None:
    late = datetime.max.replace(tzinfo=UTC) - timedelta(hours=1)
    far = late.replace(tzinfo=None).replace(tzinfo=model.utc(late).tzinfo)
    assert model.utc(far) == late.replace(microsecond=0)
    west = datetime.max.replace(tzinfo=UTC).astimezone(UTC)
    assert model.utc(west).year == 9999


# -- JUnit ----------------------------------------------------------------------------------------------------------


def parsed(merged: Merged, folder: Path) -> ET.Element:
    writing.write(merged, folder)
    return ET.parse(folder / "junit.xml").getroot()  # noqa: S314 - our own file


def test_one_junit_file_has_every_test_of_every_suite(tmp_path: Path, merged: Merged) -> None:
    root = parsed(merged, tmp_path)
    counts = sum(sum(suite.counts.values()) for _, suite in merged.compat.results())
    whole = [case for case in root.iter("testcase") if case.get("name") == "the suite as a whole"]
    assert len(list(root.iter("testcase"))) == counts + len(whole) == int(root.get("tests", 0))
    for kind in ("failure", "error", "skipped"):
        plural = kind if kind == "skipped" else f"{kind}s"
        assert len(list(root.iter(kind))) == int(root.get(plural, -1))
        for suite in root:
            assert len(list(suite.iter(kind))) == int(suite.get(plural, -1))
    names = [(suite.get("name"), case.get("classname")) for suite in root for case in suite.iter("testcase")]
    assert all(name == classname for name, classname in names)


def test_a_suite_that_is_red_without_a_test_that_is_has_one_in_junit(tmp_path: Path) -> None:
    made.write(tmp_path, result(REAL, outcome=Outcome.ERROR, tests=[], reason="no cluster"))
    made.write(tmp_path, result(REAL, "registry", Outcome.SKIPPED, tests=[], reason="no mirror"))
    root = parsed(writing.merge(ReportRequest(roots=(tmp_path,), base=tmp_path)), tmp_path / "out")
    assert [(it.tag, it.get("message")) for it in root.iter() if it.tag in {"error", "skipped"}] == [
        ("error", "no cluster"),
        ("skipped", "no mirror"),
    ]


def test_hostile_text_is_text_in_junit(tmp_path: Path, hostile: Merged) -> None:
    root = parsed(hostile, tmp_path)
    assert not list(root.iter("script"))
    assert next(root.iter("testcase")).get("name", "").startswith("</script><script>")
    assert "\x00" not in (tmp_path / "junit.xml").read_text()


# -- second tries ---------------------------------------------------------------------------------------------------


def test_a_further_try_is_told_in_every_form(tmp_path: Path) -> None:
    tests = [TestOutcome(name="t::late", outcome=TestState.PASSED, reruns=2, message="no route\nmore")]
    worse = [*tests, TestOutcome(name="t::never", outcome=TestState.FAILED, reruns=1, message="no host")]
    of = [result(REAL, tests=tests), result(REAL, "registry", Outcome.FAILED, tests=worse)]
    made.write(tmp_path, *of)
    merged = writing.merge(ReportRequest(roots=(tmp_path,), base=tmp_path))
    text = text_of(merged, "md")
    assert text.count("2 reruns: t::late passed; before, it failed: no route") == 2
    assert "`t::never` (after 1 rerun): no host" in text
    plain = text_of(merged, "text")
    assert plain.count("2 reruns: t::late passed; before, it failed: no route") == 2
    assert plain.count("t::never (after 1 rerun): no host") == 1
    again = [it.text for it in parsed(merged, tmp_path / "out").iter("system-out")]
    assert again.count("passed after 2 reruns; before, it failed: no route\nmore") == 2
    assert '"reruns":2' in text_of(merged, "html")
    assert '"reruns": 2' in text_of(merged, "json")


# -- Markdown -------------------------------------------------------------------------------------------------------


def test_markdown_begins_with_the_verdict_and_has_a_grid_per_architecture(merged: Merged) -> None:
    text = text_of(merged, "md")
    assert text.startswith("# Container jobs on Slurm\n\n**real cells: ")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles[1:4] == [
        "Real enroot and Pyxis, amd64",
        "Real enroot and Pyxis, arm64",
        "Embedded runtime (not a compatibility verdict)",
    ]
    assert titles[0].startswith("Changed since 2026-12-01")
    assert {"What went wrong", "Known failures", "Could not be read", "Not finished (running, or killed)"} <= set(
        titles
    )
    assert "NVIDIA/enroot\\#273" in text


def tables_of(text: str) -> list[str]:
    return re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)


def test_markdown_tables_have_as_many_cells_in_every_row(merged: Merged, hostile: Merged) -> None:
    for report in (merged, hostile):
        blocks = tables_of(text_of(report, "md"))
        assert blocks
        for block in blocks:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_hostile_text_is_text_in_markdown(hostile: Merged) -> None:
    outside_code = re.sub(r"(?<!\\)`[^`\n]*`", "", text_of(hostile, "md"))
    assert not re.search(r"<(?!br>|---)", outside_code)
    assert not re.search(r"(?<!\\)\]\(javascript", outside_code)


def test_long_lists_are_counted_beyond_a_limit(tmp_path: Path) -> None:
    cells = made.many(201)
    made.write(tmp_path, *(result(it, outcome=Outcome.FAILED) for it in cells))
    report = writing.merge(ReportRequest(roots=(tmp_path,), base=tmp_path))
    assert "- and 1 more\n" in text_of(report, "md")
