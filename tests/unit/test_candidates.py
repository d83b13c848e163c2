"""A candidate stands in a cell in place of a release: the id says so, and everything that follows from it."""

from dataclasses import replace
import io
from pathlib import Path
import re
import subprocess
import tarfile

from packaging.version import Version
import pytest

from ci import paths
from ci.artefacts import candidates, sources
from ci.artefacts.candidates import PYXIS, SLURM
from ci.artefacts.checkout import Checkout
from ci.artefacts.releases import artefacts_for
from ci.artefacts.sources import Sources
from ci.environment.plan import plan_environment
from ci.errors import CandidateError, SelectionError
from ci.group import planning
from ci.group.planning import GroupRequest
from ci.images.content import Content
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import version_of
from ci.matrix.cells import Candidate, Runtime, SlurmSource
from ci.matrix.model import Selector
from ci.matrix.pytest_words import Given
from ci.options import Options
from ci.options.values import Origin
from ci.record.outcomes import Outcome
from ci.session.record import Record
from tests.support.current import cell_of
from tests.support.environments import environment
from tests.support.rows import SAMPLE

ROWS = loading.load(SAMPLE)
NAME = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"
REAL = ROWS.cell(NAME)
COMMIT = "1a2b3c4" + "0" * 33
TAG = re.compile(r"[a-z0-9/._-]+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))


def candidate(
    axis: str = "pyxis", text: str = "0.24.0+g1a2b3c4", row: str = "0.24.0", *, files: tuple[Path, ...] = ()
) -> Candidate:
    release = text.partition("+")[0]
    return Candidate(axis=axis, version=Version(text), release=release, row=Version(row), commit=COMMIT, files=files)


SLURM_CANDIDATE = candidate("slurm", "24.05.8+g1a2b3c4.dirty5f6e7d8", "24.05.8", files=(Path("/c/slurm.tar.gz"),))


def test_the_id_says_what_is_in_the_cell() -> None:
    cell = REAL.with_candidate(candidate())
    assert cell.id == "slurm22.05-enroot3.4.1-pyxis0.24.0+g1a2b3c4-debian12-amd64"
    assert (cell.axes["pyxis"], cell.matrix_id) == ("0.24.0+g1a2b3c4", NAME)
    assert "pyxis0.24.0+g1a2b3c4" in cell.tags
    assert cell != REAL.with_candidate(candidate(text="0.24.0+g1a2b3c5"))


def test_a_release_candidate_is_called_as_its_project_calls_it(tmp_path: Path) -> None:
    folder = debs(tmp_path / "debs", "enroot_4.2.0~rc1-1_amd64", "enroot+caps_4.2.0~rc1-1_amd64")
    cell = candidates.read(Options(enroot=folder), ROWS).into(REAL)
    assert re.fullmatch(r"slurm22\.05-enroot4\.2\.0rc1\+s[0-9a-f]{7}-pyxis0\.19\.0-debian12-amd64", cell.id)
    assert (cell.release("enroot"), cell.release("pyxis"), cell.release("slurm")) == ("4.2.0~rc1", "0.19.0", "22.05")
    images = plan_environment(cell, ROWS, Options()).images
    assert "4.2.0~rc1" in {it.build_args.get("ENROOT_VERSION") for it in images.node.family()}


def test_a_slurm_keeps_its_zeros_and_is_compiled() -> None:
    cell = REAL.with_candidate(SLURM_CANDIDATE)
    assert cell.id == "slurm24.05.8+g1a2b3c4.dirty5f6e7d8-enroot3.4.1-pyxis0.19.0-debian12-amd64"
    assert (cell.slurm.source, cell.slurm.release) == (SlurmSource.ARCHIVE, "24.05.8")
    assert REAL.slurm.release == "22.05"


def test_several_candidates_go_together() -> None:
    cell = REAL.with_candidate(candidate()).with_candidate(SLURM_CANDIDATE)
    assert cell.matrix_id == NAME
    assert cell.candidate("enroot") is None
    assert cell.id == "slurm24.05.8+g1a2b3c4.dirty5f6e7d8-enroot3.4.1-pyxis0.24.0+g1a2b3c4-debian12-amd64"


def test_what_the_engine_names_has_no_plus_and_is_still_told_apart() -> None:
    one = REAL.with_candidate(candidate("pyxis", "0.24.0+g1a2b3c4", "0.24.0", files=(Path("/c/a.tar.gz"),)))
    cell = one.with_candidate(SLURM_CANDIDATE)
    plan = plan_environment(cell, ROWS, Options(run="20261127-120000-abcd"))
    tags = [Content(plan=image, parents={}).tag for image in plan.images.node.family()]
    assert all(TAG.fullmatch(tag) for tag in tags), tags
    assert any("24.05.8_g1a2b3c4.dirty5f6e7d8" in tag and "pyxis0.24.0_g1a2b3c4" in tag for tag in tags)
    names = plan.names
    assert all(
        CONTAINER.fullmatch(name) for name in (names.prefix, *names.nodes, *names.data_volumes, names.home_volume)
    )
    released = plan_environment(ROWS.cell("slurm22.05-enroot3.4.1-pyxis0.24.0-debian12-amd64"), ROWS, Options())
    assert not {image.variant for image in plan.images.node.family()} & {released.images.node.variant}


def test_the_builds_are_told_what_the_programs_call_themselves() -> None:
    enroot = candidate("enroot", "4.1.2+s1a2b3c4", "4.1.2", files=(Path("/d/enroot_4.1.2-1_amd64.deb"),))
    cell = REAL.with_candidate(candidate()).with_candidate(SLURM_CANDIDATE).with_candidate(enroot)
    by_folder = {it.folder: it for it in plan_environment(cell, ROWS, Options()).images.node.family()}
    assert by_folder["slurm-build"].build_args == {"SLURM_VERSION": "24.05.8"}
    assert by_folder["slurm-pyxis-integration"].build_args == {
        "ENROOT_VERSION": "4.1.2",
        "PYXIS_VERSION": "0.24.0",
    }


def test_its_files_are_those_that_are_built_from() -> None:
    debs = [Path(f"/d/{name}_4.1.2-1_{arch}.deb") for name in ("enroot", "enroot+caps") for arch in ("amd64", "arm64")]
    cell = REAL.with_candidate(candidate("enroot", "4.1.2+s1a2b3c4", "4.1.2", files=tuple(debs)))
    cell = cell.with_candidate(candidate("pyxis", "0.24.0+g1a2b3c4", "0.24.0", files=(Path("/d/whatever.tar.xz"),)))
    assert [(it.path, it.file) for it in artefacts_for(cell)] == [
        ("candidates/enroot/4.1.2+s1a2b3c4/enroot_4.1.2-1_amd64.deb", debs[0]),
        ("candidates/enroot/4.1.2+s1a2b3c4/enroot+caps_4.1.2-1_amd64.deb", debs[2]),
        ("candidates/pyxis/0.24.0+g1a2b3c4/v0.24.0+g1a2b3c4.tar.gz", Path("/d/whatever.tar.xz")),
    ]


def test_the_file_is_taken_as_it_is_even_strictly(tmp_path: Path) -> None:
    file = tmp_path / "v.tar.gz"
    file.write_bytes(b"sources")
    cell = REAL.with_candidate(candidate("pyxis", "0.24.0+g1a2b3c4", "0.24.0", files=(file,)))
    artefact = artefacts_for(cell)[-1]
    fetched = sources.fetch(artefact, Sources(cache=tmp_path / "cache"))
    assert (fetched.source, fetched.commit, fetched.vouched_for) == ("candidate", COMMIT, "")
    assert fetched.path.read_bytes() == b"sources"


@pytest.mark.parametrize(
    ("text", "row", "selected", "expected"),
    [
        ("0.24.0+g1a2b3c4", "0.24.0", True, True),
        ("0.25.0+g1a2b3c4", "0.24.0", True, True),
        ("0.24.0rc1+g1a2b3c4", "0.23.0", False, True),
        ("0.20.0+g1a2b3c4", "0.20.0", False, False),
    ],
)
def test_selections_and_answers_are_those_of_its_release(
    text: str, row: str, *, selected: bool, expected: bool
) -> None:
    cell = REAL.with_candidate(candidate("pyxis", text, row))
    assert Selector(pyxis=frozenset({Version("0.24.0")})).matches(cell) is selected
    assert (version_of(cell, "pyxis") >= Version("0.24")) is expected
    assert version_of(cell, "pyxis") == Version(Version(text).base_version)
    assert version_of(cell, "slurm") == Version("22.05")


def test_answers_of_another_version_are_expected_only_when_asked_for() -> None:
    cell = replace(REAL, answers=(("pyxis", Version("0.21.0")),))
    assert version_of(cell, "pyxis") >= Version("0.21") > version_of(REAL, "pyxis")
    assert version_of(cell, "enroot") == Version("3.4.1")


@pytest.mark.parametrize(
    ("project", "text", "release"),
    [
        (PYXIS, "VERSION   ?= 0.18.0\n\nPLUGIN := spank_pyxis.so\n", "0.18.0"),
        (PYXIS, "PYXIS_VER ?= 0.24.0\nPLUGIN := spank_pyxis.so\n", "0.24.0"),
        (PYXIS, "PYXIS_VER ?= 0.24.0\n", None),
        (PYXIS, "PLUGIN := spank_pyxis.so\n", None),
        (SLURM, "##\n  Name:\t\tslurm\n  Version:\t\t24.05.8\n  Release:\t1\n", "24.05.8"),
        (SLURM, "  Name:\t\tmunge\n  Version:\t\t0.5\n", None),
    ],
)
def test_a_project_is_known_by_its_own_file(project: candidates.Project, text: str, release: str | None) -> None:
    assert project.release(text) == release


def debs(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.deb").write_bytes(name.encode())
    return folder


def test_enroots_packages_are_named_after_their_content(tmp_path: Path) -> None:
    found = [
        candidates.read(Options(enroot=debs(tmp_path / name, *names)), ROWS).found[0]
        for name, names in {
            "one": ["enroot_4.1.2-1_amd64", "enroot+caps_4.1.2-1_amd64", "enroot-hardened_9-1_amd64"],
            "two": ["enroot_4.1.2-2_amd64", "enroot+caps_4.1.2-2_amd64"],
        }.items()
    ]
    assert [(it.release, it.row, len(it.files)) for it in found] == [("4.1.2", Version("4.1.2"), 2)] * 2
    assert found[0].version != found[1].version
    assert re.fullmatch(r"4\.1\.2\+s[0-9a-f]{7}", found[0].text)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "no enroot_VERSION_ARCH.deb and no enroot+caps_VERSION_ARCH.deb"),
        (["enroot_4.1.2-1_amd64"], "it has no enroot+caps_VERSION_ARCH.deb"),
        (["enroot_4.1.2-1_amd64", "enroot+caps_4.1.3-1_amd64"], "several versions: 4.1.2-1, 4.1.3-1"),
        (["enroot_main-1_amd64", "enroot+caps_main-1_amd64"], "'main' is not a version"),
    ],
)
def test_a_folder_without_the_two_packages_of_one_version_is_refused(
    tmp_path: Path, names: list[str], says: str
) -> None:
    with pytest.raises(CandidateError, match=re.escape(says)):
        candidates.read(Options(enroot=debs(tmp_path / "debs", *names)), ROWS)


