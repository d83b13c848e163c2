"""A cell has one name; a command line decides which cells nox offers."""

from collections.abc import Callable, Mapping
import json

from packaging.version import Version
import pytest

from ci.errors import SelectionError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmVersion
from ci.matrix.loading import Matrix, load
from ci.matrix.mentioned import GROUP_VARIABLE, mentioned
from tests.support.cells import DEBIAN12, PACKAGES

REAL = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12"
NEW = "slurm24.11-enroot4.1.2-pyxis0.24.0-debian13"
SMOKE = ["slurm22.05-embedded-debian12-amd64", f"{REAL}-amd64"]


def real(**changed: object) -> Cell:
    values: dict[str, object] = {
        "slurm": PACKAGES,
        "os": DEBIAN12,
        "runtime": Runtime.NVIDIA,
        "enroot": Version("3.4.1"),
        "pyxis": Version("0.19.0"),
        "arch": Arch.AMD64,
    }
    return Cell(**(values | changed))  # type: ignore[arg-type] # the tests also try wrong values


def plain(runtime: Runtime, arch: Arch = Arch.AMD64) -> Cell:
    return Cell(slurm=PACKAGES, os=DEBIAN12, runtime=runtime, arch=arch)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (real(), "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"),
        (real(arch=Arch.ARM64), "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-arm64"),
        (real(pyxis=Version("0.20.0")), "slurm22.05-enroot3.4.1-pyxis0.20.0-debian12-amd64"),
        (plain(Runtime.EMBEDDED), "slurm22.05-embedded-debian12-amd64"),
        (plain(Runtime.LEGACY, Arch.ARM64), "slurm22.05-legacy-debian12-arm64"),
    ],
)
def test_id(cell: Cell, name: str) -> None:
    assert cell.id == str(cell) == name


@pytest.mark.project_matrix
def test_ids_need_no_quoting_in_a_shell_an_image_tag_or_a_path() -> None:
    for cell in load().all_cells(None):
        # No image is built for a profile, so its + stands in no tag.
        plain = cell.id.removesuffix(f"+{cell.profile}")
        assert set(plain) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
        assert set(cell.id) <= {*plain, *cell.profile, "+"}
        assert len(plain) <= 63, "Docker's limit for host names"


def test_equal_by_value_whatever_the_groups() -> None:
    assert real() == real(groups=("smoke",))
    assert hash(real()) == hash(real(groups=("smoke",)))
    assert len({real(), real(), real(arch=Arch.ARM64), plain(Runtime.EMBEDDED), plain(Runtime.LEGACY)}) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: real(enroot=None),
        lambda: real(pyxis=None),
        lambda: real(enroot=None, pyxis=None),
        lambda: real(runtime=Runtime.EMBEDDED),
        lambda: real(runtime=Runtime.LEGACY, pyxis=None),
    ],
)
def test_versions_belong_to_real_cells_and_to_no_other(make: Callable[[], Cell]) -> None:
    with pytest.raises(ValueError, match="both or neither"):
        make()


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        (real(), "slurm22.05 enroot3.4.1 pyxis0.19.0 nvidia debian12 amd64"),
        (real(groups=("smoke", "full")), "smoke full slurm22.05 enroot3.4.1 pyxis0.19.0 nvidia debian12 amd64"),
        (plain(Runtime.EMBEDDED), "slurm22.05 embedded debian12 amd64"),
        (plain(Runtime.LEGACY), "slurm22.05 legacy debian12 amd64"),
    ],
)
def test_tags(cell: Cell, tags: str) -> None:
    assert cell.tags == tuple(tags.split())


def test_a_group_named_like_an_axis_gives_one_tag() -> None:
    cell = Cell(slurm=PACKAGES, os=DEBIAN12, runtime=Runtime.EMBEDDED, arch=Arch.AMD64, groups=("embedded",))
    assert cell.tags.count("embedded") == 1


