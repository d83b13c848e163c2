"""Results of cells with a profile: they stand apart, and answer for no cell without it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.answers import selecting
from ci.answers.asking import Status, ask
from ci.cli.main import main
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import SelectionError
from ci.group import fingerprint
from ci.matrix import loading
from ci.matrix.suites import SUITES
from ci.options import Options
from ci.record import planned, store
from ci.record.outcomes import Outcome
from ci.record.planned import PlannedCell, RunPlan
from ci.record.store import CellRecord
from ci.report import contradictions, grid, writing
from ci.report.forms import forms
from ci.report.merging import ReportRequest
from ci.report.model import ChangeKind, Compat, Location, Merged, kind, parts_of
from ci.report.words import sentence
from ci.session.checks import check_profile
from tests.support import results as made
from tests.support.profiles import MakeProfile
from tests.support.profiles import planned as planned_with
from tests.support.results import BEGIN, cell, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
NEW = cell("24.11", "debian13", "4.1.2", "0.24.0")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
CANDIDATE = cell("22.05", "debian12", "3.4.1", "0.24.0+g1a2b3c4")
Merge = Callable[..., Compat]


def at_site(of: CellRecord, name: str = "mine") -> CellRecord:
    """Return a cluster that exists of the cell's versions."""
    return replace(of, id=f"{of.id}@{name}", site=name)


def under(of: CellRecord, name: str = "strict") -> CellRecord:
    """Return the cell with a profile over it."""
    return replace(of, id=f"{of.id}+{name}", profile=name)


@pytest.mark.parametrize("of", [REAL, EMBEDDED, CANDIDATE])
def test_a_kind_of_cells_is_told_apart_again(of: CellRecord) -> None:
    plain, profiled = (kind(of.runtime, Location.of(of), apart) for apart in ("", "profile strict"))
    assert plain != profiled
    assert [parts_of(it) for it in (plain, profiled)] == [(of.runtime, ""), (of.runtime, "profile strict")]


def test_each_profile_has_tables_of_its_own_and_no_place_in_the_verdict(merge: Merge) -> None:
    cells = [REAL, under(REAL), under(NEW), under(REAL, "cgroups"), under(EMBEDDED), under(CANDIDATE)]
    report = merge(*(result(it, outcome=Outcome.PASSED if it is REAL else Outcome.FAILED) for it in cells))
    shown = {
        table.title: [it.id for _, _, row in table.rows for box in row for it in box.cells]
        for table in grid.tables(report)
    }
    assert shown == {
        "Real enroot and Pyxis": [REAL.id],
        "Real enroot and Pyxis, profile cgroups": [f"{REAL.id}+cgroups"],
        "Real enroot and Pyxis, profile strict": [f"{REAL.id}+strict", f"{NEW.id}+strict"],
        "Embedded runtime, profile strict": [f"{EMBEDDED.id}+strict"],
        "Real enroot and Pyxis, not released, profile strict": [f"{CANDIDATE.id}+strict"],
    }
    assert [it.compatibility for it in report.verdicts] == [True, False, False, False, False]
    assert sentence(report.verdicts).startswith(
        "real cells: 1 passed; real cells, profile cgroups: 1 failed (not counted with cells without it); "
    )


@pytest.mark.parametrize("form", list(forms()))
def test_every_form_says_the_profile(merge_all: Callable[..., Merged], form: str) -> None:
    text = "".join(forms()[form].pieces(merge_all(result(under(REAL)))))
    assert "strict" in text


def test_a_place_between_is_said_to_be_not_run_and_one_that_was_planned_says_so(tmp_path: Path) -> None:
    cells = [under(REAL), under(NEW)]
    made.write(tmp_path / "results", *map(result, cells))
    meant = "slurm22.05-enroot3.4.1-pyxis0.20.0-debian12-amd64"
    planned.begin(
        RunPlan(
            run="r",
            started=BEGIN,
            matrix="",
            cells=(PlannedCell(id=f"{meant}+strict", stands_for=meant, suites=("pyxis_basic",)),),
        ),
        tmp_path / "results/r",
    )
    asked = ReportRequest(roots=(tmp_path / "results",), base=tmp_path, rows=loading.load())
    found = writing.merge(asked).compat.gaps
    assert {it.profile for it in found} == {"strict"}
    reasons = {(it.id, it.reason) for it in found}
    assert (f"{meant}+strict", "planned by the run r, and there is no result yet") in reasons
    assert {why for name, why in reasons if not name} == {"not run with this profile"}


def test_another_content_of_a_profile_is_a_change(merge: Merge) -> None:
    first, second = (
        replace(it, versions={**it.versions, "profile": f"strict {digest}"})
        for it, digest in ((result(under(REAL)), "1a2b"), (result(under(REAL), run="later"), "3c4d"))
    )
    changes = merge(second, previous=merge(first)).changes
    assert changes is not None
    assert [(it.kind, it.versions) for it in changes.items] == [
        (ChangeKind.VERSIONS, {"profile": ("strict 1a2b", "strict 3c4d")})
    ]


LIES: Mapping[str, tuple[CellRecord, str]] = {
    "none in the result": (replace(under(REAL), profile=""), "its profile is none, but the id says strict"),
    "none in the id": (replace(REAL, profile="strict"), "its profile is strict, but the id says none"),
    "another one": (replace(under(REAL), profile="cgroups"), "its profile is cgroups, but the id says strict"),
}


