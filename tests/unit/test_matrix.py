"""matrix.toml is read whole, and every fault is reported at once with file, line, key path and remedy."""

from collections.abc import Callable
from pathlib import Path
import re

import pytest

from ci import paths
from ci.errors import MatrixError
from ci.matrix.arch import Arch
from ci.matrix.loading import Matrix, load
from ci.matrix.model import SuiteEnvironment
from ci.matrix.systems import families
from tests.support.rows import PROJECT, faults_in, grown

Writer = Callable[..., Path]
Loader = Callable[..., Matrix]


def faults(path: Path) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        load(path)
    assert str(path) in caught.value.where
    return faults_in(caught.value)


@pytest.mark.project_matrix
def test_the_repositorys_own_file_is_correct() -> None:
    assert load() == load(paths.MATRIX_FILE)
    assert load().path == paths.MATRIX_FILE


@pytest.mark.project_matrix
def test_every_cell_of_the_repositorys_own_file_is_found_by_its_id() -> None:
    rows = load()
    cells = rows.all_cells(None)
    assert len({cell.id for cell in cells}) == len(cells)
    for cell in cells:
        assert rows.cell(cell.id) == cell


@pytest.mark.project_matrix
def test_every_row_of_the_repositorys_own_file_has_a_cell() -> None:
    rows = load()
    there = [cell.axes for cell in rows.all_cells(None)]
    for axis in (rows.slurm, rows.enroot, rows.pyxis):
        assert [row.name for row in axis if not any(axes[row.axis] == row.name for axes in there)] == []


@pytest.mark.project_matrix
@pytest.mark.parametrize("host", Arch)
def test_the_groups_that_others_build_on_have_a_cell_on_every_machine(host: Arch) -> None:
    rows = load()
    for name in (rows.defaults.group, "reference", "stable", "edges", "pairs", "full"):
        assert rows.cells(name, host), name


def test_more_rows_are_what_a_new_release_brings(tmp_path: Path) -> None:
    file = tmp_path / "matrix.toml"
    file.write_text(grown(PROJECT.read_text(encoding="utf-8")), encoding="utf-8")
    before, after = load(PROJECT), load(file)
    for axis in ("slurm", "enroot", "pyxis"):
        old, new = getattr(before, axis), getattr(after, axis)
        assert len(new) == len(old) + 1
        assert new[-1].version > max(row.version for row in old)
    assert len(after.systems) == min(len(before.systems) + 1, len(families()))
    assert {group.name for group in after.groups} - {group.name for group in before.groups} == {"grown"}
    assert len(after.excluded()) > len(before.excluded())
    assert after.cells("grown", Arch.AMD64)


def test_a_small_file(load_matrix: Loader) -> None:
    matrix = load_matrix()
    assert len(matrix.cells("full", Arch.AMD64)) == 2 * (2 * 2 + 1) * 2
    assert (matrix.defaults.group, matrix.defaults.nodes) == ("smoke", 1)
    assert matrix.subject.name == "slurm-sdk"


def test_architectures_by_any_name(load_matrix: Loader) -> None:
    assert load_matrix(head='schema = 1\narch = ["aarch64", "x86_64"]').arches == (Arch.ARM64, Arch.AMD64)


def test_windows_line_ends(write_matrix: Writer) -> None:
    path = write_matrix()
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(load(path).slurm) == 2


@pytest.mark.parametrize(
    ("embedded", "versions"),
    [("", []), ("[embedded]", ["22.05", "24.11"]), ('[embedded]\nslurm = ">=24"', ["24.11"])],
)
def test_the_embedded_runtime_is_there_when_asked_for(load_matrix: Loader, embedded: str, versions: list[str]) -> None:
    cells = load_matrix(embedded=embedded).all_cells(None)
    assert list(dict.fromkeys(cell.slurm.version for cell in cells if "embedded" in cell.tags)) == versions


