"""A release that nobody has run here yet: lists call it untried, and no group takes it silently."""

from collections.abc import Callable
import json
from pathlib import Path

from packaging.version import Version
import pytest

from ci.artefacts import sources
from ci.artefacts.sources import Sources
from ci.cli.main import main
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Candidate
from ci.matrix.loading import Matrix, load
from ci.record import planned
from ci.record.planned import PlannedCell, RunPlan
from ci.report import writing
from ci.report.forms import forms
from ci.report.merging import ReportRequest
from ci.upstream.news import NewRelease, Published
from ci.upstream.rows import with_row
from tests.support import results as made
from tests.support.results import BEGIN, cell, result

Loader = Callable[..., Matrix]
UNTRIED = "4.2.1"
ENROOT = f"""
[[enroot]]
version = "3.4.1"
[[enroot]]
version = "4.1.2"
[[enroot]]
version = "{UNTRIED}"
untried = true
"""
GROUPS = """
[groups.smoke]
cells = [{ %s }]
[groups.full]
cells = "all"
"""
NAME = f"slurm22.05-enroot{UNTRIED}-pyxis0.19.0-debian12-amd64"


@pytest.mark.parametrize(
    ("selection", "enroots"),
    [
        ('enroot = "newest"', {"4.1.2"}),
        ('enroot = "newest-2"', {"3.4.1", "4.1.2"}),
        ('enroot = "edges"', {"3.4.1", "4.1.2"}),
        ('enroot = ">=4"', {"4.1.2"}),
        ('runtime = "nvidia"', {"3.4.1", "4.1.2"}),
        ('slurm = "22.05", pyxis = "0.19.0"', {"3.4.1", "4.1.2"}),
        (f'enroot = "{UNTRIED}"', {UNTRIED}),
    ],
)
def test_a_group_takes_it_only_where_it_names_it(load_matrix: Loader, selection: str, enroots: set[str]) -> None:
    rows = load_matrix(enroot=ENROOT, embedded="", groups=GROUPS % selection)
    assert {str(it.enroot) for it in rows.cells("smoke", Arch.AMD64)} == enroots
    assert UNTRIED in {str(it.enroot) for it in rows.cells("full", Arch.AMD64)}


def test_what_takes_few_cells_for_all_pairs_leaves_it_out(load_matrix: Loader) -> None:
    groups = GROUPS % 'runtime = "nvidia"' + '[groups.pairs]\ncells = [{ runtime = "nvidia" }]\ncover = "pairs"'
    rows = load_matrix(enroot=ENROOT, groups=groups)
    assert not [it for it in rows.cells("pairs", Arch.AMD64) if it.untried]


@pytest.mark.parametrize("axis", ["slurm", "enroot", "pyxis"])
def test_it_may_be_of_any_axis_and_is_run_by_name(load_matrix: Loader, axis: str) -> None:
    row = {
        "slurm": '[[slurm]]\nversion = "26.05.3"\nfrom = "archive"\nuntried = true',
        "enroot": '[[enroot]]\nversion = "9.0.0"\nuntried = true',
        "pyxis": '[[pyxis]]\nversion = "9.0.0"\nuntried = true',
    }
    rows = load_matrix(extra=row[axis], groups=GROUPS % f'{axis} = "newest"')
    (version,) = {it.axes[axis] for it in rows.all_cells(None) if it.untried}
    found = [it for it in rows.all_cells(None) if it.axes[axis] == version]
    assert {it.untried for it in found} == {(axis,)}
    assert rows.cell(found[0].id).remark == f"untried: {axis} {version}"
    assert {it.axes[axis] for it in rows.cells("smoke", Arch.AMD64)}.isdisjoint({version})


def test_only_its_own_tag_selects_it(load_matrix: Loader) -> None:
    rows = load_matrix(enroot=ENROOT)
    assert set(rows.cell(NAME).tags) == {"full", f"enroot{UNTRIED}"}
    assert {"slurm22.05", "nvidia", "enroot4.1.2"} <= set(rows.cell(NAME.replace(UNTRIED, "4.1.2")).tags)