@pytest.mark.parametrize(("of", "says"), LIES.values(), ids=LIES)
def test_a_result_whose_profile_is_not_that_of_its_id_is_not_believed(of: CellRecord, says: str) -> None:
    assert contradictions.found_in(result(of), Path("results/r") / of.id / "pyxis_basic") == (says,)


@pytest.mark.parametrize("of", [under(REAL), under(EMBEDDED), under(CANDIDATE, "my-site-2")])
def test_a_true_one_is_believed(of: CellRecord) -> None:
    assert contradictions.found_in(result(of), Path("results/r") / of.id / "pyxis_basic") == ()


@pytest.mark.parametrize("apart", [under, at_site])
def test_it_answers_for_no_cell_without_it(merge: Merge, apart: Callable[[CellRecord], CellRecord]) -> None:
    report = merge(result(apart(REAL)))
    asked = {"slurm": "22.05", "enroot": "3.4.1", "pyxis": "0.19.0"}
    assert ask(report, asked, loading.load()).status is Status.UNTESTED
    assert ask(merge(result(REAL)), asked, loading.load()).status is not Status.UNTESTED


@pytest.mark.parametrize("apart", [under, at_site, lambda of: at_site(of, "theirs")])
def test_it_is_compared_by_its_name_and_by_versions_with_its_like_only(
    merge: Merge, apart: Callable[[CellRecord], CellRecord]
) -> None:
    old, new = cell("24.11.6", "debian12", "4.1.2", "0.24.0"), cell("24.11.7", "debian12", "4.1.2", "0.24.0")
    report = merge(*map(result, (old, new, apart(old), apart(new), at_site(new, "alone"), under(new, "alone"))))
    sides = ({"slurm": "24.11.6"}, {"slurm": "24.11.7"})
    pairs = selecting.pairs([], *sides, report, loading.load())
    assert {(before.id, after.id) for before, after in pairs} == {(old.id, new.id), (apart(old).id, apart(new).id)}
    assert len({selecting.pair_name(it) for it in pairs}) == 2
    ((before, after),) = selecting.pairs([old.id, apart(old).id], {}, {}, report, loading.load())
    assert (before.id, after.id) == (old.id, apart(old).id)


def site(tmp_path: Path) -> EnvironmentPlan:
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site/cgroup.conf").write_text("#\n", encoding="utf-8")
    options = Options(run="r", profile=str(tmp_path / "site"))
    return plan_environment(loading.load().cell(REAL.id).with_profile("site", {}), loading.load(), options)


def test_an_edit_of_a_profile_runs_again_and_is_noticed_meanwhile(tmp_path: Path) -> None:
    suite = SUITES["pyxis_basic"]

    def tasted(plan: EnvironmentPlan) -> tuple[str, str]:
        found = fingerprint.ingredients(plan, suite, [], matrix=loading.load(), images="i", shared={})
        return fingerprint.fingerprint(found), fingerprint.stamp(plan, suite, {})["configuration"]

    plan = site(tmp_path)
    before = tasted(plan)
    assert tasted(plan) == before
    (tmp_path / "site/cgroup.conf").write_text("ConstrainCores=yes\n", encoding="utf-8")
    after = tasted(plan)
    assert after[0] != before[0]
    assert after[1] != before[1]
    plain = plan_environment(loading.load().cell(REAL.id), loading.load(), Options(run="r"))
    assert tasted(plain)[0] not in {before[0], after[0]}


COMMANDS = {
    "suite": ("suite", "pyxis_basic", EMBEDDED.id),
    "run": ("run", EMBEDDED.id),
    "up": ("up", EMBEDDED.id),
    "hold": ("hold", str(Path.cwd()), EMBEDDED.id),
    "matrix": ("matrix", EMBEDDED.id, "--suite", "registry"),
    "cell": ("cell", EMBEDDED.id, "--suite", "pyxis_basic"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_two_profiles_of_one_name_have_no_results_in_one_run(
    tmp_path: Path, make_profile: MakeProfile, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    folder = make_profile({"slurm.conf": "JobRequeue=0\n"})
    name = Path(folder).name
    first = result(under(EMBEDDED, name), run="r")
    first = replace(first, versions={**first.versions, "profile": f"{name} 0a1b2c3d"})
    (place,) = made.write(tmp_path / "results", first)
    before = (place / store.RESULT_FILE).read_bytes()
    words = [*COMMANDS[command], "--profile", folder, "--run", "r", "--results", str(tmp_path / "results")]
    assert main([*words, *(["--", "true"] if command == "run" else [])]) == SelectionError.exit_code
    said = capsys.readouterr().err
    assert f"the run r has results of another profile {name}" in said
    assert folder in said
    assert (place / store.RESULT_FILE).read_bytes() == before
    assert [it.name for it in (tmp_path / "results" / "r").iterdir()] == [first.cell_id], "nothing was begun"


@pytest.mark.parametrize("versions", [{}, {"profile": "mine"}])
def test_the_same_profile_is_asked_again_in_one_run(
    tmp_path: Path, make_profile: MakeProfile, versions: Mapping[str, str]
) -> None:
    plan = planned_with(make_profile({"slurm.conf": "JobRequeue=0\n"}), EMBEDDED.id, results=tmp_path)
    assert plan.profile
    known = {"profile": plan.profile.label} if versions else {}
    of = replace(result(CellRecord.of(plan.cell), run="run"), versions=known)
    made.write(tmp_path, of)
    check_profile(plan)
