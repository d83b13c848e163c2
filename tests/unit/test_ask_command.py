"""The command `ask`: what it says of a combination, and that one which was not tested is never a yes."""

from collections.abc import Callable, Mapping
import dataclasses
from datetime import timedelta
import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace
import pytest

from ci.answers import asking
from ci.cli import answers as command
from ci.cli.main import main
from ci.matrix import behaviours
from ci.matrix.suites import SUITES
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import CellRecord, Result
from ci.report import merging
from tests.support import results as made
from tests.support.results import BEGIN, cell, passed, result, saw

SUITE = "pyxis_conformance"
REAL = ("sbatch-export-none", "task-prolog")
WELL = {"sbatch-export-none": "in the image", "task-prolog": "starts"}
HAZARD = {"sbatch-export-none": "on the host"}
Capture = pytest.CaptureFixture[str]
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two questions of the catalogue, whatever else is in it."""
    found = {name: behaviours.catalogue()[name] for name in REAL}
    for module in (merging, asking, behaviours):
        monkeypatch.setattr(module, "catalogue", lambda: found)


@pytest.fixture
def ask(tmp_path: Path, capsys: Capture) -> Ask:
    """Return what writes results, asks for a combination, and returns exit code, output and errors."""

    def run(of: list[Result], versions: str, *words: str) -> tuple[int, str, str]:
        made.write(tmp_path / "results", *of)
        slurm, enroot, pyxis = versions.split()
        where = [] if "--data" in words else ["--data", str(tmp_path / "results")]
        code = main(["ask", "--slurm", slurm, "--enroot", enroot, "--pyxis", pyxis, *where, *words])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    return run


def on(slurm: str, enroot: str, pyxis: str, answers: Mapping[str, str] = WELL, **more: Any) -> Result:  # noqa: ANN401
    """Return the result of a suite that saw all answers, those given in place of the usual ones."""
    of = cell(slurm, more.pop("os", "debian12"), enroot, pyxis, arch=more.pop("arch", "amd64"))
    return result(of, SUITE, tests=saw({**WELL, **answers}), **more)


def bad(of: CellRecord, **more: Any) -> Result:  # noqa: ANN401 - of `result`
    """Return a result with a test that failed."""
    tests = [TestOutcome(name="test_x.py::test_it", outcome=TestState.FAILED, message="srun ended with status 1")]
    return result(of, outcome=Outcome.FAILED, tests=tests, **more)


def sections(text: str) -> dict[str, str]:
    """Return what stands under each title."""
    _, *parts = text.split("\n\n")
    return {title: body for title, _, body in (part.partition("\n") for part in parts)}


def test_a_combination_that_was_tested_works(ask: Ask) -> None:
    code, out, _ = ask([on("25.05.8", "3.4.1", "0.21.0")], "25.05.8 3.4.1 0.21.0")
    others = [it.name for it in SUITES.values() if it.default and "nvidia" in it.runtimes and it.name != SUITE]
    assert code == 0
    assert out.startswith("Slurm 25.05.8, enroot 3.4.1, Pyxis 0.21.0: works\n")
    assert sections(out) == {
        "Cells of this combination": "  slurm25.05.8-enroot3.4.1-pyxis0.21.0-debian12-amd64: passed\n"
        f"      {SUITE}: passed on 2026-11-20\n"
        f"      not run: {', '.join(others)}\n"
    }


def test_suites_of_every_group_that_were_not_run_are_named(ask: Ask) -> None:
    of = cell("25.05.8", "debian12", "3.4.1", "0.21.0")
    default = [it.name for it in SUITES.values() if it.default and "nvidia" in it.runtimes]
    for number, name in enumerate(default, 1):
        code, out, _ = ask([result(of, name)], "25.05.8 3.4.1 0.21.0", "--json")
        (told,) = json.loads(out)["cells"]
        assert told["not_run"] == default[number:]
        assert told["suites"].keys() == set(default[:number])
    assert code == 0
    assert "not run" not in ask([], "25.05.8 3.4.1 0.21.0")[1]


def test_each_hazard_is_named_with_what_to_do(ask: Ask) -> None:
    code, out, _ = ask([on("22.05", "3.4.1", "0.21.0", HAZARD)], "22.05 3.4.1 0.21.0")
    assert code == 0
    assert out.startswith("Slurm 22.05, enroot 3.4.1, Pyxis 0.21.0: works, with hazards (1 hazard)\n")
    seen = sections(out)["Seen there"]
    assert "hazard, on the host: The script runs on the host" in seen
    assert "(Slurm <23.11)" in seen
    assert "what to do: Give --export=ALL" in seen
    assert "issue: https://" in seen
    assert "seen on 2026-11-20: slurm22.05-" in seen


def test_what_is_refused_there_is_named_too(ask: Ask) -> None:
    code, out, _ = ask([on("24.11.6", "4.1.2", "0.24.0", {"task-prolog": "fails"})], "24.11.6 4.1.2 0.24.0")
    assert (code, out.partition("\n")[0].rpartition(": ")[2]) == (0, "works (1 refused)")
    assert "refused, fails: Every container step that has a task prolog" in sections(out)["Seen there"]


def test_versions_with_as_many_hazards_differ_in_what_they_refuse(ask: Ask) -> None:
    both = [
        on("22.05", "3.4.1", "0.21.0", HAZARD | {"task-prolog": "fails"}),
        on("22.05", "3.4.1", "0.24.0", HAZARD),
    ]
    said = [ask(both, f"22.05 3.4.1 {pyxis}")[1] for pyxis in ("0.21", "0.24")]
    heads = [text.partition("\n")[0].partition(": ")[2] for text in said]
    assert heads == ["works, with hazards (1 hazard, 1 refused)", "works, with hazards (1 hazard)"]
    assert [", 1 hazard, 1 refused\n" in sections(text)["Cells of this combination"] for text in said] == [True, False]


def test_hazards_that_no_test_looked_for_are_not_denied(ask: Ask) -> None:
    code, out, _ = ask([result(cell("22.05", "debian12", "3.4.1", "0.21.0"))], "22.05 3.4.1 0.21.0")
    assert code == 0
    unknown = sections(out)["Not asked there, so not known"]
    assert unknown == "  2 behaviours\n      sbatch-export-none, task-prolog\n"


def test_ids_are_whole_and_messages_are_cut(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"a-question-with-a-name-{number}" for number in range(60)]
    (question,) = (it for it in behaviours.catalogue().values() if it.id == "task-prolog")
    monkeypatch.setattr(merging, "catalogue", lambda: {name: dataclasses.replace(question, id=name) for name in names})
    of = cell("25.05.8", "debian12", "3.4.1", "0.21.0")
    tests = [TestOutcome(name="x::y", outcome=TestState.FAILED, message=f"it {'fails ' * 200}")]
    code, out, _ = ask([result(of, outcome=Outcome.FAILED, tests=tests)], "25.05.8 3.4.1 0.21.0")
    assert code == 1
    assert sections(out)["Not asked there, so not known"].split("\n")[1].strip() == ", ".join(names)
    assert sections(out)["What fails"].startswith("  pyxis_basic: x::y: it fails")
    assert sections(out)["What fails"].endswith(" […]")


def test_the_release_that_was_observed_is_the_cells_own(ask: Ask) -> None:
    of = on("22.05", "3.4.1", "0.21.0")
    of = replace(of, versions={**of.versions, "slurm": "22.05.8"})
    assert ask([of], "22.05.8 3.4.1 0.21.0")[0] == 0
    assert ask([], "22.05 3.4.1 0.21.0")[0] == 0
    assert ask([], "22.05.9 3.4.1 0.21.0")[0] == 55


def test_a_release_that_was_observed_stands_for_its_row_where_nothing_was_tested(ask: Ask) -> None:
    of = on("22.05", "3.4.1", "0.24.0")
    of = replace(of, versions={**of.versions, "slurm": "22.05.8"})
    code, out, err = ask([of], "22.05.8 3.4.1 0.21.0")
    assert (code, out.partition("\n")[0]) == (55, "Slurm 22.05.8, enroot 3.4.1, Pyxis 0.21.0: not tested")
    assert "hazard, on the host" in sections(out)["Expected, not tested"]
    assert "next: nox -s matrix -- slurm22.05-enroot3.4.1-pyxis0.21.0-debian12-" in err
    _, out, err = ask([], "22.05.9 3.4.1 0.21.0")
    assert "Expected" not in out, "nobody has seen that Debian's 22.05 is 22.05.9"
    assert "add its versions to matrix.toml" in err


def test_one_that_fails_says_since_when_and_what_works(ask: Ask) -> None:
    of = cell("25.05.8", "debian12", "3.4.1", "0.21.0")
    several = [bad(of, run=f"night-{day}", started=BEGIN + timedelta(days=day)) for day in range(3)]
    several += [on("25.05.8", "3.4.1", "0.24.0"), bad(cell("25.05.8", "debian12", "3.4.1", "0.22.0"))]
    code, out, _ = ask(several, "25.05.8 3.4.1 0.21.0")
    assert code == 1
    assert ": fails\n" in out
    assert "pyxis_basic: failed since 2026-11-20, last on 2026-11-22" in sections(out)["Cells of this combination"]
    assert "pyxis_basic: test_x.py::test_it: srun ended with status 1" in sections(out)["What fails"]
    near = sections(out)["The nearest cells that work"]
    assert "answered" not in near
    assert "pyxis 0.24.0" in near
    assert "pyxis0.22.0" not in near


def test_of_several_systems_one_that_fails_is_no_yes(ask: Ask) -> None:
    several = [on("25.05.8", "3.4.1", "0.21.0"), bad(cell("25.05.8", "debian13", "3.4.1", "0.21.0"))]
    assert ask(several, "25.05.8 3.4.1 0.21.0")[0] == 1
    assert ask([], "25.05.8 3.4.1 0.21.0", "--os", "debian12")[0] == 0
    assert ask([], "25.05.8 3.4.1 0.21.0", "--os", "debian13")[0] == 1
    assert ask([], "25.05.8 3.4.1 0.21.0", "--os", "debian12", "--arch", "aarch64")[0] == 55


OWN = replace(on("25.05.8", "3.4.1", "0.21.0"), suite="suite")
CANDIDATE = on("25.05.8", "3.4.1", "0.21.0+g1a2b3c4")
CANDIDATE = replace(CANDIDATE, versions={**CANDIDATE.versions, "pyxis": "0.21.0"})
EMBEDDED = result(cell("25.05.8", "debian12", kind="embedded"))
SITE = on("25.05.8", "3.4.1", "0.21.0")
SITE = replace(SITE, cell=replace(SITE.cell, id=f"{SITE.cell_id}@mysite", site="mysite"))
FACTS = result(cell("25.05.8", "debian12", "3.4.1", "0.21.0"), "slurm_facts")


@pytest.mark.parametrize(
    "of",
    [
        [on("25.05.8", "3.4.1", "0.22.0")],
        [on("25.05.8", "3.4.1", "0.21.1"), on("25.05.7", "3.4.1", "0.21.0")],
        [on("25.05.8", "3.5.0", "0.21.0")],
        [EMBEDDED],
        [OWN],
        [result(cell("25.05.8", "debian12", "3.4.1", "0.21.0"), outcome=Outcome.ERROR, tests=[], reason="no cluster")],
        [result(cell("25.05.8", "debian12", "3.4.1", "0.21.0"), outcome=Outcome.SKIPPED, tests=[], reason="no mirror")],
        [
            on("25.05.8", "3.4.1", "0.21.0"),
            result(cell("25.05.8", "debian12", "3.4.1", "0.21.0"), outcome=Outcome.SKIPPED, tests=[]),
        ],
        [CANDIDATE],
        [SITE],
        [FACTS],
        [FACTS, replace(SITE, suite="pyxis_basic"), CANDIDATE],
    ],
    ids=[
        *("pyxis", "patches", "enroot", "embedded", "own", "error", "skipped", "half"),
        *("candidate", "site", "facts only", "facts beside others"),
    ],
)
def test_a_combination_that_was_not_tested_is_never_a_yes(ask: Ask, of: list[Result]) -> None:
    for words in ([], ["--os", "debian12"], ["--os", "debian12", "--arch", "amd64"]):
        code, out, err = ask(of, "25.05.8 3.4.1 0.21.0", *words)
        assert code == 55
        assert "works" not in out.partition("\n")[0]
        assert ": not tested\n" in out
        assert "next: nox -s matrix -- slurm25.05.8-enroot3.4.1-pyxis0.21.0-debian12-" in err


def test_a_suite_without_containers_can_still_fail(ask: Ask) -> None:
    assert ask([bad(FACTS.cell, suite="slurm_facts")], "25.05.8 3.4.1 0.21.0")[0] == 1


def test_what_the_catalogue_expects_is_no_answer(ask: Ask) -> None:
    code, out, _ = ask([on("25.11.7", "4.1.2", "0.24.0")], "22.05 3.4.1 0.21.0")
    assert code == 55
    assert "hazard, on the host" in sections(out)["Expected, not tested"]
    code, out, _ = ask([], "22.05 3.4.1 0.21.0", "--behaviour", "task-prolog")
    assert code == 55
    assert "works, starts" in sections(out)["Expected, not tested"]


def test_a_version_without_a_row_is_not_tested_either(ask: Ask) -> None:
    code, out, err = ask([on("25.11.7", "4.1.2", "0.24.0")], "99.11.1 9.9.9 0.99.0")
    assert code == 55
    assert "add its versions to matrix.toml" in err
    assert "Expected" not in out


def test_the_nearest_cells_differ_in_the_fewest_axes_then_in_the_fewest_rows(ask: Ask) -> None:
    far = ["25.05.8 3.4.1 0.18.0", "25.05.8 3.4.1 0.23.0", "25.11.7 3.4.1 0.22.0", "25.11.7 4.1.2 0.21.0"]
    of = [on(slurm, enroot, pyxis) for slurm, enroot, pyxis in map(str.split, [*far, "25.05.8 3.4.1 0.22.0"])]
    unknown = result(cell("25.05.8", "debian13", "3.4.1", "0.21.0"), outcome=Outcome.ERROR, tests=[])
    code, out, _ = ask([*of, unknown], "25.05.8 3.4.1 0.21.0", "--os", "debian12")
    assert code == 55
    near = [line.strip() for line in sections(out)["The nearest cells that were tested"].splitlines()]
    assert [line.partition(":")[0] for line in near if line.startswith("slurm")] == [
        "slurm25.05.8-enroot3.4.1-pyxis0.22.0-debian12-amd64",
        "slurm25.05.8-enroot3.4.1-pyxis0.23.0-debian12-amd64",
        "slurm25.05.8-enroot3.4.1-pyxis0.18.0-debian12-amd64",
    ]
    assert near[1] == "differs: pyxis 0.22.0"


def test_only_real_cells_are_near(ask: Ask) -> None:
    others = [EMBEDDED, OWN, CANDIDATE, SITE]
    code, out, _ = ask([*others, on("22.05", "4.1.2", "0.24.0")], "25.05.8 3.4.1 0.21.0", "--json")
    assert code == 55
    assert [it["id"] for it in json.loads(out)["nearest"]] == ["slurm22.05-enroot4.1.2-pyxis0.24.0-debian12-amd64"]


def test_a_version_between_two_rows_is_near_to_both(ask: Ask) -> None:
    of = [on(slurm, "3.4.1", "0.21.0") for slurm in ("22.05", "25.05.8", "25.11.7")]
    _, out, _ = ask(of, "25.08.1 3.4.1 0.21.0", "--json")
    assert [it["differs"]["slurm"] for it in json.loads(out)["nearest"]] == ["25.05.8", "25.11.7", "22.05"]


@pytest.mark.parametrize(
    ("answers", "code", "status"),
    [(WELL, 0, "works"), ({"task-prolog": "fails"}, 1, "fails"), ({"task-prolog": "another"}, 0, "works")],
)
def test_one_question_is_answered_with_cells_and_days(
    ask: Ask, answers: Mapping[str, str], code: int, status: str
) -> None:
    of = on("24.11.6", "4.1.2", "0.24.0", answers)
    found, out, _ = ask([of], "24.11.6 4.1.2 0.24.0", "--behaviour", "task-prolog", "--json")
    assert found == code
    reply = json.loads(out)
    assert reply["status"] == status
    (seen,) = reply["behaviours"]
    assert (seen["id"], seen["cells"]) == ("task-prolog", {of.cell_id: "2026-11-20"})


def test_a_hazard_is_no_yes_to_its_question(ask: Ask) -> None:
    of = [on("22.05", "3.4.1", "0.21.0", HAZARD), on("25.11.7", "3.4.1", "0.21.0")]
    code, out, _ = ask(of, "22.05 3.4.1 0.21.0", "--behaviour", "sbatch-export-none")
    assert code == 1
    assert out.startswith("Slurm 22.05, enroot 3.4.1, Pyxis 0.21.0: hazard\n")
    near = sections(out)["The nearest cells that answer well"]
    assert "slurm 25.11.7" in near
    assert "answered: works, in the image: " in near


def test_a_question_that_was_not_asked_there_is_not_tested(ask: Ask) -> None:
    of = [result(cell("25.11.7", "debian12", "4.1.2", "0.24.0")), on("25.05.8", "4.1.2", "0.24.0")]
    code, out, _ = ask(of, "25.11.7 4.1.2 0.24.0", "--behaviour", "task-prolog")
    assert code == 55
    assert "slurm 25.05.8" in sections(out)["The nearest cells that were tested"]


def test_what_the_nearest_cells_answered_is_said_where_no_row_tells_more(ask: Ask) -> None:
    of = [on("24.11.6", "4.1.2", "0.24.0", {"task-prolog": "fails"}), on("25.11.7", "4.1.2", "0.24.0")]
    code, out, _ = ask(of, "25.05.1 4.1.2 0.24.0", "--behaviour", "task-prolog")
    assert code == 55
    near = sections(out)["The nearest cells that were tested"]
    assert [near.count(f"answered: {it}: ") for it in ("refused, fails", "works, starts")] == [1, 1]
    assert "(Slurm >=24.11,<24.11.7 or >=25.05,<25.05.2)" in near


def test_json_has_all_that_the_text_has(ask: Ask) -> None:
    code, out, _ = ask([on("22.05", "3.4.1", "0.21.0", HAZARD)], "22.05 3.4.1 0.21.0", "--json")
    assert code == 0
    reply = json.loads(out)
    assert (reply["schema"], reply["status"]) == (1, "works, with hazards")
    assert reply["asked"] == {"slurm": "22.05", "enroot": "3.4.1", "pyxis": "0.21.0"}
    assert [it["hazards"] for it in reply["cells"]] == [["sbatch-export-none"]]
    assert [it["answers"][0]["kind"] for it in reply["behaviours"]] == ["hazard"]


def test_known_failures_of_a_green_cell_are_told(ask: Ask) -> None:
    of = cell("25.05.8", "debian12", "3.4.1", "0.21.0")
    known = TestOutcome(
        name="test_x.py::test_it", outcome=TestState.XFAILED, message="it answers 404 (NVIDIA/enroot#1)"
    )
    code, out, _ = ask([result(of, tests=[passed("test_y.py::test_it"), known])], "25.05.8 3.4.1 0.21.0")
    assert code == 0
    assert sections(out)["Known failures"] == "  it answers 404 (NVIDIA/enroot#1)"
    code, out, _ = ask([on("25.05.8", "3.4.1", "0.21.0")], "25.05.8 3.4.1 0.21.0", "--behaviour", "task-prolog")
    assert code == 0
    assert "404" not in out, "another question was asked"


def test_the_data_that_ships_is_the_default(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    words = ["ask", "--slurm", "22.05", "--enroot", "3.4.1", "--pyxis", "0.21.0"]
    monkeypatch.setattr(command, "SHIPPED", tmp_path / "report/compat.json")
    assert main(words) == 40
    error = capsys.readouterr().err
    assert "no results come with this version" in error
    assert "--data" in error
    ask([on("22.05", "3.4.1", "0.21.0", HAZARD)], "22.05 3.4.1 0.21.0")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert "with hazards" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--os", "debain12"], 11, "there is no os 'debain12'; did you mean 'debian12'"),
        (["--behaviour", "task-prolo"], 11, "did you mean 'task-prolog'"),
        (["--data", "nope"], 40, "run not found: 'nope'"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Ask, words: list[str], code: int, says: str) -> None:
    found, out, err = ask([on("22.05", "3.4.1", "0.21.0")], "22.05 3.4.1 0.21.0", *words)
    assert (found, out) == (code, "")
    assert says in err


def test_no_version_is_a_wrong_option(ask: Ask, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        ask([], "newest 3.4.1 0.21.0")
    assert caught.value.code == 2
    assert "'newest' is not a version" in capsys.readouterr().err


def test_results_that_can_not_be_read_are_no_yes(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "results/run/cell/suite").mkdir(parents=True)
    (tmp_path / "results/run/cell/suite/result.json").write_text('{"schema": 99}')
    code, _, err = ask([on("22.05", "3.4.1", "0.21.0")], "22.05 3.4.1 0.21.0")
    assert code == 40
    assert "another schema" in err
