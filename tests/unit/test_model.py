"""Selections over a loaded matrix: pure functions, the host's architecture is passed in."""

from collections.abc import Callable

import pytest

from ci.errors import SelectionError
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime, SlurmSource
from ci.matrix.loading import Matrix, load
from ci.matrix.model import SuiteEnvironment

REAL = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"
PACKAGES = ('from = "packages"',)
Loader = Callable[..., Matrix]


def row(axis: str, version: str, *more: str) -> str:
    return "\n".join([f"[[{axis}]]", f'version = "{version}"', *more])


def failing(tests: str, *selection: str) -> str:
    return "\n".join(
        [
            "[[known-failure]]",
            f"tests = {tests}",
            *selection,
            'says = "TIME LIMIT"',
            'reason = "it hangs"',
            'issue = "NVIDIA/pyxis#175"',
        ]
    )


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return load()


# The sample of the unit tests (tests/unit/data/matrix.toml)


@pytest.mark.parametrize(
    ("group", "count"),
    [("smoke", 2), ("reference", 2), ("embedded", 6), ("stable", 2), ("edges", 20), ("full", 1900), (None, 2)],
)
@pytest.mark.parametrize("host", Arch)
def test_size_of_the_groups(matrix: Matrix, group: str | None, count: int, host: Arch) -> None:
    cells = matrix.cells(group, host)
    assert len(cells) == len(set(cells)) == count


def test_full_is_the_product_of_the_axes_and_the_embedded_runtime(matrix: Matrix) -> None:
    full = matrix.cells("full", Arch.AMD64)
    packages = {cell.slurm.version: cell.os.name for cell in full if cell.slurm.source is SlurmSource.PACKAGES}
    assert packages == {"22.05": "debian12", "24.11": "debian13", "26.05": "sid"}
    compiled = {(cell.slurm.version, cell.os.name) for cell in full if cell.slurm.source is SlurmSource.ARCHIVE}
    assert len(compiled) == 8 * 2
    real = [cell for cell in full if cell.runtime is Runtime.NVIDIA]
    assert len(real) == (3 + 8 * 2) * 7 * 7 * 2
    assert {str(cell.enroot) for cell in real} == {"3.4.1", "3.5.0", "4.0.0", "4.0.1", "4.1.0", "4.1.1", "4.1.2"}
    assert {str(cell.pyxis) for cell in real} == {f"0.{minor}.0" for minor in range(18, 25)}


def test_the_reference_cells(matrix: Matrix) -> None:
    assert [cell.id for cell in matrix.cells("reference", Arch.AMD64)] == [
        REAL,
        "slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64",
    ]


def test_edges_are_the_corners(matrix: Matrix) -> None:
    edges = matrix.cells("edges", Arch.AMD64)
    real = [cell for cell in edges if cell.runtime is Runtime.NVIDIA]
    assert {cell.slurm.version for cell in edges} == {"22.05", "26.05.3"}
    assert {str(cell.enroot) for cell in real} == {"3.4.1", "4.1.2"}
    assert {str(cell.pyxis) for cell in real} == {"0.18.0", "0.24.0"}
    assert len(real) == 2**4
    assert len(edges) - len(real) == 4


def test_the_order_is_that_of_the_rows_and_stable(matrix: Matrix) -> None:
    assert [cell.id for cell in matrix.cells("full", Arch.AMD64)][:5] == [
        "slurm22.05-embedded-debian12-amd64",
        "slurm22.05-embedded-debian12-arm64",
        "slurm22.05-enroot3.4.1-pyxis0.18.0-debian12-amd64",
        "slurm22.05-enroot3.4.1-pyxis0.18.0-debian12-arm64",
        REAL,
    ]
    assert matrix.cells("full", Arch.AMD64) == load().cells("full", Arch.AMD64)


def test_every_cell_is_found_by_its_id(matrix: Matrix) -> None:
    for cell in matrix.all_cells(None):
        assert matrix.cell(cell.id) == cell


