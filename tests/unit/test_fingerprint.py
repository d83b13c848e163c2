"""What ran once need not run again, unless something has changed: each ingredient of a fingerprint, one by one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
import functools
from pathlib import Path
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ci import paths
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.fleet.parts import belongs, expanded, suite_files
from ci.group import fingerprint
from ci.group.fingerprint import ingredients, shared_ingredients
from ci.matrix import behaviours, loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import KnownFailure, Matrix, Selector
from ci.matrix.suites import FOLDER, SUITES
from ci.options import Options

if TYPE_CHECKING:
    from ci.engine.connection import Engine
    from ci.images.building import Builder

SUITE = SUITES["registry"]
SHARED = {"program": "p", "packages": "a", "machine": "m", "environment": "e"}


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
        self.pins: dict[str, str] = {}

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
def kitchen(rows: Matrix, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    made = Kitchen(rows, cell)
    monkeypatch.setattr(fingerprint, "pins_in", lambda _text: made.pins)
    return made


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
    "this program": lambda it: setattr(it, "shared", SHARED | {"program": "other"}),
    "a pin": lambda it: it.pins.update({"registry:2": "other"}),
    "a package": lambda it: setattr(it, "shared", SHARED | {"packages": "other"}),
    "a variable of the environment": lambda it: setattr(it, "shared", SHARED | {"environment": "other"}),
    "the machine": lambda it: setattr(it, "shared", SHARED | {"machine": "other"}),
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


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small site-packages that stands for that of the environment."""
    folder = tmp_path / "site-packages"
    for name in ("slurm/api.py", "slurm_sdk-0.4.6.dist-info/RECORD", "plugin.pth"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"purelib": str(folder)})
    return folder


@pytest.mark.usefixtures("site")
def test_what_the_machine_has_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(version: str = "20.10", kind: str = "docker") -> "Engine":
        return cast("Engine", SimpleNamespace(found=SimpleNamespace(kind=kind, version=version)))

    first = shared_ingredients(engine())
    assert first == shared_ingredients(engine())
    assert first["machine"] != shared_ingredients(engine("28.2"))["machine"]
    assert first["machine"] != shared_ingredients(engine(kind="podman"))["machine"]
    monkeypatch.setattr("platform.release", lambda: "another kernel")
    assert first["machine"] != shared_ingredients(engine())["machine"]
    packages = [SimpleNamespace(name="pytest", version="9"), SimpleNamespace(name="slurm-sdk", version="0.4.6")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: packages)
    second = shared_ingredients(engine())["packages"]
    packages[1].version = "0.4.7"
    assert shared_ingredients(engine())["packages"] != second


@pytest.mark.usefixtures("site")
def test_what_pytest_and_slurm_read_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = cast("Engine", SimpleNamespace(found=SimpleNamespace(kind="docker", version="1")))
    first = shared_ingredients(engine)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONPATH", "PYTHONOPTIMIZE", "SLURM_CONF", "ENROOT_CACHE_PATH"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "changed")
            assert shared_ingredients(engine)["environment"] != first["environment"], name
    for name in ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "TERM"):
        monkeypatch.setenv(name, "changed")
        assert shared_ingredients(engine) == first, name


@pytest.mark.parametrize("name", ["slurm/api.py", "slurm_sdk-0.4.6.dist-info/RECORD", "plugin.pth", "sitecustomize.py"])
def test_a_package_of_the_same_version_that_was_edited_counts(site: Path, name: str) -> None:
    engine = cast("Engine", SimpleNamespace(found=SimpleNamespace(kind="docker", version="1")))
    first, stamp = shared_ingredients(engine), fingerprint.shared_stamp()
    (site / name).write_text("edited", encoding="utf-8")
    second = shared_ingredients(engine)
    assert second["packages"] != first["packages"]
    assert {**second, "packages": first["packages"]} == first
    assert fingerprint.shared_stamp()["packages"] != stamp["packages"]


def test_the_files_that_a_cells_configuration_is_made_of_count(
    kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.CONTAINERS, tmp_path / "containers")
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path / "containers")
    monkeypatch.setattr(fingerprint, "suite_files", lambda _suite: frozenset())
    kitchen.cell = next(it for it in kitchen.rows.all_cells(Arch.host()) if it.runtime is Runtime.EMBEDDED)
    for name in ("slurm-pyxis-integration/slurm.conf", "slurm-integration/cgroup.conf"):
        before = kitchen.taste()
        file = tmp_path / "containers" / name
        file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        assert kitchen.taste() != before, name


