"""Which cells a change can affect: from the names of files, and from two matrices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ci.environment.plan import plan_environment
from ci.errors import MatrixError
from ci.fleet.affected import MATRIX, PINS, ChangeSet, affected
from ci.fleet.parts import expanded, pinned_by, program_files
from ci.group.fingerprint import hash_of_files, ingredients
from ci.images.content import Content
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES
from ci.matrix.suites import requested_suites as suites_of
from ci.options import Options
from ci.paths import CONTAINERS, FAMILIES, PROFILES, REPOSITORY
from tests.unit.conftest import SECTIONS, MatrixLoader

ALL = {"nvidia", "embedded", "legacy"}
CONTAINERS_ONLY = {"nvidia", "embedded"}
Asker = Callable[..., dict[str, tuple[str, ...]]]


@pytest.fixture
def rows() -> Matrix:
    return loading.load()


def cells(matrix: Matrix) -> tuple[Cell, ...]:
    return tuple(cell for cell in matrix.all_cells(Arch.AMD64) if cell.arch is Arch.AMD64)


def runtimes(matrix: Matrix, *files: str, suites: tuple[str, ...] = (), options: Options | None = None) -> set[str]:
    """Return the runtimes of the cells that a change of files can affect; always all of their cells, or none."""
    change = ChangeSet(since="main", files=files)
    wanted = suites_of(suites or tuple(SUITES))
    found = affected(cells(matrix), wanted, matrix, options or Options(run="r"), change)
    whole = {runtime: {cell.id for cell in cells(matrix) if cell.runtime is runtime} for runtime in Runtime}
    for runtime, ids in whole.items():
        assert not ids & found.keys() or ids <= found.keys(), runtime
    return {runtime.value for runtime, ids in whole.items() if ids & found.keys()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docs/ci.md", set()),
        ("docs/report.png", set()),
        ("README.md", set()),
        ("LICENSE", set()),
        ("tests/unit/test_fleet.py", set()),
        ("tests/component/weather.py", set()),
        ("tests/mutations/plugins/killed.py", set()),
        ("tests/soak/rounds.py", set()),
        ("tests/browser/test_page.py", set()),
        ("tests/scale/__main__.py", set()),
        ("containers/embedded/enroot", {"embedded"}),
        ("containers/embedded/README.md", CONTAINERS_ONLY),  # suites compare it with what the cell does
        ("containers/no-such-image/Containerfile", set()),
        ("containers/families/debian.toml", ALL),
        ("containers/families/no-such-family.toml", set()),
        ("tests/attacks/ground.py", set()),
        ("tests/integration/advanced/fixtures.py", CONTAINERS_ONLY),  # a plugin of every container suite
        ("tests/integration/no-such-suite/test_x.py", ALL),
        ("containers/slurm-pyxis-integration/install-pyxis.sh", CONTAINERS_ONLY),
        ("containers/slurm-pyxis-integration/slurm.conf", CONTAINERS_ONLY),  # rendered for embedded cells, too
        ("containers/slurm-integration/slurm.conf", ALL),
        ("containers/job/Containerfile", CONTAINERS_ONLY),
        ("containers/registry/config.yml", CONTAINERS_ONLY),
        ("containers/base/mmdebstrap.conf", ALL),
        ("containers/shared/apt-install", ALL),
        ("containers/slurmdbd/Containerfile", set()),  # no cell has accounting unless asked
        ("tests/integration/registry/support.py", CONTAINERS_ONLY),
        ("tests/integration/upstream/hub.py", {"nvidia"}),
        ("tests/integration/test_legacy_jobs.py", {"legacy"}),
        ("tests/integration/conftest_container_packaging.py", CONTAINERS_ONLY),
        ("tests/integration/conftest.py", ALL),
        ("tests/support/enroot.py", ALL),
        ("tests/support/no_longer_there.py", ALL),
        ("tests/conftest.py", ALL),
        ("ci/errors.py", ALL),
        ("ci/README.md", ALL),
        ("noxfile.py", ALL),
        ("pyproject.toml", ALL),
        (".github/workflows/ci.yml", ALL),
        ("something/new", ALL),
    ],
)
def test_a_file_affects_what_is_made_of_it(rows: Matrix, name: str, expected: set[str]) -> None:
    assert runtimes(rows, name) == expected


def test_every_folder_of_containers_affects_some_cell(rows: Matrix) -> None:
    options = Options(run="r", accounting=True)
    folders = [it.name for it in CONTAINERS.iterdir() if it.is_dir() and it not in {FAMILIES, PROFILES}]
    change = [ChangeSet(since="main", files=(f"containers/{name}/x",)) for name in folders]
    found = [affected(cells(rows), suites_of(tuple(SUITES)), rows, options, it) for it in change]
    assert [name for name, ids in zip(folders, found, strict=True) if not ids] == []


def test_a_profile_affects_the_cells_that_it_is_laid_over(rows: Matrix) -> None:
    change = ChangeSet(since="main", files=("containers/profiles/strict/slurm.conf",))
    plain, strict, other = (Options(run="r", profile=it) for it in ("", "strict", "cgroups"))
    chosen = [it for it in cells(rows) if it.runtime is not Runtime.LEGACY]
    found = [affected(chosen, suites_of(("pyxis_basic",)), rows, it, change) for it in (plain, strict, other)]
    assert [len(it) for it in found] == [0, len(chosen), 0]


def test_what_only_other_suites_are_made_of_does_not_count(rows: Matrix) -> None:
    name = "tests/integration/registry/support.py"
    assert runtimes(rows, name, suites=("pyxis_basic",)) == set()
    assert runtimes(rows, name, suites=("pyxis_basic", "registry")) == CONTAINERS_ONLY
    shared = "tests/integration/conftest_container_packaging.py"
    assert runtimes(rows, shared, suites=("registry",)) == CONTAINERS_ONLY


def test_what_an_option_brings_in_counts(rows: Matrix) -> None:
    assert runtimes(rows, "containers/slurmdbd/Containerfile", options=Options(run="r", accounting=True)) == ALL


def test_each_reason_is_named(rows: Matrix) -> None:
    change = ChangeSet(
        since="main", files=("containers/embedded/enroot", "docs/ci.md", "tests/integration/registry/x.py")
    )
    found = affected(cells(rows), suites_of([]), rows, Options(run="r"), change)
    (embedded, *_) = (cell for cell in cells(rows) if cell.runtime is Runtime.EMBEDDED)
    assert found[embedded.id] == (
        "containers/embedded/enroot goes into its image or its configuration",
        "tests/integration/registry/x.py is part of the suite registry",
    )


# -- two matrices ---------------------------------------------------------------------------------------------------


@pytest.fixture
def reasons(load_matrix: MatrixLoader) -> Callable[..., dict[str, set[str]]]:
    """Return a function that compares two matrices: it returns the runtimes and versions that each reason is for."""

    def compared(after: dict[str, str], before: dict[str, str] | None = None) -> dict[str, set[str]]:
        old, new = load_matrix(**(before or {})), load_matrix(**after)
        change = ChangeSet(since="main", files=(MATRIX,), before=old)
        found = affected(cells(new), suites_of(tuple(SUITES)), new, Options(run="r"), change)
        by_reason: dict[str, set[str]] = {}
        for name, its in found.items():
            for reason in its:
                by_reason.setdefault(reason.removeprefix(f"{MATRIX}: "), set()).add(name)
        return by_reason

    return compared


def test_the_same_matrix_affects_nothing(reasons: Callable[..., dict[str, set[str]]]) -> None:
    commented = SECTIONS["pyxis"] + " # the newest"
    regrouped = SECTIONS["groups"] + '\n[groups.more]\ncells = [{ runtime = "embedded" }]'
    assert reasons({"pyxis": commented, "groups": regrouped}) == {}


def test_a_new_row_affects_its_cells_only(reasons: Callable[..., dict[str, set[str]]]) -> None:
    found = reasons({"pyxis": SECTIONS["pyxis"] + '\n[[pyxis]]\nversion = "0.25.0"'})
    assert found.keys() == {"the cell is new"}
    assert len(found["the cell is new"]) == 4
    assert all("pyxis0.25.0" in name for name in found["the cell is new"])


def test_a_row_that_is_different_affects_its_cells_only(reasons: Callable[..., dict[str, set[str]]]) -> None:
    first, second = SECTIONS["slurm"].split("\n[[slurm]]\n")
    found = reasons({"slurm": f"{first}\naccounting = true\n[[slurm]]\n{second}"})
    assert found.keys() == {"rows changed"}
    assert len(found["rows changed"]) == 6
    assert all("slurm22.05" in name for name in found["rows changed"])


FAILURE = '[[known-failure]]\ntests = ["test_x"]\npyxis = "0.24.0"\nsays = "{says}"\nreason = "{reason}"'


def test_a_known_failure_affects_the_cells_that_it_is_about_and_its_words_affect_all(
    reasons: Callable[..., dict[str, set[str]]],
) -> None:
    """A test that passes and says the words turns red, on whatever cell."""
    one = {"extra": FAILURE.format(says="a", reason="b")}
    for before, after in (({}, one), (one, {}), (one, {"extra": FAILURE.format(says="other", reason="b")})):
        found = reasons(after, before)
        assert found.keys() == {"known failures changed", "words of known failures changed"}
        assert len(found["words of known failures changed"]) == 12
        assert all("pyxis0.24.0" in name for name in found["known failures changed"])
    found = reasons({"extra": FAILURE.format(says="a", reason="in other words")}, one)
    assert found.keys() == {"known failures changed"}, "a result has the reason in it"


@pytest.mark.parametrize(
    ("section", "text", "reason"),
    [
        ("subject", '[subject]\nrequirement = "slurm-sdk==0.4.7"', "subject changed"),
        ("defaults", '[defaults]\ngroup = "smoke"\nnodes = 2', "number of nodes changed"),
        ("extra", '[suite-environment]\nhost = "H"', "suites' environment changed"),
    ],
)
def test_what_all_cells_share_affects_all(
    reasons: Callable[..., dict[str, set[str]]], section: str, text: str, reason: str
) -> None:
    found = reasons({section: text})
    assert found.keys() == {reason}
    assert len(found[reason]) == 12


def test_a_matrix_that_can_not_be_compared_affects_all(rows: Matrix) -> None:
    change = ChangeSet(since="main", files=(MATRIX,), before=MatrixError("broken"))
    found = affected(cells(rows), suites_of(tuple(SUITES)), rows, Options(run="r"), change)
    assert len(found) == len(cells(rows))
    assert set(found.values()) == {("matrix.toml can't be compared with that of main",)}


def test_a_pin_affects_the_cells_that_use_it(rows: Matrix) -> None:
    def ids(*pins: str) -> set[str]:
        change = ChangeSet(since="main", files=(PINS,), pins=frozenset(pins))
        return set(affected(cells(rows), suites_of(tuple(SUITES)), rows, Options(run="r"), change))

    real = next(cell for cell in cells(rows) if cell.runtime is Runtime.NVIDIA)
    found = ids(f"NVIDIA/pyxis/archive/refs/tags/v{real.pyxis}.tar.gz")
    assert found == {cell.id for cell in cells(rows) if cell.pyxis == real.pyxis}
    assert ids("registry:2") == {cell.id for cell in cells(rows) if cell.runtime is not Runtime.LEGACY}
    assert ids() == set()


# -- the same parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", Runtime)
def test_whatever_is_in_a_fingerprint_is_also_affecting(
    rows: Matrix, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    """Each file that is read for a fingerprint, or for an image's tag, is one that a change is seen in.

    Once `advanced/fixtures.py`, a plugin of every container suite, affected one of them only.
    """
    top = [it for it in REPOSITORY.iterdir() if it.name not in {".git", ".nox", ".venv", "results"}]
    names = {it.relative_to(REPOSITORY).as_posix() for it in expanded(top)}
    read: set[str] = set()
    real = Path.open

    def opened(path: Path, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - as what it stands for
        if path.is_relative_to(REPOSITORY):
            read.add(path.relative_to(REPOSITORY).as_posix())
        return real(path, *given, **more)

    cell, options = next(it for it in cells(rows) if it.runtime is runtime), Options(run="r")
    plan = plan_environment(cell, rows, options)
    shared = {"program": "p", "packages": "a", "machine": "m", "environment": "e"}
    for suite in (it for it in SUITES.values() if not it.unfit(cell, rows.subject)):
        read.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", opened)
            ingredients(plan, suite, [], matrix=rows, images="", shared=shared)
            hash_of_files(program_files())
            members = {member.name: member for image in plan.images.all() for member in image.family()}
            assert all(Content(plan=it, parents={}).own_files for it in members.values())
        assert {"ci/errors.py", "containers/base/mmdebstrap.conf", "tests/conftest.py"} <= read
        change = ChangeSet(since="main", files=tuple(sorted(names)), pins=pinned_by(plan))
        reasons = affected([cell], [suite], rows, options, change)[cell.id]
        seen = {why.partition(" ")[0].removesuffix(":") for why in reasons}
        assert sorted(read & names - seen) == []
