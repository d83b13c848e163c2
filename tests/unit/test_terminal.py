"""`ci.report.forms.terminal`: what people read, and that the embedded runtime is never taken for the real one."""

from collections.abc import Callable
from datetime import UTC, datetime
import io
from pathlib import Path
import re

from msgspec.structs import replace
import pytest

from ci import errors
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.printable import printable
from ci.record.store import ArtefactRecord, CellRecord, ImageRecord, Result
from ci.report.forms import terminal
from ci.report.merging import of_results
from tests.support import results as made

REAL = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"
OTHER = "slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64"
EMBEDDED = "slurm22.05-embedded-debian12-amd64"
LEGACY = "slurm22.05-legacy-debian12-amd64"
_ON_12 = {"slurm": "22.05.8", "os": "debian12", "arch": "amd64"}
SEEN = {
    REAL: {**_ON_12, "enroot": "3.4.1", "pyxis": "0.19.0"},
    OTHER: {"slurm": "24.11.5", "enroot": "4.1.2", "pyxis": "0.24.0", "os": "debian13", "arch": "amd64"},
    EMBEDDED: _ON_12,
    LEGACY: _ON_12,
}


def a_test(name: str, state: str = "passed", message: str = "", reruns: int = 0) -> TestOutcome:
    return TestOutcome(name=name, outcome=TestState(state), seconds=1.0, message=message, reruns=reruns)