STAMPED = {
    "suite files": "tests/integration/registry/test_x.py",
    "known failures": "matrix.toml",
    "pins": "containers/pins.toml",
    "program": "ci/main.py",
    "configuration": "containers/slurm-pyxis-integration/slurm.conf",
}


@pytest.mark.parametrize(("ingredient", "name"), STAMPED.items(), ids=STAMPED.keys())
def test_a_file_that_was_swapped_and_put_back_was_touched(
    kitchen: Kitchen, tree: Path, site: Path, monkeypatch: pytest.MonkeyPatch, ingredient: str, name: str
) -> None:
    assert site.is_dir()
    for each in STAMPED.values():
        (tree / each).parent.mkdir(parents=True, exist_ok=True)
        (tree / each).write_text("", encoding="utf-8")
    monkeypatch.setattr(paths, "MATRIX_FILE", tree / "matrix.toml")
    monkeypatch.setattr(paths, "PINS_FILE", tree / "containers/pins.toml")
    monkeypatch.setattr(paths, "CONTAINERS", tree / "containers")
    of_tree = functools.partial(suite_files.__wrapped__, root=tree)
    monkeypatch.setattr(of_tree, "cache_clear", lambda: None, raising=False)
    monkeypatch.setattr(fingerprint, "suite_files", of_tree)
    plan = kitchen.plan()

    def stamp() -> Mapping[str, str]:
        return fingerprint.stamp(plan, SUITE, fingerprint.shared_stamp())

    before = stamp()
    assert stamp() == before, "reading touches nothing"
    file = tree / name
    kept = file.rename(file.with_name("kept"))
    file.write_text("other", encoding="utf-8")
    kept.rename(file)
    assert [key for key, value in stamp().items() if before[key] != value] == [ingredient]


def test_a_file_that_somebody_is_at_does_not_end_the_run(tree: Path) -> None:
    (tree / "tests/integration/registry/test_x.py").write_text("def half(", encoding="utf-8")
    assert tree / "tests/integration/registry/test_x.py" in suite_files(SUITE, tree)


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
        "tests/support/near.py": "from tests.support import far\nTABLE = 'containers/embedded/README.md'",
        "tests/support/far.py": "from .beside import it",
        "tests/support/beside.py": "",
        "tests/support/plain.py": "",
        "tests/support/plugin.py": "",
        "tests/support/plugins/selection.py": "",
        "tests/support/table.toml": "",
        "tests/support/unused.py": "",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def test_the_files_of_a_suite_are_its_own_and_what_they_import(tree: Path) -> None:
    found = {it.relative_to(tree).as_posix() for it in expanded(suite_files(SUITE, tree))}
    left_out = {"tests/integration/conformance/test_y.py", "tests/support/unused.py"}
    everything = {it.relative_to(tree).as_posix() for it in tree.rglob("*") if it.is_file()}
    assert found == everything - left_out


def test_a_file_counts_by_its_content_and_its_name(tree: Path) -> None:
    files = expanded(suite_files(SUITE, tree))
    seen = {fingerprint.hash_of_files(files)}
    for file in files:
        file.write_text(file.read_text(encoding="utf-8") + "\n# changed", encoding="utf-8")
        seen.add(fingerprint.hash_of_files(suite_files(SUITE, tree)))
    assert len(seen) == 1 + len(files)
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
        expected |= {"tests/support/known_failures.py", "tests/support/behaviours.py"}
    if SUITES[name].plugins and not SUITES[name].plugin:
        expected |= {"tests/integration/advanced/fixtures.py"}
    assert expected <= found


@pytest.mark.parametrize("name", SUITES)
def test_the_answers_of_every_suite_are_among_its_files(name: str) -> None:
    """Also of one whose tests are not in its folder, and before it has any."""
    suite = SUITES[name]
    assert belongs(f"{FOLDER}/{suite.folder}/{behaviours.FILE}", suite_files(suite))


def test_an_answer_in_other_words_runs_again(tree: Path) -> None:
    suite = replace(SUITE, tests=("registry/test_x.py",))
    file = tree / FOLDER / suite.folder / behaviours.FILE
    seen = set()
    for text in ("", "[first]", "[second]"):
        file.write_text(text, encoding="utf-8")
        suite_files.cache_clear()
        seen.add(fingerprint.hash_of_files(suite_files(suite, tree)))
    assert len(seen) == 3
