"""Scripts that show a fault without this project: made from pytest's log, and refused where they could not tell."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
import json
from pathlib import Path
import re

from msgspec.structs import replace
import pytest

from ci.cli.main import main
from ci.errors import ReproduceError, SelectionError
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import CellRecord, Result, utc_now
from ci.reproducing.case import ASIDE
from ci.reproducing.writing import FORMS
from tests.support import results as made
from tests.support.oci.layers import Directory, Entry, File, Symlink, Whiteout
from tests.support.oci.tiny import recipe
from tests.support.results import cell, result

OLD, NEW = cell("22.05", "debian12", "3.4.1", "0.19.0"), cell("24.11.7", "debian12", "4.1.2", "0.24.0")
TEST = "tests/integration/conformance/test_slurm_versions.py::test_a_script[NONE]"
MARKER, OTHER = "tiny-0123456789abcdef", "tiny-fedcba9876543210"
SCRIPT = "sbatch --nodelist=n1 --container-image=/home/tester/{0}.sqsh --export=NONE show"
Capture = pytest.CaptureFixture[str]
Shown = Callable[..., tuple[int, str, str]]


def answered(command: str, stdout: str = "", status: int = 0, stderr: str = "", prompt: str = "$") -> str:
    """Return what a shell of the suites prints."""
    return f"{prompt} {command}\n[exit status {status}]\n{stdout}\n--- stderr\n{stderr}\n"


def log(text: str, *, setup: str = "", earlier: str = "") -> str:
    """Return a log of pytest's: an earlier test, and the one that is asked for."""

    def report(test: str, when: str, text: str) -> str:
        sections = [[f"Captured stdout {when}", text]]
        return json.dumps({"$report_type": "TestReport", "nodeid": test, "when": when, "sections": sections}) + "\n"

    return (
        report("tests/integration/conformance/test_first.py::test_it", "setup", earlier)
        + report(TEST, "setup", setup)
        + report(TEST, "call", text)
        # The report of a later phase repeats what the earlier ones captured.
        + json.dumps(
            {
                "$report_type": "TestReport",
                "nodeid": TEST,
                "when": "teardown",
                "sections": [["Captured stdout call", text]],
            }
        )
        + "\n"
    )


def outcome(answer: str = "", state: TestState = TestState.PASSED) -> TestOutcome:
    """Return the test's outcome: the answer that it saw."""
    return TestOutcome(name=TEST, outcome=state, saw=(("sbatch-export-none", answer),) if answer else ())


@pytest.fixture
def reproduce(tmp_path: Path, capsys: Capture) -> Shown:
    """Return what writes results with their logs, asks for a script, and returns exit code, output and errors."""

    def run(
        logs: Mapping[str, str],
        tests: Sequence[tuple[CellRecord, TestOutcome]],
        *words: str,
        cell: str = OLD.id,
        change: Callable[[Result], Result] = lambda of: of,
    ) -> tuple[int, str, str]:
        for of, test in tests:
            good = test.outcome is TestState.PASSED
            one = result(of, "pyxis_conformance", Outcome.PASSED if good else Outcome.FAILED, tests=[test], run="r")
            made.write(tmp_path / "results", change(one))
        for folder in (tmp_path / "results").rglob("pyxis_conformance"):
            (folder / "reportlog.jsonl").write_text(logs[folder.parent.name], encoding="utf-8")
        code = main(["reproduce", str(tmp_path / "results"), cell, *(words or ("test_a_script[NONE]",))])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    return run


@pytest.fixture
def both(reproduce: Shown) -> Shown:
    """Return `reproduce` for a test whose answer is another one on the newer cell."""
    logs = {
        OLD.id: log(answered(SCRIPT.format(MARKER), "Submitted batch job 17\non the host")),
        NEW.id: log(answered(SCRIPT.format(OTHER), f"Submitted batch job 3\n{OTHER}")),
    }
    tests = [(OLD, outcome("on the host")), (NEW, outcome("in the image"))]
    return lambda *words: reproduce(logs, tests, *words)


def test_the_script_knows_both_answers(both: Shown) -> None:
    code, script, _ = both()
    assert code == 0
    assert "'0 Submitted batch job N\non the host') result=1" in script
    assert "'0 Submitted batch job N\ntiny') result=0" in script
    assert f"as on {OLD.id}" in script
    assert f"as on {NEW.id}" in script
    assert "The script runs on the host instead of in the image" in script, "the words of the catalogue"
    assert "sbatch --nodelist=@NODE@ --container-image=@IMAGE@ --export=NONE show" in script
    assert MARKER not in script
    assert "/home/tester" not in script
    assert "pyxis-matrix" not in script, "nothing of this project"
    assert len(script.splitlines()) < 80