def test_groups_of_a_cell_depend_on_the_host(matrix: Matrix) -> None:
    assert matrix.cell(REAL, Arch.AMD64).groups == ("smoke", "reference", "full")
    assert matrix.cell(REAL, Arch.ARM64).groups == ("full",)
    assert matrix.cell(REAL).groups == ("smoke", "reference", "full")


def test_legacy_cells_are_in_groups_and_not_among_their_container_cells(matrix: Matrix) -> None:
    legacy = [cell for cell in matrix.all_cells(Arch.ARM64) if cell.runtime is Runtime.LEGACY]
    assert [cell.id for cell in legacy if "smoke" in cell.groups] == ["slurm22.05-legacy-debian12-arm64"]
    assert not [cell for cell in matrix.cells("full", Arch.ARM64) if cell.runtime is Runtime.LEGACY]


def test_the_subject_and_its_constraint(matrix: Matrix) -> None:
    subject = matrix.subject
    assert (subject.requirement, subject.name) == ("slurm-sdk==0.4.6", "slurm-sdk")
    assert subject.constraints == ("paramiko<5",)
    assert "gss_auth" in subject.reason


def test_nothing_is_excluded_without_a_documented_reason(matrix: Matrix) -> None:
    assert matrix.excluded() == ()


# Wrong selections


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("slurm22.05-enroot3.4.1-pyxis0.19.1-debian12-amd64", f"did you mean {REAL}"),
        ("slurm22.5-embedded-debian12-amd64", "did you mean slurm22.05-embedded-debian12-amd64"),
        ("slurm22.05-embedded-amd64", "slurm22.05-embedded-debian12-amd64"),
        ("slurm22.05-embedded-debian12-x86_64", "did you mean slurm22.05-embedded-"),
        ("", "there is no cell ''"),
        ("nonsense", "there is no cell 'nonsense'"),
    ],
)
def test_an_unknown_cell(matrix: Matrix, name: str, text: str) -> None:
    with pytest.raises(SelectionError) as caught:
        matrix.cell(name)
    assert text in caught.value.what
    assert caught.value.next_step == "nox -s ci -- cells --group full"


def test_a_name_like_no_cell_gets_no_guess(matrix: Matrix) -> None:
    with pytest.raises(SelectionError) as caught:
        matrix.cell("nonsense")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(("name", "guess"), [("smok", "smoke"), ("Full", "full"), ("edge", "edges")])
def test_an_unknown_group(matrix: Matrix, name: str, guess: str) -> None:
    with pytest.raises(SelectionError) as caught:
        matrix.cells(name, Arch.AMD64)
    assert caught.value.what == f"there is no group {name!r}; did you mean {guess!r}?"
    described = caught.value.why.removeprefix("the groups are ").split("; ")
    assert [word.partition(" ")[0] for word in described] == [group.name for group in matrix.groups]
    assert described[-1] == "full (every cell)"


def test_a_group_that_is_empty_on_this_host(load_matrix: Loader) -> None:
    matrix = load_matrix(head='schema = 1\narch = ["amd64"]')
    with pytest.raises(SelectionError, match="the group 'smoke' selects no cell") as caught:
        matrix.cells("smoke", Arch.ARM64)
    assert caught.value.why == "this machine is arm64, and arch lists only amd64"
    assert len(matrix.cells("full", Arch.ARM64)) == 10


def test_a_group_that_is_excluded_on_this_host_says_why(load_matrix: Loader) -> None:
    matrix = load_matrix(
        extra='[[exclude]]\nruntime = "embedded"\nslurm = "22.05"\narch = "arm64"\nreason = "no image"',
        groups='[groups.smoke]\ncells = [{ runtime = "embedded", slurm = "22.05", arch = "host" }]',
    )
    with pytest.raises(SelectionError) as caught:
        matrix.cells(None, Arch.ARM64)
    assert caught.value.why == "slurm22.05-embedded-debian12-arm64 is excluded: no image"


def test_a_group_without_a_container_cell(load_matrix: Loader) -> None:
    matrix = load_matrix(
        groups='[groups.smoke]\ncells = [{ runtime = "legacy" }]\n[groups.e]\ncells = [{ runtime = "embedded" }]'
    )
    with pytest.raises(SelectionError, match="'smoke' selects no cell"):
        matrix.cells("smoke", Arch.AMD64)