def result(cell: str, outcome: str, *tests: TestOutcome, suite: str = "pyxis_basic", reason: str = "") -> Result:
    runtime = next((name for name in ("embedded", "legacy") if name in cell), "nvidia")
    return Result(
        run="r1",
        cell=CellRecord(id=cell, runtime=runtime),
        suite=suite,
        outcome=Outcome(outcome),
        exit_code=0 if Outcome(outcome).good else 1,
        again=f'nox -s "{suite}({cell})"',
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        seconds=41.2,
        reason=reason,
        versions={**SEEN[cell], "kernel": "6.1.0"},
        timings={"images": 20.04, "tests": 17.0},
        tests=tests,
        selection=Selection(collected=len(tests)) if tests else None,
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


HERE = Path("results/r1")


def text_of(*results: Result, root: Path = HERE) -> str:
    return "".join(terminal.pieces(of_results(results, root)))


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True

    def text(self) -> str:
        """Return what is on it, without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that shows results on a terminal of a width, and returns what is seen."""

    def show(width: int, *results: Result) -> str:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        screen = Screen()
        terminal.show(of_results(results, HERE), screen)
        return screen.text()

    return show


def remarks(of: Result) -> list[str]:
    merged = of_results([of], HERE)
    ((_, suite),) = merged.compat.results()
    return terminal.remarks(merged.compat, suite)


def test_what_ran_in_part_says_why() -> None:
    part = result(REAL, "partly run", a_test("t::a"), reason="only a part of the suite was asked for: -k a")
    text = text_of(part)
    assert "partly run: only a part of the suite was asked for: -k a" in text
    assert "again:" not in text


def test_a_suites_own_expected_failure_is_not_called_a_known_one() -> None:
    text = text_of(result(REAL, "passed", a_test("t::a"), a_test("t::b", "expected failure", "ours"), reason="x"))
    assert "1 passed, 1 expected failure" in text
    assert "known failure" not in text


# -- terminal and plain text ----------------------------------------------------------------------------------------


def test_plain_text_names_everything_that_is_needed_next(tmp_path: Path) -> None:
    made.write(tmp_path, *ALL)
    text = text_of(*ALL, root=tmp_path / "r1")
    assert "3 passed" not in text
    assert "1 passed, 1 failed, 1 known failure, 2 skipped" in text
    assert "images 20.0 · tests 17.0 s" in text
    assert "failed: t::mount <ro>|x: AssertionError: 1 == 2\n" in text
    assert "second line" not in text
    assert "2 skipped: no GPU here" in text
    assert f"logs: {tmp_path}/r1/{REAL}/pyxis_conformance/logs" in text
    assert f'again: nox -s "pyxis_conformance({REAL})"' in text
    assert "enroot 4.1.2 not found; pass --mirror DIR" in text
    assert f"{EMBEDDED} [embedded]" in text
    assert text.splitlines()[-1].startswith("real cells: 1 failed, 1 not run; embedded: 1 passed (not a")


def test_what_passed_needs_no_further_words() -> None:
    assert "again:" not in text_of(PASSED)


RERUN = result(
    REAL,
    "passed",
    a_test("t::a"),
    a_test("t::b", "passed", "failed to list the image\nmore", reruns=1),
    a_test("t::c", "xfailed", "pyxis#175", reruns=1),
)


def test_a_second_try_is_said_also_where_the_suite_passed() -> None:
    text = text_of(PASSED, replace(RERUN, suite="registry"))
    assert "2 passed, 1 known failure, 2 reruns · images" in text
    assert "  1 rerun: t::b passed; before, it failed: failed to list the image\n" in text
    assert text.count("\n  ") == 1 + 3, "nothing is said of the suite that passed at once"


def test_a_test_that_failed_at_every_try_says_how_many() -> None:
    (remark,) = remarks(result(REAL, "failed", a_test("t::b", "failed", "no", reruns=4)))
    assert remark == "failed: t::b (after 4 reruns): no"


def test_tests_that_failed_for_the_same_reason_share_a_line() -> None:
    gone = [a_test(f"t::{name}", "error", f"setup failed: no registry\n{name}") for name in "abcdefgh"]
    assert remarks(result(REAL, "failed", gone[0], a_test("t::x", "failed", "1 == 2"), *gone[1:])) == [
        "failed: t::x: 1 == 2",
        "8 errors: setup failed: no registry (t: a, b, c and 5 more)",
    ]


def test_tests_of_several_files_that_share_a_line_keep_their_files() -> None:
    gone = [a_test(name, "failed", "no registry", reruns=1) for name in ("t::a", "u::a")]
    assert remarks(result(REAL, "failed", *gone)) == [
        "2 failed: no registry (t::a (after 1 rerun), u::a (after 1 rerun))"
    ]


@pytest.mark.parametrize(
    ("verified", "says"),
    [
        (
            "SHA256SUMS, differs from pins.toml",
            ["a mirror's own files, not those of upstream: v1.tar.gz differs from pins.toml"],
        ),
        ("differs from first seen", ["a mirror's own files, not those of upstream: v1.tar.gz differs from first seen"]),
        ("SHA256SUMS", []),
    ],
)
def test_files_that_are_not_upstreams_are_named_also_where_the_suite_passed(verified: str, says: list[str]) -> None:
    artefact = ArtefactRecord(path="a/v1.tar.gz", source="mirror", sha256="0" * 64, verified_against=verified)
    of = replace(PASSED, artefacts=(artefact,))
    assert remarks(of) == says
    assert [line.strip() for line in text_of(of).splitlines() if "mirror" in line] == says


def test_an_interrupted_suite_names_the_test_that_was_running() -> None:
    stopped = result(REAL, "interrupted", a_test("t::a"), a_test("t::b", "interrupted", "x"), reason="ended by SIGTERM")
    text = text_of(stopped)
    assert "1 passed, 1 interrupted" in text
    assert "  interrupted: ended by SIGTERM\n  interrupted: t::b: x\n" in text


def test_a_suite_that_never_began_has_no_logs() -> None:
    assert "logs:" not in text_of(SKIPPED)


def test_no_results_are_said_to_be_none() -> None:
    assert text_of().strip() == "real cells: none run"


@pytest.mark.parametrize("width", [20, 80, 200])
def test_nothing_is_cut_at_any_width(show: Callable[..., str], width: int) -> None:
    seen = show(width, *ALL)
    assert seen.count(REAL) == text_of(*ALL).count(REAL)
    assert "…" not in seen


def test_where_there_is_room_it_is_a_table(show: Callable[..., str]) -> None:
    head, first = show(200, PASSED, ON_EMBEDDED).splitlines()[:3:2]
    assert head.split() == ["cell", "suite", "state", "tests", "images", "s", "tests", "s"]
    assert re.fullmatch(rf"{re.escape(REAL)} +pyxis_basic +✓ passed +1 passed +20\.0 +17\.0 *", first)


def test_phases_come_in_the_order_of_a_run_and_unknown_ones_last() -> None:
    odd = replace(PASSED, timings={"brewing": 1.0, "teardown": 1.0, "images": 1.0})
    assert "images 1.0 · teardown 1.0 · brewing 1.0 s" in text_of(odd)


def test_text_of_anybodys_steers_neither_a_terminal_nor_a_ci() -> None:
    test = a_test("t.py::test_a\x1b[2J\n::error::b", "failed", "no\x07 ##[add-mask]z\n::set-env name=A::b")
    reason = "first\n  ::add-mask::x\n##[group]y\x9b1m ##vso[task.complete]"
    bad = result(REAL, "failed", test, suite="s\r\x1b]0;t\x07", reason=reason)
    text = text_of(bad)
    assert all(it.isprintable() for it in text.replace("\n", ""))
    assert r"test_a\x1b[2J\n::error::b: no\x07" in text
    assert not [it for it in text.splitlines() if it.strip().startswith("::") or "##[" in it or "##vso[" in it]
    assert r"  \::add-mask::x" in text
    assert printable("::error::a line of a comparison") == r"\::error::a line of a comparison"


def test_show_writes_plain_text_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    terminal.show(of_results(ALL, HERE), out)
    assert out.getvalue() == text_of(*ALL)


def test_what_was_taken_from_an_earlier_run_says_so_in_the_summary() -> None:
    taken = replace(PASSED, reused_from="last-week")
    assert "(unchanged since last-week)" in text_of(taken)
    assert "unchanged" not in text_of(PASSED)


def test_the_command_can_be_typed_where_only_bootstrap_knows_nox(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = text_of(result(REAL, "failed", a_test("t::a", "failed", "no")))
    assert '  again: nox -s "pyxis_basic(' in shown
    monkeypatch.setenv(errors.BOOTSTRAP_VARIABLE, "1")
    shown = text_of(result(REAL, "failed", a_test("t::a", "failed", "no")))
    assert '  again: ci/bootstrap nox -s "pyxis_basic(' in shown
