"""What ran once need not run again, unless something has changed: each ingredient of a fingerprint, one by one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ci import paths
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.group import fingerprint, reuse
from ci.group.fingerprint import Shared, ingredients, suite_files
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import KnownFailure, Matrix, Selector
from ci.matrix.suites import SUITES
from ci.options import Options
from ci.results import store
from ci.results.outcomes import Outcome, TestOutcome, TestState
from ci.results.store import Result

if TYPE_CHECKING:
    from ci.engine.connection import Engine
    from ci.images.building import Builder

SUITE = SUITES["registry"]
SHARED = Shared(program="p", pins="i", packages="a", machine="m")


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture(scope="module")
def cell(rows: Matrix) -> Cell:
    return next(it for it in rows.all_cells(Arch.host()) if it.runtime is Runtime.NVIDIA and it.arch is Arch.host())


class Kitchen:
    """Makes a fingerprint from things that a test changes one at a time."""

    def __init__(self, rows: Matrix, cell: Cell) -> None:
        """Begin with what the repository says."""
        self.rows = rows
        self.cell = cell
        self.options: dict[str, Any] = {}
        self.suite = SUITE
        self.words: list[str] = []
        self.images = "images"
        self.shared = SHARED

    def plan(self) -> EnvironmentPlan:
        """Return the plan of the environment."""
        return plan_environment(self.cell, self.rows, Options(run="run", **self.options))

    def taste(self) -> str:
        """Return the fingerprint."""
        found = ingredients(
            self.plan(), self.suite, self.words, matrix=self.rows, images=self.images, shared=self.shared
        )
        return fingerprint.fingerprint(found)


@pytest.fixture
def kitchen(rows: Matrix, cell: Cell) -> Kitchen:
    return Kitchen(rows, cell)


def failure(says: str, **chosen: Any) -> KnownFailure:  # noqa: ANN401 - fields of a selector
    return KnownFailure(tests=("test_x",), selector=Selector(**chosen), reason="so", says=says)


def known(kitchen: Kitchen, *failures: KnownFailure) -> None:
    kitchen.rows = replace(kitchen.rows, failures=(*kitchen.rows.failures, *failures))


def checkout(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr(fingerprint, "state_of", lambda _checkout: state)
    kitchen.options["subject"] = Path("/checkout")


def reason(kitchen: Kitchen, text: str) -> None:
    first, *others = kitchen.rows.known_failures(kitchen.cell)
    kept = [it for it in kitchen.rows.failures if it not in (first, *others)]
    kitchen.rows = replace(kitchen.rows, failures=(*kept, replace(first, reason=text), *others))


CHANGES: dict[str, Callable[[Kitchen], None]] = {
    "an image": lambda it: setattr(it, "images", "others"),
    "this program": lambda it: setattr(it, "shared", replace(SHARED, program="other")),
    "a pin": lambda it: setattr(it, "shared", replace(SHARED, pins="other")),
    "a package": lambda it: setattr(it, "shared", replace(SHARED, packages="other")),
    "the machine": lambda it: setattr(it, "shared", replace(SHARED, machine="other")),
    "the suite's files": lambda it: setattr(it, "suite", replace(SUITE, tests=("conformance",))),
    "the number of workers": lambda it: setattr(it, "suite", replace(SUITE, workers=1)),
    "pytest's arguments": lambda it: it.words.append("-k x"),
    "the number of nodes": lambda it: it.options.update(nodes=2),
    "accounting": lambda it: it.options.update(accounting=True),
    "the job user": lambda it: it.options.update(user="alice"),
    "the file with the password": lambda it: it.options.update({"password_file": Path("/x")}),
    "a GPU": lambda it: it.options.update(gpus=1),
    "the registry's second name": lambda it: it.options.update(registry_name="registry"),
    "a package on the nodes": lambda it: it.options.update(node_package=("numpy",)),
    "the subject's release": lambda it: setattr(
        it, "rows", replace(it.rows, subject=replace(it.rows.subject, requirement="slurm-sdk==0.4.5"))
    ),
    "the subject's constraints": lambda it: setattr(
        it, "rows", replace(it.rows, subject=replace(it.rows.subject, constraints=("paramiko<4",)))
    ),
    "a known failure of the cell": lambda it: known(it, failure("words", runtime=Runtime.NVIDIA)),
    "words that another cell's known failure is told by": lambda it: known(it, failure("w", runtime=Runtime.EMBEDDED)),
    "the reason of a known failure": lambda it: reason(it, "because"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_has_changed_runs_again(kitchen: Kitchen, change: Callable[[Kitchen], None]) -> None:
    before = kitchen.taste()
    assert kitchen.taste() == before, "the same twice is the same"
    change(kitchen)
    assert kitchen.taste() != before


def test_a_checkout_that_has_changed_runs_again(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    release = kitchen.taste()
    checkout(kitchen, monkeypatch, "one")
    first = kitchen.taste()
    checkout(kitchen, monkeypatch, "two")
    assert len({release, first, kitchen.taste()}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"run": "another"},
        {"results": Path("/elsewhere")},
        {"mirror": Path("/mirror")},
    ],
    ids=["run", "results", "mirror"],
)
def test_what_decides_nothing_does_not_count(kitchen: Kitchen, change: dict[str, Any]) -> None:
    before = kitchen.taste()
    plan = plan_environment(kitchen.cell, kitchen.rows, Options(**{"run": "run", **change}))
    found = ingredients(plan, kitchen.suite, [], matrix=kitchen.rows, images="images", shared=SHARED)
    assert fingerprint.fingerprint(found) == before


def test_an_image_counts_by_what_it_is_made_from_and_by_what_came_of_it(kitchen: Kitchen) -> None:
    made: dict[str, str] = {}

    def builder() -> "Builder":
        def ensure(image: Any) -> object:  # noqa: ANN401 - an image's plan
            return SimpleNamespace(tag=made.get(f"{image.name} tag", "t"), identity=made.get(image.name, "sha256:1"))

        return cast("Builder", SimpleNamespace(ensure=ensure))

    plan = kitchen.plan()
    seen = {fingerprint.images_of(plan, builder())}
    for image in plan.images.all():
        for name in (image.name, f"{image.name} tag"):
            made.clear()
            made[name] = "another"
            seen.add(fingerprint.images_of(plan, builder()))
    assert len(seen) == 1 + 2 * len(plan.images.all())


def test_what_the_machine_has_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(version: str = "20.10", kind: str = "docker") -> "Engine":
        return cast("Engine", SimpleNamespace(found=SimpleNamespace(kind=kind, version=version)))

    first = Shared.of(engine())
    assert first == Shared.of(engine())
    assert first.machine != Shared.of(engine("28.2")).machine
    assert first.machine != Shared.of(engine(kind="podman")).machine
    monkeypatch.setattr("platform.release", lambda: "another kernel")
    assert first.machine != Shared.of(engine()).machine
    packages = [SimpleNamespace(name="pytest", version="9"), SimpleNamespace(name="slurm-sdk", version="0.4.6")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: packages)
    second = Shared.of(engine()).packages
    packages[1].version = "0.4.7"
    assert Shared.of(engine()).packages != second


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small repository, whose suite `registry` imports one module of each kind."""
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    for name, text in {
        "pyproject.toml": "",
        "containers/embedded/README.md": "",
        "tests/conftest.py": "",
        "tests/integration/conftest.py": "",
        "tests/integration/conftest_container_packaging.py": 'pytest_plugins = ["tests.support.plugin"]',
        "tests/integration/registry/test_x.py": "from tests.support.near import it\nimport tests.support.plain",
        "tests/integration/registry/data.bin": "",
        "tests/integration/conformance/test_y.py": "",
        "tests/support/near.py": "from tests.support import far",
        "tests/support/far.py": "from .beside import it",
        "tests/support/beside.py": "",
        "tests/support/plain.py": "",
        "tests/support/plugin.py": "",
        "tests/support/table.toml": "",
        "tests/support/unused.py": "",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def test_the_files_of_a_suite_are_its_own_and_what_they_import(tree: Path) -> None:
    found = {it.relative_to(tree).as_posix() for it in suite_files(SUITE, tree)}
    left_out = {"tests/integration/conformance/test_y.py", "tests/support/unused.py"}
    everything = {it.relative_to(tree).as_posix() for it in tree.rglob("*") if it.is_file()}
    assert found == everything - left_out


def test_a_file_counts_by_its_content_and_its_name(tree: Path) -> None:
    seen = {fingerprint.hash_of_files(suite_files(SUITE, tree))}
    for file in suite_files(SUITE, tree):
        file.write_text(file.read_text(encoding="utf-8") + "\n# changed", encoding="utf-8")
        seen.add(fingerprint.hash_of_files(suite_files(SUITE, tree)))
    assert len(seen) == 1 + len(suite_files(SUITE, tree))
    (tree / "tests/integration/registry/data.bin").rename(tree / "tests/integration/registry/other.bin")
    suite_files.cache_clear()
    assert fingerprint.hash_of_files(suite_files(SUITE, tree)) not in seen


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Have no files of another test's repository in memory."""
    suite_files.cache_clear()


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_its_shared_files(name: str) -> None:
    found = {it.relative_to(paths.REPOSITORY).as_posix() for it in suite_files(SUITES[name])}
    expected = {"pyproject.toml", "tests/conftest.py", "tests/integration/conftest.py"}
    if SUITES[name].plugins:
        expected |= {"tests/support/known_failures.py", "tests/integration/advanced/fixtures.py"}
    assert expected <= found


# -- earlier results ------------------------------------------------------------------------------------------------


def kept(results: Path, run: str, cell: Cell, minute: int, **more: Any) -> Result:  # noqa: ANN401 - a result's fields
    given = {"outcome": Outcome.PASSED, "fingerprint": "f", "seconds": 9.0, **more}
    result = Result(
        run=run,
        cell=store.CellRecord.of(cell),
        suite="registry",
        started=store.utc_now().replace(hour=1, minute=minute),
        timings={"tests": 9.0},
        exit_code=int(given["outcome"] is not Outcome.PASSED),
        tests=(TestOutcome(name="a", outcome=TestState.PASSED),),
        **given,
    )
    store.write(result, results / run / cell.id / "registry" / store.RESULT_FILE)
    return result


def found(results: Path, cell: Cell, wanted: str = "f") -> str | None:
    unchanged = reuse.unchanged(reuse.earlier(results, cell.id, "registry", but="now"), wanted)
    return unchanged.run if unchanged else None


def test_the_newest_result_of_the_same_fingerprint_is_taken_if_it_passed(tmp_path: Path, cell: Cell) -> None:
    assert found(tmp_path, cell) is None
    kept(tmp_path, "b", cell, 2)
    kept(tmp_path, "a", cell, 1)
    kept(tmp_path, "now", cell, 50)
    kept(tmp_path, "c", cell, 3, fingerprint="another", outcome=Outcome.FAILED)
    assert found(tmp_path, cell) == "b"
    assert found(tmp_path, cell, "unknown") is None
    assert found(tmp_path, cell, "another") is None, "what failed runs again"


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERROR])
def test_where_a_newer_result_did_not_pass_an_older_one_is_not_taken(
    tmp_path: Path, cell: Cell, outcome: Outcome
) -> None:
    kept(tmp_path, "a", cell, 1)
    kept(tmp_path, "b", cell, 2, outcome=outcome)
    assert found(tmp_path, cell) is None
    kept(tmp_path, "c", cell, 3)
    assert found(tmp_path, cell) == "c"


