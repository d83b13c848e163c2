"""All forms of the report, asked the same about the same results through the command that people type."""

from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
import html
import io
import json
from pathlib import Path
import re
import sys
from typing import Any
from xml.etree import ElementTree as ET

from msgspec.structs import replace
import pytest

from ci.cli.main import main
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import Result
from ci.report import forms
from ci.report.words import HAZARD
from tests.support import results as made
from tests.support.questions import OF_SUBJECTS, QUESTIONS, questions
from tests.support.results import BEGIN, cell, passed, result
from tests.support.tag_archives import COMMIT

DOCS = Path(__file__).resolve().parents[2] / "docs/read-a-report.md"
REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
NEWER = cell("24.11", "debian13", "4.1.2", "0.24.0")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
LEGACY = cell("22.05", "debian12", kind="legacy")
MANY = [cell("22.05", "debian12", "3.4.1", f"0.{minor}.0") for minor in range(19, 26)]
SUITE = "pyxis_conformance"
LATER = BEGIN + timedelta(days=1)


def a_test(state: TestState, reruns: int = 0) -> TestOutcome:
    return TestOutcome(name=f"t::{state}", outcome=state, message=f"why {state}", reruns=reruns)


def seeing(**saw: str) -> list[TestOutcome]:
    """Return a test that saw answers, each of a question whose id is written with underscores here."""
    pairs = tuple((name.replace("_", "-"), answer) for name, answer in saw.items())
    return [TestOutcome(name="t::sees", outcome=TestState.PASSED, saw=pairs)]


KNOWN = (passed("t::a"), a_test(TestState.XFAILED))
MIXED = (passed("t::a"), *map(a_test, TestState), a_test(TestState.PASSED, 2))
RED = tuple(it for it in MIXED if it.outcome is not TestState.PASSED)
CASES = {
    "a known failure, and a suite that was skipped": (
        result(REAL, tests=KNOWN),
        result(NEWER),
        result(NEWER, "registry", Outcome.SKIPPED, tests=[], reason="no mirror"),
    ),
    **{
        f"{outcome} alone": (result(REAL, outcome=outcome, tests=[passed("t::a")] if outcome.good else []),)
        for outcome in Outcome
        if outcome is not Outcome.SUCCEEDED
    },
    "every outcome of a test": (result(REAL, outcome=Outcome.FAILED, tests=MIXED),),
    "only known failures": (result(REAL, outcome=Outcome.SKIPPED, tests=KNOWN[1:]),),
    "taken from an earlier run": (result(REAL, reused_from="earlier"),),
    "a command": (result(REAL, "command", Outcome.SUCCEEDED, tests=[]),),
    "a suite of one's own beside": (result(REAL), result(REAL, "theirs", Outcome.FAILED)),
    "all runtimes": (
        result(REAL, outcome=Outcome.FAILED, tests=MIXED),
        result(NEWER, "registry", tests=KNOWN),
        result(EMBEDDED, outcome=Outcome.ERROR, tests=[], reason="no cluster"),
        result(LEGACY, "legacy_integration"),
    ),
    "what is not released": (
        result(REAL),
        result(cell("22.05", "debian12", "3.4.1", "0.24.0+g1a2b3c4"), outcome=Outcome.FAILED, tests=RED),
        result(cell("26.11.0+g1a2b3c4", "debian12", kind="embedded"), "registry", tests=KNOWN),
    ),
    "embedded alone": (result(EMBEDDED), result(EMBEDDED, "registry", Outcome.PARTLY)),
    "an older failure": (result(REAL, outcome=Outcome.FAILED, run="a"), result(REAL, run="b", started=LATER)),
    "an older pass": (result(REAL, run="a"), result(REAL, outcome=Outcome.FAILED, run="b", started=LATER)),
    "hazards": (
        result(REAL, "pyxis_conformance", tests=seeing(by_slurm="on the host", everywhere="hangs", by_os="otherwise")),
        result(REAL, "registry", tests=seeing(by_enroot="old", by_two_axes="refused"), started=LATER),
        result(NEWER, "pyxis_conformance", Outcome.FAILED, tests=[*seeing(everywhere="hangs"), *RED]),
        result(NEWER, "theirs", tests=seeing(by_slurm="on the host")),
        result(EMBEDDED, "pyxis_conformance", tests=seeing(by_slurm="in the image", no_longer="asked")),
    ),
    "suites that began in another order than they are called": (
        result(REAL, "registry", tests=KNOWN),
        result(REAL, "pyxis_basic", Outcome.FAILED, started=LATER),
        result(NEWER, "registry", Outcome.ERROR, started=LATER),
    ),
}
Marks = tuple[int, ...]
Suite = tuple[str, str, str]
"""A cell, a suite and the word for what it came to."""