def test_as_json() -> None:
    assert json.loads(json.dumps(real(groups=("full",)).as_json())) == {
        "id": f"{REAL}-amd64",
        "axes": {"slurm": "22.05", "enroot": "3.4.1", "pyxis": "0.19.0", "os": "debian12", "arch": "amd64"},
        "runtime": "nvidia",
        "os": "debian12",
        "arch": "amd64",
        "tags": ["full", "slurm22.05", "enroot3.4.1", "pyxis0.19.0", "nvidia", "debian12", "amd64"],
    }
    assert plain(Runtime.EMBEDDED).as_json()["axes"] == {
        "slurm": "22.05",
        "enroot": None,
        "pyxis": None,
        "os": "debian12",
        "arch": "amd64",
    }


def test_slurm_versions_compare_as_versions_and_print_as_slurm_does() -> None:
    assert PACKAGES.parsed < SlurmVersion(version="22.11").parsed
    assert str(PACKAGES) == "22.05"


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return load()


def offered(matrix: Matrix, *argv: str, host: Arch = Arch.AMD64, env: Mapping[str, str] | None = None) -> list[str]:
    return [it.id for it in mentioned(argv, matrix, host, env or {}) if it.runtime is not Runtime.LEGACY]


def legacy(matrix: Matrix, *argv: str, host: Arch = Arch.AMD64, env: Mapping[str, str] | None = None) -> list[str]:
    return [it.id for it in mentioned(argv, matrix, host, env or {}) if it.runtime is Runtime.LEGACY]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["-l"],
        ["-s", "pyxis_basic"],
        ["-s", f"pyxis_basic({REAL}-amd64)"],
        ["-t", "smoke"],
        ["-t"],
        ["-t", "lint"],
        ["--tags", "-s", "full"],
        ["-s", "images", "--", "--group", "full", "-t", "full", f"pyxis_basic({NEW}-amd64)"],
        ["--tempdir=full", "-ts"],
    ],
)
def test_the_default_group_is_offered_and_no_more(matrix: Matrix, argv: list[str]) -> None:
    assert offered(matrix, *argv) == SMOKE


@pytest.mark.parametrize(
    "argv",
    [
        ["-s", f"pyxis_basic({NEW}-amd64)"],
        [f"--session=pyxis_basic({NEW}-amd64)"],
        ["-s", f"'pyxis_basic({NEW}-amd64)'"],
        ["-s", f"pyxis_basic(cell='{NEW}-amd64')"],
        ["-s", f'pyxis_basic("{NEW}-amd64")'],
        ["-s", "lint", f"pyxis_basic({NEW}-amd64)", "--", "-x"],
    ],
)
def test_a_cell_named_in_an_argument_is_offered_too(matrix: Matrix, argv: list[str]) -> None:
    assert offered(matrix, *argv) == [*SMOKE, f"{NEW}-amd64"]


def test_a_cell_named_in_noxs_own_variable(matrix: Matrix) -> None:
    assert offered(matrix, env={"NOXSESSION": f"pyxis_basic({NEW}-amd64)"}) == [*SMOKE, f"{NEW}-amd64"]


def test_every_listed_id_can_be_pasted_back(matrix: Matrix) -> None:
    for cell in matrix.cells("full", Arch.AMD64)[::25]:
        assert cell.id in offered(matrix, "-s", f"pyxis_basic({cell.id})")


@pytest.mark.parametrize(
    "argv",
    [
        ["-t", "reference"],
        ["-treference"],
        ["--tags", "lint", "reference"],
        ["--tags=reference"],
        ["-s", "x", "-t", "a", "reference", "-r"],
    ],
)
def test_a_group_named_as_tag_is_offered_too(matrix: Matrix, argv: list[str]) -> None:
    assert offered(matrix, *argv) == [*SMOKE, f"{NEW}-amd64"]


def test_all_cells_of_an_axis_named_as_tag_are_offered(matrix: Matrix) -> None:
    both = [*offered(matrix, "-t", "pyxis0.21.0"), *SMOKE]
    assert set(both) == {cell.id for cell in matrix.cells("full", Arch.AMD64) if "pyxis0.21.0" in cell.tags} | {*SMOKE}
    assert len(both) == (3 + 8 * 2) * 7 * 2 + 2 * len(SMOKE)


@pytest.mark.parametrize("argv", [["-t", "full"], ["-t", "edges"], ["-s", f"a({NEW}-arm64)", f"b({REAL}-arm64)"]])
def test_the_order_is_the_matrix(matrix: Matrix, argv: list[str]) -> None:
    full = [cell.id for cell in matrix.cells("full", Arch.AMD64)]
    found = offered(matrix, *argv)
    assert found == [name for name in full if name in found]


