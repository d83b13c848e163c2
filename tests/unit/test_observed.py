"""What was observed inside a cluster is compared with what the cell's id says, axis by axis."""

from packaging.version import Version
import pytest

from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Candidate, Cell
from ci.matrix.observed import mismatches, slurm_matches
from tests.support.rows import SAMPLE

REAL = {"slurm": "22.05", "enroot": "3.4.1", "pyxis": "0.19.0", "os": "debian12", "arch": "amd64"}
CELLS = loading.load(SAMPLE).cells("full", Arch.AMD64)
SEEN = {"slurm": "22.05.8", "enroot": "3.4.1", "pyxis": "0.19.0", "os": "Debian GNU/Linux 12", "arch": "x86_64"}


def test_what_fits() -> None:
    assert mismatches(REAL, SEEN) == ()


@pytest.mark.parametrize(
    ("axis", "observed", "says"),
    [
        ("slurm", "24.11.5", "slurm is 24.11.5, not 22.05"),
        ("slurm", "22.051", "slurm is 22.051, not 22.05"),
        ("enroot", "4.1.2", "enroot is 4.1.2, not 3.4.1"),
        ("pyxis", "0.24.0", "pyxis is 0.24.0, not 0.19.0"),
        ("pyxis", "0.19.0rc1", "pyxis is 0.19.0rc1, not 0.19.0"),
        ("pyxis", "sed: can't read", "pyxis is sed: can't read, not 0.19.0"),
        ("pyxis", "", "pyxis is unknown, not 0.19.0"),
        ("arch", "aarch64", "arch is aarch64, not amd64"),
        ("os", "Debian GNU/Linux 13 (trixie)", "os is Debian GNU/Linux 13 (trixie), not debian12"),
        ("arch", "riscv64", "arch is riscv64, not amd64"),
    ],
)
def test_another_version_is_named_beside_the_right_one(axis: str, observed: str, says: str) -> None:
    assert mismatches(REAL, SEEN | {axis: observed}) == (says,)


@pytest.mark.parametrize("axis", list(REAL))
def test_a_version_that_nobody_observed_does_not_fit(axis: str) -> None:
    seen = {name: value for name, value in SEEN.items() if name != axis}
    assert mismatches(REAL, seen) == (f"{axis} is unknown, not {REAL[axis]}",)


def test_all_are_named() -> None:
    assert mismatches(REAL, {}) == tuple(
        f"{axis} is unknown, not {REAL[axis]}" for axis in ("slurm", "enroot", "pyxis", "arch", "os")
    )


def test_axes_that_do_not_apply_are_not_asked() -> None:
    embedded = REAL | {"enroot": None, "pyxis": None}
    assert mismatches(embedded, SEEN | {"enroot": "9.9", "pyxis": ""}) == ()


def test_a_release_from_an_archive_is_exact() -> None:
    assert mismatches(REAL | {"slurm": "24.11.7"}, SEEN | {"slurm": "24.11.6"}) == ("slurm is 24.11.6, not 24.11.7",)
    assert mismatches(REAL | {"slurm": "24.11.7"}, SEEN | {"slurm": "24.11.7"}) == ()


@pytest.mark.parametrize(
    ("axis", "release", "version", "observed", "fits"),
    [
        ("pyxis", "0.25.0", "0.25.0+g1a2b3c4", "0.25.0", True),
        ("pyxis", "0.25.0rc1", "0.25.0rc1+g1a2b3c4.dirty5f6e7d8", "0.25.0-rc1", True),
        ("pyxis", "0.25.0", "0.25.0+g1a2b3c4", "0.24.0", False),
        ("enroot", "4.2.0~rc1", "4.2.0rc1+s1a2b3c4", "4.2.0~rc1", True),
        ("enroot", "4.2.0+git1", "4.2.0+s1a2b3c4", "4.2.0", True),
        ("slurm", "24.05.8", "24.05.8+g1a2b3c4", "24.05.8", True),
        ("slurm", "24.05.8", "24.05.8+g1a2b3c4", "24.05.7", False),
    ],
)
def test_a_candidate_is_known_by_its_release(
    axis: str, release: str, version: str, observed: str, *, fits: bool
) -> None:
    candidate = Candidate(axis=axis, version=Version(version), release=release, row=Version("1"))
    (cell,) = (it for it in CELLS if it.id == "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64")
    axes = cell.with_candidate(candidate).axes
    assert (mismatches(axes, SEEN | {axis: observed}) == ()) is fits


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_fits_what_its_own_programs_say(cell: Cell) -> None:
    said = {axis: cell.release(axis) or "" for axis in ("slurm", "enroot", "pyxis")}
    assert mismatches(cell.axes, {**said, "arch": cell.arch.uname, "os": cell.axes["os"] or ""}) == ()


@pytest.mark.parametrize(
    ("observed", "wanted", "same"),
    [
        ("22.05", "22.05", True),
        ("22.05.8", "22.05", True),
        ("24.11-0rc1", "24.11", True),
        ("22.050.1", "22.05", False),
        ("24.05.1", "24.11", False),
    ],
)
def test_slurm_of_a_series(observed: str, wanted: str, *, same: bool) -> None:
    assert slurm_matches(observed, wanted) is same