class Asked:
    """The report of some results in each form, and what it answers."""

    def __init__(self, folder: Path, *of: Result) -> None:
        """Make the report in all forms, by the command."""
        made.write(folder / "results", *of)
        self.forms, self.statuses = {}, set()
        for name in ("text", "md", "html", "json"):
            with redirect_stdout(io.StringIO()) as out:
                self.statuses.add(main(["report", str(folder / "results"), "--format", name]))
            self.forms[name] = out.getvalue()
        main(["report", str(folder / "results"), "--output", str(folder / "report")])
        self.junit = ET.parse(folder / "report/junit.xml").getroot()  # noqa: S314 - our own file
        self.json = json.loads(self.forms["json"])
        data = re.findall(r'<script type="application/json" id="(\S+)">(.*?)</script>', self.forms["html"])
        self.page: dict[str, Any] = {name: json.loads(text) for name, text in data}

    def verdicts(self) -> dict[str, str]:
        """Return the sentence of each form."""
        shown = re.findall(
            r'<p class="(?:verdict|quiet)">(?:<span.*?</span>|Not counted: )(.*)</p>', self.forms["html"]
        )
        (markdown,) = re.findall(r"^\*\*(.*)\.\*\*$", self.forms["md"], re.MULTILINE)
        return {
            "text": self.forms["text"].splitlines()[-1],
            "md": markdown,
            "html": html.unescape("; ".join(shown)).replace("Real", "real", 1),
            "json": "; ".join(map(self._sentence, self.json["verdicts"])),
            "junit": self.junit.get("name", "").partition(": ")[2],
        }

    def _sentence(self, verdict: dict[str, Any]) -> str:
        """Say what `compat.json` counts; the words are those of docs/read-a-report.md, the order is its own."""
        names = {
            "nvidia": ("real cells", ""),
            "embedded": ("embedded", " (not a compatibility verdict)"),
            "legacy": ("legacy", " (no containers)"),
            "own": ("suites and commands of your own", " (no verdict on their cells)"),
        }
        words = {"known failure": "with known failures"}
        runtime, _, unreleased = verdict["runtime"].partition(", ")
        label, remark = names[runtime]
        if unreleased:
            remark = f" ({'; '.join(filter(None, ['not counted with releases', remark.strip(' ()')]))})"
            label = f"{label}, {unreleased}"
        counts = ", ".join(f"{number} {words.get(state, state)}" for state, number in verdict["counts"].items())
        return f"{label}: {counts or 'none run'}{remark}"

    def suites(self) -> dict[str, list[Suite]]:
        """Return what each suite came to, in the order of each form that lists all suites."""
        states = [state for state, _, _ in self.page["index"]["states"]]
        names, cells = self.page["index"]["suites"], self.page["index"]["cells"]
        return {
            "text": [(it[3], it[4], it[2]) for it in self._heads()],
            "json": [(of["id"], it["suite"], it["state"]) for of in self.json["cells"] for it in of["suites"]],
            "html": [(it[0], names[int(suite)], states[at]) for it in cells for suite, at in it[2].items()],
            "junit": [(it["cell"], it["suite"], it["state"]) for it in self._properties()],
        }

    def signs(self) -> dict[str, dict[str, str]]:
        """Return the sign of each word that is in a form."""
        return {
            "text": {
                state: sign for sign, state in re.findall(r"^(\S) (.+?) {2,}slurm", self.forms["text"], re.MULTILINE)
            },
            "md": {it[1]: it[0] for it in re.findall(r"\| (\S) ([a-z ]+?)(?= \(|<br>| \|)", self.forms["md"])},
            "html": {state: sign for state, _, sign in self.page["index"]["states"]},
        }

    def tests(self) -> dict[str, list[str]]:
        """Return how each form counts the tests of each suite, in words."""
        return {
            "text": re.findall(r"^ {8,}(.*?)(?: \(unchanged.*?\))? · ", self.forms["text"], re.MULTILINE),
            "html": [it["tests_counted"] for at, of in self.page.items() if "cell-" in at for it in of["suites"]],
            "junit": [it["tests"] for it in self._properties()],
        }

    def runs(self) -> dict[str, list[str]]:
        """Return the run whose result counts, for each suite."""
        return {
            "html": [it["run"] for at, of in self.page.items() if "cell-" in at for it in of["suites"]],
            "json": [it["run"] for of in self.json["cells"] for it in of["suites"]],
            "junit": [it["run"] for it in self._properties()],
        }

    def hazards(self) -> dict[str, dict[str, int]]:
        """Return on how many cells each hazard was seen."""
        shown = re.findall(
            rf"{HAZARD}</span> <b>\S+</b> <code>(\S+)</code>.*?<p class=\"quiet\">(\d+) cell",
            self.forms["html"],
            re.DOTALL,
        )
        cells: dict[str, set[str]] = {}
        for it in self._properties():
            for question in QUESTIONS.values():
                dangerous = {answer.name for answer in question.answers if answer.kind == "hazard"}
                if it.get(f"saw {question.id}", "") in dangerous:
                    cells.setdefault(question.id, set()).add(it["cell"])
        found = {
            "text": re.findall(rf"^{HAZARD} (\S+) on (\d+) cells?: ", self.forms["text"], re.MULTILINE),
            "md": re.findall(rf"^- {HAZARD} `(\S+)` on (\d+) cells?: ", self.forms["md"], re.MULTILINE),
            "html": shown,
            "json": Counter(name for of in self.json["cells"] for name in of.get("hazards", ())).items(),
            "junit": [(name, len(of)) for name, of in cells.items()],
        }
        return {form: {name: int(number) for name, number in pairs} for form, pairs in found.items()}

    def marks_of_suites(self) -> dict[str, list[Marks]]:
        """Return how many hazards each suite saw, and how much refused; in the order of each form that lists suites."""
        lines = re.findall(r"^ {8,}(.*)$", self.forms["text"], re.MULTILINE)
        return {
            "text": [_numbers(line) for line in lines],
            "html": [tuple(of[9].get(suite, (0, 0))) for of in self.page["index"]["cells"] for suite in of[2]],
            "json": [_of_json(it) for of in self.json["cells"] for it in of["suites"]],
            "junit": [(int(it["hazards"]), int(it["refused"])) for it in self._properties()],
        }

    def marks_of_cells(self) -> dict[str, list[Marks]]:
        """Return what the boxes say, in no order; those of the page say it without a script, too."""
        boxes = re.findall(r'<a class="box s-.*?</a>', self.forms["html"])
        markdown = [it for it in re.findall(r"(?<=\| )[^|]+(?= \|)", self.forms["md"]) if re.match(r"\S [a-z]", it)]
        found = {
            "md": [_numbers(it) for it in markdown if "not run" not in it],
            "html": [_numbers(re.sub("<.*?>", "", it)) for it in boxes if "not-run" not in it],
            "page's script": [tuple(it[8]) for it in self.page["index"]["cells"] if it[1] != self._not_run()],
            "json": [_of_json(it) for it in self.json["cells"] if it["state"] != "not run"],
        }
        return {form: sorted(numbers) for form, numbers in found.items()}

    def _not_run(self) -> int:
        return [state for state, _, _ in self.page["index"]["states"]].index("not run")

    def _heads(self) -> list[re.Match[str]]:
        pattern = r"^(\S) (.+?) {2,}(\S+)(?: \[[\w, ]+\])? {2}(\S+)$"
        return list(re.finditer(pattern, self.forms["text"], re.MULTILINE))

    def _properties(self) -> list[dict[str, str]]:
        return [
            {it.get("name", ""): it.get("value", "") for it in suite.iter("property")}
            for suite in self.junit.iter("testsuite")
        ]