def test_what_was_broken_off_or_is_no_result_says_nothing(tmp_path: Path, cell: Cell) -> None:
    kept(tmp_path, "a", cell, 1)
    kept(tmp_path, "b", cell, 2, outcome=Outcome.INTERRUPTED)
    kept(tmp_path, "c", cell, 3, fingerprint="", outcome=Outcome.FAILED)
    broken = tmp_path / "d" / cell.id / "registry" / store.RESULT_FILE
    broken.parent.mkdir(parents=True)
    broken.write_text("{", encoding="utf-8")
    assert found(tmp_path, cell) == "a"


def test_a_result_that_is_taken_says_from_where_and_took_no_time(tmp_path: Path, cell: Cell) -> None:
    first = reuse.taken(kept(tmp_path, "a", cell, 1), "b")
    assert (first.run, first.reused_from, first.reason) == ("b", "a", "unchanged since a")
    assert (first.seconds, first.timings, first.fingerprint) == (0.0, {}, "f")
    second = reuse.taken(first, "c")
    assert (second.run, second.reused_from) == ("c", "a"), "it is the run that really ran"


def test_what_has_changed_is_named(tmp_path: Path, cell: Cell) -> None:
    now = {"images": "1", "options": "2"}
    assert reuse.changed(tmp_path, cell.id, "registry", now) == []
    reuse.write(tmp_path, {cell.id: {"registry": {"images": "1", "options": "other"}}})
    assert reuse.changed(tmp_path, cell.id, "registry", now) == ["options"]
    assert reuse.changed(tmp_path, cell.id, "pyxis_basic", now) == []