@pytest.mark.parametrize("form", [*FORMS])
def test_every_form(both: Shown, form: str) -> None:
    code, text, _ = both("sbatch-export-none", "--format", form)
    assert code == 0
    assert "Slurm 22.05, enroot 3.4.1, Pyxis 0.19.0" in text
    assert "@IMAGE@" in text or form == "docker"


def test_the_text_of_an_issue_has_words_in_the_place_of_placeholders(both: Shown) -> None:
    """Who reads it knows what a node is, and not what fills in @NODE@; the script below it does."""
    above, _, script = both("sbatch-export-none", "--format", "issue")[1].partition("```bash")
    assert "sbatch --nodelist=NODE --container-image=IMAGE --export=NONE show\nSubmitted batch job 17\n" in above
    assert "on the host\n```\n" in above, "without empty lines for what it did not write"
    assert "@" not in above
    assert "@NODE@" in script


def test_a_result_by_a_clock_that_is_wrong_is_not_the_newest(both: Shown, tmp_path: Path, capsys: Capture) -> None:
    expected = both()[1]
    of = result(OLD, "pyxis_conformance", Outcome.FAILED, tests=[outcome(state=TestState.FAILED)], run="s")
    ahead = replace(of, started=of.started.replace(year=2999))
    (folder,) = made.write(tmp_path / "results", ahead)
    (folder / "reportlog.jsonl").write_text(log(answered("false", status=1)), encoding="utf-8")
    assert main(["reproduce", str(tmp_path / "results"), OLD.id, TEST]) == 0
    assert capsys.readouterr().out == expected


def test_the_title_of_a_bats_test_is_not_run(both: Shown) -> None:
    """It is evaluated, and a word between backticks would be a command."""
    title = next(line for line in both("--format", "bats", "sbatch-export-none")[1].splitlines() if "@test" in line)
    assert title == '@test "Does a batch script run in its image under sbatch --export=NONE?" {'


def test_a_behaviour_names_its_test(both: Shown) -> None:
    assert both("sbatch-export-none")[1] == both("test_a_script[NONE]")[1] == both(TEST)[1]


def test_a_failure_without_a_cell_that_has_it_fixed(reproduce: Shown) -> None:
    logs = {OLD.id: log(answered("true") + answered("enroot import x", status=1, stderr="[ERROR] 404"))}
    code, script, _ = reproduce(logs, [(OLD, outcome(state=TestState.FAILED))])
    assert code == 0
    assert "step out 0 <<'END_OF_STEP'\ntrue\n" in script, "the commands before have to end as they did"
    assert "'1 ') result=1" in script
    assert f"not as on {OLD.id}" in script


def test_the_other_cell_is_told_by_standard_error(reproduce: Shown) -> None:
    """Where status and output are the same, the words decide; those of any run do not."""
    words = "srun: job 9 queued and waiting for resources\n"
    logs = {
        OLD.id: log(answered("srun true", stderr=words)),
        NEW.id: log(answered("srun true", stderr="pyxis: ignored\n")),
    }
    tests = [(OLD, outcome("on the host")), (NEW, outcome("in the image"))]
    _, script, _ = reproduce(logs, tests)
    assert "step err" in script
    assert "'0 pyxis: ignored') result=0" in script
    assert "queued" not in script


def test_cells_whose_commands_answered_alike_are_refused(reproduce: Shown) -> None:
    logs = dict.fromkeys((OLD.id, NEW.id), log(answered("srun true")))
    code, _, said = reproduce(logs, [(OLD, outcome("on the host")), (NEW, outcome("in the image"))])
    assert code == ReproduceError.exit_code
    assert "answered alike" in said