def test_the_host_decides_the_architecture(matrix: Matrix) -> None:
    assert offered(matrix, host=Arch.ARM64) == ["slurm22.05-embedded-debian12-arm64", f"{REAL}-arm64"]


def test_the_environment_may_choose_the_group(matrix: Matrix) -> None:
    assert offered(matrix, env={GROUP_VARIABLE: "reference"}) == [f"{REAL}-amd64", f"{NEW}-amd64"]
    assert offered(matrix, env={GROUP_VARIABLE: ""}) == SMOKE


@pytest.mark.parametrize("function", [offered, legacy])
def test_an_unknown_group_in_the_environment(matrix: Matrix, function: Callable[..., list[str]]) -> None:
    with pytest.raises(SelectionError, match="there is no group 'smok'; did you mean 'smoke'") as caught:
        function(matrix, env={GROUP_VARIABLE: "smok"})
    assert all(group.name in caught.value.why for group in matrix.groups)


def test_a_well_formed_id_of_no_cell(matrix: Matrix) -> None:
    with pytest.raises(SelectionError, match=f"did you mean {REAL}-amd64"):
        offered(matrix, "-s", "pyxis_basic(slurm22.05-enroot3.4.1-pyxis0.19.1-debian12-amd64)")


def test_an_id_of_before_there_was_an_operating_system_in_it(matrix: Matrix) -> None:
    with pytest.raises(SelectionError, match=f"did you mean .*{SMOKE[0]}"):
        offered(matrix, "-s", "pyxis_basic(slurm22.05-embedded-amd64)")


def test_the_cells_carry_their_groups_for_nox_tags(matrix: Matrix) -> None:
    cells = mentioned([], matrix, Arch.AMD64, {})
    assert [cell.groups for cell in cells if cell.runtime is not Runtime.LEGACY] == [
        ("smoke", "embedded", "stable", "edges", "full"),
        ("smoke", "reference", "full"),
    ]


@pytest.mark.parametrize(
    ("argv", "env", "names"),
    [
        ([], {}, ["slurm22.05-legacy-debian12-amd64"]),
        (
            ["-s", "legacy_integration(slurm24.11-legacy-debian13-amd64)"],
            {},
            ["slurm22.05-legacy-debian12-amd64", "slurm24.11-legacy-debian13-amd64"],
        ),
        (["-s", f"pyxis_basic({NEW}-amd64)"], {}, ["slurm22.05-legacy-debian12-amd64"]),
        (["-t", "reference"], {}, ["slurm22.05-legacy-debian12-amd64"]),
        ([], {GROUP_VARIABLE: "embedded"}, ["slurm22.05-legacy-debian12-amd64"]),
        (
            ["-t", "slurm26.05"],
            {},
            ["slurm22.05-legacy-debian12-amd64", "slurm26.05-legacy-sid-amd64", "slurm26.05-legacy-sid-arm64"],
        ),
    ],
)
def test_legacy_cells_offered(matrix: Matrix, argv: list[str], env: dict[str, str], names: list[str]) -> None:
    assert legacy(matrix, *argv, env=env) == names


def test_all_legacy_cells_are_offered_for_the_tag_full(matrix: Matrix) -> None:
    assert legacy(matrix, "-t", "full") == [
        f"slurm{version}-{arch}"
        for version in ("22.05-legacy-debian12", "24.11-legacy-debian13", "26.05-legacy-sid")
        for arch in ("amd64", "arm64")
    ]


def test_container_sessions_are_never_offered_a_legacy_cell(matrix: Matrix) -> None:
    assert not [name for name in offered(matrix, "-t", "full", "legacy") if "legacy" in name]
    assert offered(matrix, "-s", "legacy_integration(slurm24.11-legacy-debian13-amd64)") == SMOKE


def test_a_matrix_whose_groups_hold_no_legacy_cell_still_offers_one(load_matrix: Callable[..., Matrix]) -> None:
    groups = '[groups.smoke]\ncells = [{ runtime = "embedded" }]'
    assert legacy(load_matrix(groups=groups), host=Arch.ARM64) == ["slurm22.05-legacy-debian12-arm64"]