# What rows require, and exclusions


@pytest.mark.parametrize(
    ("sections", "reason", "count"),
    [
        (
            {"pyxis": row("pyxis", "0.19.0") + "\n" + row("pyxis", "0.24.0", 'requires-enroot = ">=4"')},
            "pyxis 0.24.0 requires enroot >=4",
            4,
        ),
        (
            {"pyxis": row("pyxis", "0.19.0") + "\n" + row("pyxis", "0.24.0", 'requires-slurm = ">=24.11"')},
            "pyxis 0.24.0 requires slurm >=24.11",
            4,
        ),
        (
            {"enroot": row("enroot", "3.4.1", 'requires-pyxis = "<0.20"') + "\n" + row("enroot", "4.1.2")},
            "enroot 3.4.1 requires pyxis <0.20",
            4,
        ),
        (
            {
                "slurm": row("slurm", "22.05", *PACKAGES, 'requires-os = "debian12"', 'requires-enroot = "~=3.4"')
                + "\n"
                + row("slurm", "24.11", *PACKAGES, 'requires-os = "debian13"')
            },
            "slurm 22.05 requires enroot ~=3.4",
            4,
        ),
    ],
)
def test_what_a_row_requires_takes_cells_out(
    load_matrix: Loader, sections: dict[str, str], reason: str, count: int
) -> None:
    matrix = load_matrix(**sections)
    excluded = matrix.excluded()
    assert [out.reason for out in excluded] == [reason] * count
    assert {out.cell.runtime for out in excluded} == {Runtime.NVIDIA}
    assert not {out.cell for out in excluded} & {*matrix.all_cells(None)}
    with pytest.raises(SelectionError, match="is excluded") as caught:
        matrix.cell(excluded[0].cell.id)
    assert reason in caught.value.why
    assert excluded[0].where in caught.value.why


EXCLUDE = '[[exclude]]\n{}\nreason = "no image"\nissue = "NVIDIA/pyxis#1"'


@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        ('slurm = "22.05"\nenroot = "3.4.1"\npyxis = "0.19.0"\narch = "aarch64"', 1),
        ('enroot = "3.4.1"', 8),
        ('enroot = ">=4"\npyxis = "<0.20"', 4),
        ('slurm = ">=24"', 8 + 2 + 2),
        ('slurm = "newest"\nruntime = "embedded"', 2),
        ('arch = "arm64"', 8 + 2 + 2),
        ('runtime = "legacy"\nslurm = "24.11"', 2),
        ('os = "debian13"', 8 + 2 + 2),
        ('os = ["debian12", "debian13"]\nenroot = "3.4.1"', 8),
        ('pyxis = "edges"\nenroot = "oldest"\nslurm = "22.05"\narch = "x86_64"', 2),
    ],
)
def test_exclusions(load_matrix: Loader, selection: str, gone: int) -> None:
    matrix = load_matrix(extra=EXCLUDE.format(selection))
    excluded = matrix.excluded()
    assert len(excluded) == gone
    assert {(out.reason, out.issue, out.where) for out in excluded} == {("no image", "NVIDIA/pyxis#1", "exclude[0]")}
    assert len(matrix.all_cells(None)) == 24 - gone


def test_an_excluded_cell_that_is_asked_for_says_why(load_matrix: Loader) -> None:
    matrix = load_matrix(extra=EXCLUDE.format('enroot = "3.4.1"'))
    with pytest.raises(SelectionError) as caught:
        matrix.cell(REAL)
    assert caught.value.why == "no image (exclude[0]), see NVIDIA/pyxis#1"


# Known failures