def test_packages_of_another_architecture_are_refused_for_the_cell(tmp_path: Path) -> None:
    folder = debs(tmp_path / "debs", "enroot_4.1.2-1_arm64", "enroot+caps_4.1.2-1_arm64")
    put = candidates.read(Options(enroot=folder), ROWS)
    with pytest.raises(CandidateError, match="packages for arm64, and the cell needs both for amd64") as caught:
        put.into(REAL)
    assert caught.value.where == str(folder)


@pytest.mark.parametrize("option", ["enroot", "pyxis"])
def test_what_is_built_is_what_its_name_was_made_of_whatever_becomes_of_the_files(option: str, tmp_path: Path) -> None:
    """The id has the first digits of a checksum; between that and the build somebody builds another state."""
    folder = debs(tmp_path / "debs", "enroot_4.1.2-1_amd64", "enroot+caps_4.1.2-1_amd64")
    archive = tmp_path / "pyxis.tar"
    with tarfile.open(archive, "w") as tar:
        makefile = tarfile.TarInfo("pyxis/Makefile")
        text = b"PYXIS_VER ?= 0.25.0\nPLUGIN := spank_pyxis.so\n"
        makefile.size = len(text)
        tar.addfile(makefile, io.BytesIO(text))
    asked = Options(enroot=folder) if option == "enroot" else Options(pyxis=Origin(path=archive))
    cell = candidates.read(asked, ROWS).into(REAL)
    before = {file.name: file.read_bytes() for file in (*folder.iterdir(), archive)}
    for file in (*folder.iterdir(), archive):
        file.write_bytes(b"another state")

    fetched = [
        sources.fetch(it, Sources(cache=tmp_path / "cache" / "artefacts")) for it in artefacts_for(cell) if it.file
    ]

    assert [it.path.read_bytes() for it in fetched] == [before[it.path.name] for it in fetched]
    assert len(fetched) == (2 if option == "enroot" else 1)
    if option == "pyxis":
        assert f"+s{fetched[0].sha256[:7]}-" in cell.id