def test_faults_and_exclusions_hold_for_it(load_matrix: Loader) -> None:
    fault = '[[known-failure]]\ntests = ["t"]\nenroot = ">=4"\nsays = "x"\nreason = "y"'
    rows = load_matrix(enroot=ENROOT, extra=fault)
    assert rows.known_failures(rows.cell(NAME))
    rows = load_matrix(enroot=ENROOT, extra='[[exclude]]\nenroot = ">4.1.2"\nreason = "x"')
    assert {it.cell.untried for it in rows.excluded()} == {("enroot",)}


def test_a_candidate_in_its_place_is_no_untried_release(load_matrix: Loader) -> None:
    version = Version("4.3.0+s1a2b3c4")
    put = Candidate(axis="enroot", version=version, release="4.3.0", row=Version(UNTRIED))
    assert not load_matrix(enroot=ENROOT).cell(NAME).with_candidate(put).untried


def test_lists_call_it_so(
    load_matrix: Loader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = load_matrix(enroot=ENROOT)
    monkeypatch.setattr(loading, "load", lambda: rows)
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    assert main(["cells", "--group", "full"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{NAME}\tuntried: enroot {UNTRIED}" in lines
    assert {UNTRIED in line for line in lines if "untried" in line} == {True}
    assert main(["cells", "--group", "full", "--explain"]) == 0
    assert f"{NAME}\tselected by groups.full.cells[0]\tuntried: enroot {UNTRIED}" in capsys.readouterr().out
    assert main(["cells", "--group", "full", "--json"]) == 0
    told = {it["id"]: it["untried"] for it in json.loads(capsys.readouterr().out)}
    assert (told[NAME], told[NAME.replace(UNTRIED, "4.1.2")]) == (["enroot"], [])
    assert main(["plan", NAME, "--suite", "pyxis_basic"]) == 0
    assert any(NAME in it and f"untried: enroot {UNTRIED}" in it for it in capsys.readouterr().out.splitlines())
    assert main(["plan", NAME, "--suite", "pyxis_basic", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["shards"][0]["cells"][0]["untried"] == ["enroot"]


def test_what_is_missing_of_it_is_told_with_that(
    load_matrix: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "unreachable", lambda _base: "no route to host")
    where = Sources(mirror=None, cache=tmp_path / "cache", pins={})
    why = sources.missing(load_matrix(enroot=ENROOT).cell(NAME), where)
    assert why
    assert why.startswith(f"untried: enroot {UNTRIED}; NVIDIA/enroot/")


def test_every_form_of_the_report_calls_it_so(load_matrix: Loader, tmp_path: Path) -> None:
    rows = load_matrix(enroot=ENROOT)
    plan = RunPlan(run="r", started=BEGIN, matrix="", cells=(PlannedCell(id=NAME, suites=("pyxis_basic",)),))
    made.write(tmp_path / "results", result(cell("22.05", "debian12", "4.1.2", "0.19.0"), run="r"))
    planned.begin(plan, tmp_path / "results/r")
    merged = writing.merge(ReportRequest(roots=(tmp_path / "results",), base=tmp_path, rows=rows))
    why = f"untried: enroot {UNTRIED}; planned by the run r, and there is no result yet"
    assert {it.reason for it in merged.compat.gaps} == {why}
    for name in ("text", "md", "html", "json"):
        assert f"untried: enroot {UNTRIED}" in "".join(forms()[name].pieces(merged)), name
    assert '<span class="more">untried</span>' in "".join(forms()["html"].pieces(merged))


def test_a_release_after_it_is_not_untried_for_that() -> None:
    new = NewRelease(axis="enroot", published=Published(version="4.2.2", url=""), model=UNTRIED, same_series=True)
    text = with_row(ENROOT, new)
    assert text.count("untried") == 1
    assert '"4.2.2"' in text


@pytest.mark.project_matrix
def test_of_the_repositorys_own_groups_only_full_takes_any() -> None:
    rows = load()
    assert {name for it in rows.all_cells(Arch.AMD64) if it.untried for name in it.groups} <= {"full"}