@pytest.mark.parametrize(
    ("pattern", "name", "known"),
    [
        ("test_mounts", "test_mounts", True),
        ("test_mounts", "tests/integration/test_advanced.py::test_mounts", True),
        ("test_mounts", "tests/integration/test_advanced.py::TestMounts::test_mounts", True),
        ("test_mounts", "test_advanced.py::test_mounts[ro]", True),
        ("test_mounts", "test_mounts_with_flags", False),
        ("test_mounts", "test_no_test_mounts", False),
        ("test_mounts[ro]", "test_advanced.py::test_mounts[ro]", True),
        ("test_mounts[ro]", "test_advanced.py::test_mounts[rw]", False),
        ("test_mounts[ro]", "test_advanced.py::test_mountsr", False),
        ("test_mounts[r?]", "test_mounts[rw]", True),
        ("test_mounts[*-gzip]", "test_mounts[oci-gzip]", True),
        ("test_*", "test_advanced.py::test_anything[a/b::c]", True),
        ("test_advanced.py::*", "tests/integration/test_advanced.py::test_mounts", True),
        ("test_advanced.py::*", "tests/integration/test_basic.py::test_mounts", False),
        ("integration/test_basic.py::test_x", "tests/integration/test_basic.py::test_x", True),
        ("test.mounts", "test_mounts", False),
    ],
)
def test_the_tests_of_a_known_failure(load_matrix: Loader, pattern: str, name: str, known: bool) -> None:  # noqa: FBT001 (a table's column)
    (failure,) = load_matrix(extra=failing(f'["nothing", "{pattern}"]')).failures
    assert failure.matches(load().cell(REAL), name) is known


def test_what_a_known_failure_is_about_is_told_without_parameters(load_matrix: Loader) -> None:
    (failure,) = load_matrix(extra=failing('["test_format[oci-*]"]')).failures
    assert failure.is_about("tests/integration/registry/test_formats.py::test_format[docker]")
    assert failure.is_about("test_format")
    assert not failure.is_about("test_format_of_another[oci-index]")


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (
            'pyxis = "0.21.0"\nslurm = ">=25.11"\nos = "sid"\narch = "amd64"\nenroot = "3.4.1"',
            ["slurm26.05-enroot3.4.1-pyxis0.21.0-sid-amd64"],
        ),
        (
            'runtime = "embedded"\narch = "amd64"\nslurm = "<24"\nos = "debian12"',
            [f"slurm{slurm}-embedded-debian12-amd64" for slurm in ("22.05", "23.02.8", "23.11.11")],
        ),
        (
            'enroot = "4.1.2"\npyxis = "newest"\nslurm = "22.05"\narch = "arm64"',
            ["slurm22.05-enroot4.1.2-pyxis0.24.0-debian12-arm64"],
        ),
    ],
)
def test_the_cells_of_a_known_failure(tmp_path_factory: pytest.TempPathFactory, selection: str, ids: list[str]) -> None:
    text = (
        load()
        .path.read_text(encoding="utf-8")
        .replace("\n[groups.smoke]", f'\n{failing("""["test_x"]""", selection)}\n[groups.smoke]')
    )
    path = tmp_path_factory.mktemp("matrix") / "matrix.toml"
    path.write_text(text, encoding="utf-8")
    matrix = load(path)
    (added,) = [failure for failure in matrix.failures if failure.tests == ("test_x",)]
    found = [cell.id for cell in matrix.cells("full", Arch.AMD64) if added in matrix.known_failures(cell)]
    assert found == ids
    assert (added.reason, added.issue) == ("it hangs", "NVIDIA/pyxis#175")
    assert added.where == f"known-failure[{len(matrix.failures) - 1}]"


# Somebody else's suite


def test_the_suites_environment(matrix: Matrix) -> None:
    facts = {"host": "127.0.0.1", "port": "2222", "registry": None, "private-key": "/keys/id", "unheard-of": "x"}
    assert matrix.suite_environment.render(facts) == {
        "SLURM_SDK_DEV_MODE": "devcontainer",
        "SLURM_RUN_INTEGRATION": "1",
        "SLURM_HOST": "127.0.0.1",
        "SLURM_PORT": "2222",
        "SLURM_PRIVATE_KEY": "/keys/id",
    }


def test_without_the_table_nothing_is_handed_over(load_matrix: Loader) -> None:
    assert load_matrix().suite_environment == SuiteEnvironment()
    assert load_matrix().suite_environment.render({"host": "127.0.0.1"}) == {}