def test_names_of_one_run_and_numbers_of_jobs(reproduce: Shown) -> None:
    text = (
        answered(f"base64 --wrap=0 /bin/busybox{ASIDE}", prompt="#")
        + answered(f"mktemp --directory ~/conformance-AbCdEfGhIj{ASIDE}", "/home/tester/conformance-AbCdEfGhIj")
        + answered(
            "nohup srun --job-name=conformance-a-run-0123456789ab true > /tmp/conformance-a-run-0123456789ab.out"
        )
        + answered("{ sbatch --parsable\n} <<'END_OF_INPUT'\n#!/bin/sh\nEND_OF_INPUT", "230")
        + answered("scontrol show job 230 > /home/tester/conformance-AbCdEfGhIj/x")
        + answered(f"scancel --name=conformance-a-run-0123456789ab{ASIDE}")
        + answered("cat ~/pyxis-matrix/a-run/conformance-AbCdEfGhIj/x", "JobId=230")
    )
    _, script, _ = reproduce({OLD.id: log(text)}, [(OLD, outcome(state=TestState.FAILED))])
    assert "nohup srun --job-name=@NAME@-0 true > @WORK@/@NAME@-0.out\n" in script
    assert "\ncat @WORK@/x\n" in script
    assert "scontrol show job @ANSWER1@ > @WORK@/x" in script
    assert "} <<'END_OF_INPUT'\n#!/bin/sh\nEND_OF_INPUT\n" in script
    assert "JobId=N" in script
    assert "scancel --name=@NAME@" not in script
    assert "mktemp --directory ~/conformance" not in script


def test_an_image_with_more_in_it(reproduce: Shown) -> None:
    more: dict[str, Entry] = {
        "/var/run": Directory(),
        "/prolog": File(content=b"#!/bin/sh\n", mode=0o755),
        "/a b": Symlink("/etc"),
    }
    setup = answered(f"image {MARKER}\n{recipe(more, ())}")
    logs = {OLD.id: log(answered(f"srun --container-image=/home/tester/{MARKER}.sqsh /prolog"), earlier=setup)}
    _, script, _ = reproduce(logs, [(OLD, outcome(state=TestState.FAILED))])
    assert "mkdir -p var/run\ncat > prolog <<'END_OF_FILE' && chmod 755 prolog\n#!/bin/sh\nEND_OF_FILE\n" in script
    assert "ln -sfn /etc 'a b'\n" in script


@pytest.mark.parametrize(
    ("text", "earlier", "why"),
    [
        ("", "", "the log has no command"),
        (answered("rm /run/munge", prompt="#"), "", "it needs root on a node: rm /run/munge"),
        (answered("srun --container-image=localhost:5000#x true"), "", "it needs a registry"),
        (answered("srun --nodelist=n1,n2 true"), "", "it needs more than one node"),
        (answered("base64 -d > x  # (9000 characters of input)"), "", "an input that is too long"),
        (answered(f"srun {MARKER} {OTHER}"), "", "it needs two images"),
        (
            answered(f"srun /home/tester/{MARKER}.sqsh"),
            answered(f"enroot import 'docker://localhost:1#conformance/{MARKER}:1'"),
            "this log, of an older release",
        ),
        (
            answered(f"srun /home/tester/{MARKER}.sqsh"),
            answered(f"image {MARKER}\n{recipe({'/x': Whiteout()}, ['entrypoint'])}"),
            "its entrypoint",
        ),
    ],
)
def test_what_can_not_be_run_elsewhere_is_refused(reproduce: Shown, text: str, earlier: str, why: str) -> None:
    code, script, said = reproduce({OLD.id: log(text, earlier=earlier)}, [(OLD, outcome(state=TestState.FAILED))])
    assert (code, script) == (ReproduceError.exit_code, "")
    assert why in said


def test_a_log_that_is_missing_is_named(reproduce: Shown) -> None:
    code, _, said = reproduce({OLD.id: "no JSON"}, [(OLD, outcome())])
    assert code == ReproduceError.exit_code
    assert "reportlog.jsonl" in said


def test_a_cell_and_a_test_that_are_not_there(both: Shown, reproduce: Shown) -> None:
    code, _, said = both("test_a_scrip[NONE]")
    assert code == SelectionError.exit_code
    assert "did you mean 'test_a_script[NONE]'" in said
    logs = {OLD.id: log(answered("true")), NEW.id: log(answered("true"))}
    code, _, said = reproduce(logs, [(OLD, outcome())], cell="slurm22.5-enroot3.4.1-pyxis0.19.0-debian12-amd64")
    assert code == SelectionError.exit_code
    assert f"did you mean {OLD.id!r}" in said


def test_a_cell_that_does_not_answer_otherwise(both: Shown) -> None:
    code, _, said = both("test_a_script[NONE]", "--fixed", OLD.id)
    assert code == ReproduceError.exit_code
    assert "gave no other answer" in said