def test_all_faults_come_at_once_and_one_fault_drags_no_other_along(write_matrix: Writer) -> None:
    path = write_matrix(
        head='schema = 1\narch = ["x86_64"]\nenroots = ["3.5.0"]',
        pyxis="[[pyxis]]\nversion = 0.20",
        extra='[[exclude]]\nenrot = "3.4.1"\nreason = "x"',
        groups='[groups.smoke]\ncells = [{ pyxis = "0.20.0" }]',
        defaults='[defaults]\ngroup = "smok"',
    )
    with pytest.raises(MatrixError) as caught:
        load(path)
    keys = [re.sub(r"^matrix\.toml:\d+: ", "", line).split(": ")[0] for line in faults_in(caught.value)]
    assert keys == ["pyxis[0].version", "exclude[0].enrot", "defaults.group", "enroots"]
    assert str(caught.value).startswith("matrix.toml has 4 faults:\n  - matrix.toml:")
    assert all(f"\n  - {fault}" in str(caught.value) for fault in faults_in(caught.value))
    assert "next: correct the file" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("schema = 1\nenroots = 1", 2, "enroots"),
        ("schema = 1\n\n[[ pyxis ]] # new\n version = 0.20", 4, "pyxis[0].version"),
        ('[[pyxis]]\nversion = "0.19.0"\n\n[[pyxis]]\n"version" = 0.20', 5, "pyxis[1].version"),
        ('[[pyxis]]\nversion = "0.19.0"\n[[pyxis]]\n', 3, "pyxis[1]"),
        ("schema = 1\npyxis.0.20 = 'x'\n[[exclude]]\npyxis = 'x'", 2, "pyxis"),
        ("[groups.smoke]\ncells = []", 2, "groups.smoke.cells"),
        ("[groups.smoke]\ncells = [\n  { slrum = '1' },\n]", 2, "groups.smoke.cells[0].slrum"),
        ("[groups.Big]\ncells = 'all'", 1, "groups.Big"),
        ("[defaults]\n# nodes = 1\nnodes = 0", 3, "defaults.nodes"),
        ("[subject]\nname = 'x'", 2, "subject.name"),
    ],
)
def test_the_line_of_a_fault(tmp_path: Path, text: str, line: int, key: str) -> None:
    path = tmp_path / "matrix.toml"
    path.write_text(text, encoding="utf-8")
    assert [fault for fault in faults(path) if fault.startswith(f"matrix.toml:{line}: {key}: ")]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"schema = 1\nenroot = [3.4.1]\n", 2, 'versions are text, quote it: "3.4.1"'),
        (b"schema = 1\n[[pyxis]]\nversion = 0.20.0\n", 3, 'quote it: "0.20.0"'),
        (b"schema = 1\n\nbare word\n", 3, "correct the line"),
        (b"[subject]\n[defaults]\n[subject]\n", 3, "Cannot declare"),
        (b'schema = 1\narch = ["amd64"', 2, "correct the line"),
        (b'schema = 1\nx = "\n', 2, "correct the line"),
        (b"\xef\xbb\xbfschema = 1\n", 1, "byte order mark; save it as UTF-8 without one"),
        ("schema = 1\n".encode("utf-16"), 1, "byte order mark"),
        (b"schema = 1\n# caf\xe9\n", 2, "byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, line: int, words: str) -> None:
    path = tmp_path / "matrix.toml"
    path.write_bytes(content)
    with pytest.raises(MatrixError) as caught:
        load(path)
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.what.startswith(f"matrix.toml:{line}: ")
    assert words in caught.value.what


@pytest.mark.parametrize("content", [b"", b"\n", b"# nothing but a comment\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "matrix.toml"
    path.write_bytes(content)
    (fault,) = faults(path)
    assert fault.endswith("the file is empty; it needs schema = 1 and the axes slurm, enroot, pyxis, arch")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"reading matrix\.toml failed") as caught:
        load(tmp_path / "matrix.toml")
    assert caught.value.why == "No such file or directory"
    assert caught.value.next_step


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"reading .* failed") as caught:
        load(tmp_path)
    assert caught.value.why == "Is a directory"


@pytest.mark.parametrize("fact", SuiteEnvironment.FACTS)
def test_every_fact_can_be_handed_to_a_suite(load_matrix: Loader, fact: str) -> None:
    environment = load_matrix(extra=f"[suite-environment]\n{fact} = 'MY_VARIABLE'").suite_environment
    assert environment.render({fact: "value"}) == {"MY_VARIABLE": "value"}