@pytest.mark.parametrize("option", ["pyxis", "slurm"])
def test_a_path_that_is_not_there_is_refused(option: str) -> None:
    with pytest.raises(CandidateError, match="no such folder"):
        candidates.read(Options(**{option: Origin(path=Path("/not/there"))}), ROWS)  # type: ignore[arg-type]


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slurm.tar.bz2").write_text("no", encoding="utf-8")
    with pytest.raises(CandidateError, match="not a source archive"):
        candidates.read(Options(slurm=Origin(path=tmp_path / "slurm.tar.bz2")), ROWS)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("slurm22.05-embedded-debian12-amd64", Options(pyxis=Origin(path=Path("/p"))), "neither enroot nor Pyxis"),
        ("slurm22.05-legacy-debian12-amd64", Options(slurm=Origin(path=Path("/p"))), "plain Slurm, of packages"),
    ],
)
def test_a_cell_without_the_axis_refuses_the_option(name: str, options: Options, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        options.check(ROWS.cell(name))


def test_of_a_group_only_cells_with_the_axis_take_part_and_those_that_become_the_same_once() -> None:
    put = candidates.Candidates(found=(candidate(),), options=Options())
    names = [NAME, NAME.replace("0.19.0", "0.20.0"), "slurm22.05-embedded-debian12-amd64"]
    cells = [ROWS.cell(name) for name in names]
    assert [not put.unfit(cell) for cell in cells] == [True, True, False]
    assert [cell.id for cell in candidates.for_cells(cells[:2], put)] == [NAME.replace("0.19.0", "0.24.0+g1a2b3c4")]


def planned_group(asked: GroupRequest) -> planning.GroupPlan:
    return planning.plan_group(asked, ROWS, Options(run="r"), lambda _cell: None)


def test_a_group_runs_each_cell_with_the_candidate_once_and_says_what_it_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    put = candidates.Candidates(found=(candidate(files=(Path("/c/p.tar.gz"),)),), options=Options())
    asked = GroupRequest(group="sites", candidates=put)
    found = planned_group(asked)
    ids = [it.cell.id for it in found.cells]
    assert len(ids) == len(set(ids)) == len(ROWS.cells("sites", Arch.AMD64)), "each Slurm has two enroots there"
    assert all("-pyxis0.24.0+g1a2b3c4-" in it for it in ids)
    edges = planned_group(GroupRequest(group="edges", candidates=put))
    assert "it has no place for the candidates" in edges.record.left_out.values()
    assert {it.cell.runtime for it in edges.cells} == {Runtime.NVIDIA}
    on = planning.resumed(found.record, GroupRequest(candidates=put), ROWS, Options(run="r"), lambda _cell: None)
    assert [it.cell for it in on.cells] == [it.cell for it in found.cells]


def test_the_process_of_a_cell_and_whoever_runs_it_again_name_the_matrix_cell() -> None:
    origin = Origin(path=Path("/p"), revision=COMMIT)
    options = Options(run="r", pyxis=origin, name="pyxis_basic", pytest=True)
    plan = plan_environment(REAL.with_candidate(candidate(files=(Path("/c/p.tar.gz"),))), ROWS, options)
    again = Record(plan=plan, given=Given()).result(Outcome.ERROR, 23, "").again
    assert again == f'nox -s "pyxis_basic({NAME})" -- --pyxis /p@{COMMIT}'


def test_an_id_with_a_candidate_in_it_is_no_cell_of_the_matrix() -> None:
    with pytest.raises(SelectionError, match="there is no cell") as caught:
        ROWS.cell(NAME.replace("0.19.0", "0.19.0+g1a2b3c4"))
    assert "add --pyxis" in caught.value.next_step


def test_tests_meet_the_cell_with_its_candidates() -> None:
    cell = replace(REAL.with_candidate(candidate()), answers=(("pyxis", Version("0.21.0")),))
    data = {"version": "0.24.0+g1a2b3c4", "release": "0.24.0", "row": "0.24.0", "commit": COMMIT}
    assert cell.candidates[0].as_json() == data
    file = environment(cell.id, matrix_cell=NAME, candidates={"pyxis": data}, answers={"pyxis": "0.21.0"})
    found = cell_of(file, ROWS)
    assert (found, found.id, found.answers) == (cell, cell.id, cell.answers)


def test_a_checkout_is_read_the_same_way_whatever_the_users_settings_of_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status.showUntrackedFiles` would hide a new file, `log.showSignature` put gpg's words before a commit's date."""
    asked: list[list[str]] = []

    def answer(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("ci.artefacts.checkout.subprocess.run", answer)
    Checkout(path=Path("/src/pyxis")).commit()
    assert all("log.showSignature=false" in command for command in asked)
    (status,) = (command for command in asked if "status" in command)
    assert "--untracked-files=normal" in status