def test_the_stand_in_of_pyxis_is_not_taken_for_a_cell_without_the_fault(reproduce: Shown) -> None:
    """Its answers are its own words: no release of Pyxis would be recognised by them. Whoever names it gets it."""
    embedded = cell("24.11", "debian13", kind="embedded")
    logs = {
        OLD.id: log(answered(SCRIPT.format(MARKER), "on the host")),
        embedded.id: log(answered(SCRIPT.format(OTHER), "as the stand-in says it")),
    }
    tests = [(OLD, outcome("on the host")), (embedded, outcome("in the image"))]
    code, script, _ = reproduce(logs, tests)
    assert (code, embedded.id in script) == (0, False)
    code, script, _ = reproduce(logs, tests, "sbatch-export-none", "--fixed", embedded.id)
    assert (code, embedded.id in script) == (0, True)


@pytest.mark.parametrize("node", ["n1", "gpu-17", "login.site", "c0n2"])
def test_no_name_of_a_node_is_handed_on(reproduce: Shown, node: str) -> None:
    text = "".join(
        [
            answered(f"srun --nodelist={node} hostname", node),
            answered(f"srun '--nodelist={node}' scontrol show node {node}", f"NodeName={node} State=IDLE"),
            answered(f"srun --nodelist={node} false", status=1, stderr=f"srun: error: {node}: task 0: Exited"),
            answered(f"srun --nodelist={node} x", status=1, stderr=f"slurmstepd-{node}: error: pyxis: it is missing"),
        ]
    )
    failed = replace(outcome(state=TestState.FAILED), message=f"srun: error: {node}: task 0: Exited with exit code 1")
    for form in FORMS.keys() - {"docker"}:  # it makes a node of its own, and runs another script there
        code, script, _ = reproduce({OLD.id: log(text)}, [(OLD, failed)], TEST, "--format", form)
        assert code == 0
        assert not re.search(rf"(?<![\w.-])(?:slurmstepd-)?{re.escape(node)}(?![\w-])", script), form
        assert "scontrol show node @NODE@" in script


def test_an_answer_that_slurmstepd_gives_is_known_again(reproduce: Shown) -> None:
    """The script has a placeholder in it for the node that it ran on: what it looks for has to have it, too."""

    def seen(marker: str, said: str) -> str:
        return log(answered(SCRIPT.format(marker), status=1, stderr=f"slurmstepd-n1: error: pyxis: {said}"))

    logs = {OLD.id: seen(MARKER, "mount failed"), NEW.id: seen(OTHER, "no such source")}
    script = reproduce(logs, [(OLD, outcome("on the host")), (NEW, outcome("in the image"))])[1]
    assert "'1 slurmstepd-@NODE@: error: pyxis: mount failed') result=1" in script
    assert "'1 slurmstepd-@NODE@: error: pyxis: no such source') result=0" in script


@pytest.mark.parametrize("nodes", ["gpu-1,gpu-2", "gpu-[1-2]", "gpu-1 --nodelist=gpu-2"])
def test_more_than_one_node_of_any_name_is_refused(reproduce: Shown, nodes: str) -> None:
    text = log(answered(f"srun --nodelist={nodes} true"))
    code, _, err = reproduce({OLD.id: text}, [(OLD, outcome(state=TestState.FAILED))])
    assert code == ReproduceError.exit_code
    assert "it needs more than one node" in err


LIES: dict[str, Callable[[Result], Result]] = {
    "other versions": lambda of: replace(of, versions={**of.versions, "pyxis": "0.1.0"}),
    "another outcome": lambda of: replace(of, outcome=Outcome.PASSED, exit_code=1),
    "a date to come": lambda of: replace(of, started=utc_now() + timedelta(days=1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_can_not_be_true_shows_no_fault(reproduce: Shown, lie: str) -> None:
    text = log(answered(SCRIPT.format(MARKER)))
    test = outcome(state=TestState.FAILED)
    code, out, err = reproduce({OLD.id: text}, [(OLD, test)], change=LIES[lie])
    assert (code, out) == (SelectionError.exit_code, "")
    assert f"no result of {OLD.id} can be true" in err


@pytest.mark.parametrize("lie", LIES)
def test_what_can_not_be_true_shows_no_cell_without_the_fault(reproduce: Shown, lie: str) -> None:
    logs = {OLD.id: log(answered(SCRIPT.format(MARKER), "one")), NEW.id: log(answered(SCRIPT.format(MARKER), "two"))}
    tests = [(OLD, outcome("empty")), (NEW, outcome("kept"))]

    def change(of: Result) -> Result:
        return LIES[lie](of) if of.cell_id == NEW.id else of

    code, out, err = reproduce(logs, tests, TEST, "--fixed", NEW.id, change=change)
    assert (code, out) == (ReproduceError.exit_code, "")
    assert f"{NEW.id} gave no other answer" in err
