"""Groups of matrix.toml whose cells have a profile: which these are, by which name, and what is started of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ci.artefacts import candidates
from ci.bisect import steps
from ci.cli.main import main
from ci.environment.plan import plan_environment
from ci.errors import MatrixError, SelectionError
from ci.group import planning
from ci.group.planning import GroupRequest
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.loading import Matrix
from ci.matrix.mentioned import mentioned
from ci.options import Options
from ci.record.store import CellRecord
from ci.report import gaps
from ci.report.model import parts_of

REAL, NEW = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64", "slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64"
_SITE = (
    '[groups.smoke]\ncells = [{ slurm = "oldest", arch = "host" }]\n[groups.full]\ncells = "all"\n'
    '[groups.site]\ncells = [\n  { slurm = "22.05", enroot = "3.4.1", pyxis = "0.19.0", profile = "strict" },\n'
    '  { slurm = "24.11", enroot = "4.1.2", pyxis = "0.24.0" },\n  { enroot = "4.1.2", profile = ["load"] },\n]'
)
Loader = Callable[..., Matrix]


@pytest.fixture
def rows(load_matrix: Loader, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    return load_matrix(groups=_SITE)


def test_its_cells_have_the_profile_and_others_of_the_group_have_none(rows: Matrix) -> None:
    found = {it.id: it.profile for it in rows.cells("site", Arch.AMD64) if it.arch is Arch.AMD64}
    assert found[f"{REAL}+strict"] == "strict"
    assert REAL not in found
    assert (found[NEW], found[f"{NEW}+load"]) == ("", "load")
    assert all("+" in it.id for it in rows.cells("full", Arch.AMD64) if it.profile)
    assert {it.id for it in rows.cells("smoke", Arch.AMD64) if it.profile} == set()


def test_why_each_is_in(rows: Matrix, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(loading, "load", lambda: rows)
    assert main(["cells", "--group", "site", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{REAL}+strict\tselected by groups.site.cells[0]" in lines
    assert f"{NEW}\tselected by groups.site.cells[1]" in lines


def test_a_tag_of_versions_takes_no_cell_with_a_profile_and_that_of_its_group_does(rows: Matrix) -> None:
    cell = rows.cell(f"{REAL}+strict", Arch.AMD64)
    assert cell.tags == ("full", "site")
    by_version = {it.id for it in mentioned(["nox", "-t", "slurm22.05"], rows, Arch.AMD64, {})}
    assert (REAL in by_version, f"{REAL}+strict" in by_version) == (True, False)
    assert f"{REAL}+strict" in {it.id for it in mentioned(["nox", "-t", "site"], rows, Arch.AMD64, {})}


def test_a_session_of_it_is_found_by_its_name_and_one_that_is_in_no_group_is_refused(rows: Matrix) -> None:
    named = mentioned(["nox", "-s", f"pyxis_basic({REAL}+strict)"], rows, Arch.AMD64, {})
    assert f"{REAL}+strict" in {it.id for it in named}
    with pytest.raises(SelectionError, match="there is no cell") as caught:
        mentioned(["nox", "-s", f"pyxis_basic({NEW}+strict)"], rows, Arch.AMD64, {})
    assert "--profile" in caught.value.next_step


def test_what_is_started_of_it_has_the_profile_and_its_process_is_asked_for_by_its_own_id(rows: Matrix) -> None:
    put = candidates.read(Options(run="run"), rows)
    cell = put.into(rows.cell(f"{REAL}+strict"))
    plan = plan_environment(cell, rows, put.options)
    assert plan.profile is not None
    assert (plan.profile.name, cell.id, cell.matrix_id) == ("strict", f"{REAL}+strict", f"{REAL}+strict")
    assert dict(cell.settings)["returntoservice"] == "0"
    asked = candidates.read(Options(run="run", profile="strict"), rows)
    by_option = plan_environment(asked.into(rows.cell(REAL)), rows, asked.options)
    assert (by_option.cell, by_option.profile) == (cell, plan.profile)


def test_a_group_leaves_out_what_its_profile_is_not_for_and_a_second_profile(rows: Matrix) -> None:
    def planned(options: Options) -> planning.GroupPlan:
        wanted = GroupRequest(group="site", candidates=candidates.read(options, rows))
        return planning.plan_group(wanted, rows, options, lambda _cell: None)

    plan = planned(Options(run="r"))
    middle = REAL.replace("3.4.1", "4.1.2").replace("0.19.0", "0.24.0")
    assert {it.cell.id for it in plan.cells} == {f"{REAL}+strict", NEW, f"{NEW}+load", f"{middle}+load"}
    why = {why for it, why in plan.record.left_out.items() if "-amd64" in it}
    assert why == {"the profile load is not for it: it is for Pyxis >=0.21, runtime nvidia"}
    twice = planned(Options(run="r", profile="cgroups"))
    assert {it.cell.id for it in twice.cells} == {f"{NEW}+cgroups"}
    assert "it has the profile strict already" in twice.record.left_out[f"{REAL}+strict"]


def test_releases_that_are_searched_have_the_profile_of_the_cell_that_was_named(rows: Matrix) -> None:
    span = steps.Span(axis="pyxis", good="0.19.0", bad="0.24.0")
    found = steps.releases(span, rows.cell(f"{REAL}+strict"), rows, Options())
    assert [it.cell.id for it in found] == [REAL, REAL.replace("0.19.0", "0.24.0")]
    assert {it.options.profile for it in found} == {"strict"}


def test_the_places_of_a_report_are_not_those_of_plain_cells(rows: Matrix) -> None:
    plain, own = (gaps._at(CellRecord.of(rows.cell(it))) for it in (REAL, f"{REAL}+strict"))  # noqa: SLF001
    assert [parts_of(it) for it, _ in (plain, own)] == [("nvidia", ""), ("nvidia", "profile strict")]
    assert plain != own


FAULTS = {
    'profile = "stict"': "profile: there is no profile 'stict'; did you mean 'strict'?",
    "profile = 1": "profile: expected text in quotes",
    'profile = ["strict", "stict"]': "profile: there is no profile 'stict'; did you mean 'strict'?",
    "profile = []": 'profile: names no profile; for example profile = ["strict"]',
    'profle = "strict"': "unknown key 'profle'; did you mean 'profile'?",
    'profile = "strict", slurm = "22.05", os = "debian13"': "selects no cell",
}


@pytest.mark.parametrize(("entry", "says"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_named_with_its_line(write_matrix: Callable[..., Path], entry: str, says: str) -> None:
    groups = f'[groups.smoke]\ncells = [{{ slurm = "oldest" }}]\n[groups.site]\ncells = [{{ {entry} }}]'
    with pytest.raises(MatrixError) as caught:
        loading.load(write_matrix(groups=groups))
    assert says in str(caught.value)
    assert "groups.site.cells[0]" in str(caught.value)


def test_an_exclusion_and_a_known_failure_are_of_cells_whatever_their_profile(
    write_matrix: Callable[..., Path],
) -> None:
    with pytest.raises(MatrixError, match="unknown key 'profile'"):
        loading.load(write_matrix(extra='[[exclude]]\nslurm = "22.05"\nprofile = "strict"\nreason = "x"'))
