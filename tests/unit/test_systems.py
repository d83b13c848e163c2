"""Operating systems: a row takes one file, a family takes one more, and a name may have a dot."""

from collections.abc import Callable, Sequence
from pathlib import Path
import shutil

from msgspec.structs import replace
import pytest

from ci import paths
from ci.environment.plan import names, plan_environment
from ci.errors import MatrixError
from ci.images import base
from ci.images.content import Content
from ci.images.plan import images_of
from ci.images.wheels import Target
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.mentioned import mentioned
from ci.matrix.model import Matrix
from ci.matrix.systems import families
from ci.options import Options
from ci.record.store import CellRecord
from ci.report import contradictions
from ci.terminal import console
from ci.terminal.processes import Completed
from tests.support.results import result
from tests.support.rows import faults_in

Loader = Callable[..., Matrix]

UBUNTU = """
image = "ubuntu:{codename}"
archive = "http://archive.example/ubuntu"
options = ["--components=main,universe"]
[glibc]
jammy = "2.35"
noble = "2.39"
"""
NAME = "ubuntu24.04"
ID = f"slurm23.11-enroot4.1.2-pyxis0.24.0-{NAME}-amd64"


@pytest.fixture
def rows(load_matrix: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Matrix:
    """Return a matrix with an operating system of a family that is not the project's: two files."""
    folder = tmp_path / "systems"
    folder.mkdir()
    debian = (paths.FAMILIES / "debian.toml").read_text(encoding="utf-8")
    (folder / "debian.toml").write_text(debian, encoding="utf-8")
    (folder / "ubuntu.toml").write_text(UBUNTU, encoding="utf-8")
    monkeypatch.setattr(paths, "FAMILIES", folder)
    return load_matrix(
        os=f'[[os]]\nname = "debian12"\ncodename = "bookworm"\n[[os]]\nname = "{NAME}"\ncodename = "noble"',
        slurm='[[slurm]]\nversion = "22.05"\nfrom = "packages"\nrequires-os = "debian12"\n'
        f'[[slurm]]\nversion = "23.11"\nfrom = "packages"\nrequires-os = "{NAME}"',
    )


@pytest.fixture
def cell(rows: Matrix) -> Cell:
    return rows.cell(ID)


def test_its_cells_are_found_by_their_ids_and_on_a_command_line(rows: Matrix, cell: Cell) -> None:
    assert cell.os.name == NAME
    assert NAME in cell.tags
    for line in ([f"pyxis_basic({ID})"], ["-t", NAME], ["-s", f"registry({ID})"]):
        assert cell in mentioned(line, rows, Arch.AMD64, {}), line
    assert cell not in mentioned(["-s", "registry"], rows, Arch.AMD64, {})


def test_what_was_observed_is_compared_with_the_whole_release(rows: Matrix, cell: Cell, tmp_path: Path) -> None:
    assert rows
    passed = result(CellRecord.of(cell))
    whole, other = (
        replace(passed, versions={**passed.versions, "os": it}) for it in ("Ubuntu 24.04.1 LTS", "Ubuntu 24.10")
    )
    assert passed.cell.os == NAME
    folder = tmp_path / cell.id / whole.suite
    assert contradictions.found_in(whole, folder) == ()
    assert contradictions.found_in(other, folder) == (
        f"observed inside: os is Ubuntu 24.10, not {NAME} as the id says",
    )


def test_its_images_are_those_of_its_family(rows: Matrix, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(cell, rows.subject, None, accounting=False, environ={"PYXIS_MATRIX_DEBIAN_MIRROR": "http://d"})
    bare = images.slurm.parents["BASE_IMAGE"]
    assert Content(plan=bare, parents={}).tag.startswith(f"pyxis-matrix/base:{NAME}-amd64-")
    assert (bare.pulled_as, bare.build_args["DEBIAN_MIRROR"]) == ("ubuntu:noble", "http://archive.example/ubuntu")
    assert images.node.wheels
    assert images.node.wheels.glibc == 39
    assert images.job
    assert images.job.wheels
    assert images.job.wheels.glibc == 36, "job images are Debian's on all cells"
    assert images.job.parents["BASE_IMAGE"].pulled_as == ""

    mirrored = images_of(cell, rows.subject, None, accounting=False, environ={"PYXIS_MATRIX_UBUNTU_MIRROR": "http://u"})
    assert mirrored.slurm.parents["BASE_IMAGE"].build_args["DEBIAN_MIRROR"] == "http://u"

    commands: list[Sequence[str | Path]] = []

    def call(command: Sequence[str | Path], *, log: Path) -> Completed:
        commands.append(command)
        return Completed(command=(), exit_code=1, output=f"see {log}")

    monkeypatch.setattr(console, "call", call)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with (
        pytest.raises(Exception, match="mmdebstrap failed to make noble"),
        base.root_of(Content(plan=bare, parents={}), log=paths.REPOSITORY / "not-there.log"),
    ):
        pass
    assert "--components=main,universe" in commands[0]
    assert [commands[0][-3], commands[0][-1]] == ["noble", "http://archive.example/ubuntu"]


def test_its_environment_has_a_name_that_an_engine_takes(rows: Matrix, cell: Cell) -> None:
    plan = plan_environment(cell, rows, Options(run="r"))
    assert plan.names == names(plan.options, cell)
    assert NAME in plan.names.prefix


def test_a_wheel_for_a_newer_glibc_than_the_systems_is_not_taken() -> None:
    tags = Target(python="3.10", arch=Arch.AMD64, glibc=35).tags
    assert "manylinux_2_35_x86_64" in tags
    assert "manylinux_2_36_x86_64" not in tags


def test_the_projects_own_families_are_valid() -> None:
    assert {"bookworm", "trixie", "sid"} <= set(families())
    assert {family.name for family in families().values()} == {file.stem for file in paths.FAMILIES.iterdir()}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("archive = 'a'", "glibc: names no release"),
        ("[glibc]\nx = '2.36'", "the key 'archive' is missing"),
        (
            "archive = 'a'\n[glibc]\nx = 2.36",
            'glibc.x: expected text in quotes, found the number 2.36; quote it: x = "2.36"',
        ),
        ("archive = 'a'\n[glibc]\nx = '3'", 'glibc.x: glibc is written as "2.36"'),
        ("archive = 'a'\nimages = 'b'\n[glibc]\nx = '2.36'", "unknown key 'images'; did you mean 'image'?"),
    ],
)
def test_a_fault_in_a_familys_file_is_named(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(MatrixError) as caught:
        families(tmp_path)
    assert any(fault in line for line in faults_in(caught.value))