def _numbers(text: str) -> Marks:
    """Return how many hazards a line or a box says, and how much that is refused; none where it says nothing."""
    found = re.findall(rf"{HAZARD} (\d+) hazard(s?)", text)
    refused = re.findall(r"⊘ (\d+) refused", text)
    assert max(len(found), len(refused)) <= 1
    assert all((number == "1") == (not plural) for number, plural in found)
    return (int(found[0][0]) if found else 0, int(refused[0]) if refused else 0)


def _of_json(of: dict[str, Any]) -> Marks:
    return len(of.get("hazards", ())), len(of.get("refused", ()))


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Return the report of one case in all its forms."""
    with questions():
        return Asked(tmp_path_factory.mktemp("forms"), *request.param)


@pytest.mark.parametrize(
    "question", [Asked.verdicts, Asked.suites, Asked.tests, Asked.runs], ids=lambda it: it.__name__
)
def test_all_forms_answer_the_same(asked: Asked, question: Callable[[Asked], dict[str, Any]]) -> None:
    first, *others = (answers := question(asked)).values()
    assert first, "it answers something"
    assert all(it == first for it in others), answers


@pytest.mark.parametrize(
    "question", [Asked.hazards, Asked.marks_of_suites, Asked.marks_of_cells], ids=lambda it: it.__name__
)
def test_all_forms_say_the_same_hazards(asked: Asked, question: Callable[[Asked], dict[str, Any]]) -> None:
    first, *others = (answers := question(asked)).values()
    assert all(it == first for it in others), answers


def test_a_hazard_is_said_and_is_no_failure(tmp_path: Path) -> None:
    (first, *_) = CASES["hazards"]
    with questions():
        asked = Asked(tmp_path, *CASES["hazards"])
        alone = Asked(tmp_path / "alone", first)
    assert asked.hazards().popitem()[1] == {"everywhere": 2, "by-slurm": 1}
    assert asked.hazards().keys() == forms.forms().keys()
    assert asked.marks_of_suites()["text"] == [(0, 0), (2, 0), (0, 1), (1, 0), (0, 0)]
    for form, told in (
        ("text", "⊘ 1 refused, with an error: by-two-axes\n"),
        ("md", "- ⊘ `by-two-axes` on 1 cell: What of by-two-axes? It says no."),
    ):
        assert told in asked.forms[form]
    assert alone.statuses == {0}
    assert alone.verdicts()["text"] == "real cells: 1 passed"
    for form in ("text", "md", "html", "json"):
        for told in ("The script runs on the host.", "Name the image in an srun.", "NVIDIA/pyxis", "Slurm <23.11"):
            assert told in html.unescape(alone.forms[form])


def test_a_hazard_names_its_versions_and_where_it_was_seen(tmp_path: Path) -> None:
    with questions():
        asked = Asked(tmp_path, *CASES["hazards"])
        alone = Asked(tmp_path / "many", *(result(it, SUITE, tests=seeing(everywhere="hangs")) for it in MANY))
    for form in ("text", "md", "html"):
        text = html.unescape(asked.forms[form]).replace("\\", "").replace("`", "")
        (line,) = (it for it in text.splitlines() if "The script runs on the host. (Slurm <23.11) Name the image" in it)
        if form != "html":
            assert line.endswith(f" Seen on {REAL.id}.")
    for form in ("text", "md"):
        text = alone.forms[form].replace("`", "")
        assert f" Seen on {', '.join(it.id for it in MANY[:5])} and {len(MANY) - 5} more.\n" in text


def test_several_subjects_are_rows_of_a_table_for_each_cell(tmp_path: Path) -> None:
    """In Markdown; in the page they are rows of what each version answers. What was not asked is said."""
    answers = {"cancels-one-tool": "well", "fails-one-tool": "on the host", "cancels-other-tool": "well"}
    both = result(REAL, tests=made.saw(answers)), result(NEWER, tests=made.saw({"fails-one-tool": "well"}))
    with questions(OF_SUBJECTS):
        forms_of = Asked(tmp_path, *both, result(EMBEDDED)).forms
    tables = forms_of["md"].split("## Subjects on ")[1:]
    first, second = (it.partition("\n\n## ")[0].split() for it in tables)
    heads = f"`{REAL.id}` | | What of cancels? | What of fails? | |---|---|---|"
    rows = f"| **one-tool** | well | {HAZARD} on the host | | **other-tool** | well | not observed |"
    assert " ".join(first) == f"{heads} {rows}"
    assert " ".join(second) == f"`{NEWER.id}` | | What of fails? | |---|---| | **one-tool** | well |"
    assert "one-tool: What of fails?" in forms_of["html"]


def test_a_report_names_the_commits_whose_tests_ran(tmp_path: Path) -> None:
    changed = f"{COMMIT[:-1]}0-dirty"
    pair = (replace(result(REAL), commit=COMMIT), replace(result(NEWER), commit=changed))
    asked = Asked(tmp_path, *pair)
    assert f"; pyxis-matrix at `{COMMIT}`; pyxis-matrix at `{changed}`." in asked.forms["md"]
    suites = [suite["commit"] for cell in json.loads(asked.forms["json"])["cells"] for suite in cell["suites"]]
    assert suites == [COMMIT, changed]
    assert COMMIT in asked.forms["html"]
    assert "at `" not in Asked(tmp_path / "unknown", result(REAL)).forms["md"]


def test_every_form_is_asked_and_documented(asked: Asked) -> None:
    assert asked.verdicts().keys() == forms.forms().keys()
    text = DOCS.read_text(encoding="utf-8")
    assert [form.FILE for form in forms.forms().values() if form.FILE and f"| `{form.FILE}` |" not in text] == []


def test_a_form_is_added_by_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(
        'NAME, FILE = "count", "count.txt"\n\ndef pieces(merged):\n    yield f"{len(merged.compat.cells)} cells\\n"\n'
    )
    monkeypatch.setattr(forms, "__path__", [*forms.__path__, str(tmp_path)])
    forms.forms.cache_clear()
    try:
        made.write(tmp_path / "results", result(REAL), result(NEWER))
        with redirect_stdout(io.StringIO()) as out:
            assert main(["report", str(tmp_path / "results"), "--format", "count"]) == 0
        assert out.getvalue() == "2 cells\n"
        assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "report")]) == 0
        assert (tmp_path / "report/count.txt").read_text() == "2 cells\n"
    finally:
        forms.forms.cache_clear()
        sys.modules.pop(f"{forms.__name__}.counting", None)


def test_a_word_has_one_sign_in_all_forms(asked: Asked) -> None:
    found: dict[str, set[str]] = {}
    for signs in asked.signs().values():
        for word, sign in signs.items():
            found.setdefault(word, set()).add(sign)
    assert {word: signs for word, signs in found.items() if len(signs) > 1} == {}
