"""Plans: a tag follows everything that goes into an image, cells share what they can, names are unique and valid."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import re

from packaging.version import Version
import pytest

from ci import paths
from ci.images import plan
from ci.images.plan import ContextFile, ImagePlan
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmVersion

MIRROR = "http://deb.debian.org/debian"
BOOKWORM = SlurmVersion(version="22.05", suite="bookworm")
REAL = Cell(slurm=BOOKWORM, runtime=Runtime.NVIDIA, enroot=Version("3.4.1"), pyxis=Version("0.19.0"), arch=Arch.AMD64)
ARTEFACT = ContextFile(source=Path("/cache/enroot.deb"), target="artefacts/enroot.deb", sha256="aa")

# What Docker takes as the name of a container, a volume and a network, and as a tag.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
TAG = re.compile(r"[a-z0-9/._-]+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a folder of the test's own in the place of ``containers/``, with one image ``one`` in it."""
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "Containerfile").write_text("FROM scratch\n", encoding="utf-8")
    (tmp_path / "one" / "run.sh").write_text("true\n", encoding="utf-8")
    return tmp_path / "one"


def image(**changed: object) -> ImagePlan:
    """Return a plan with one of everything, in which something may be changed."""
    parent = ImagePlan(folder="one", variant="parent", arch=Arch.AMD64)
    whole = ImagePlan(
        folder="one",
        variant="child",
        arch=Arch.AMD64,
        build_args={"A": "1"},
        parents={"BASE": parent},
        context=(ARTEFACT,),
    )
    return replace(whole, **changed)  # type: ignore[arg-type]


def test_the_same_input_gives_the_same_tag(containers: Path) -> None:
    assert containers.is_dir()
    assert image().tag == image().tag
    assert re.fullmatch(r"pyxis-matrix/one:child-[0-9a-f]{12}", image().tag)


@pytest.mark.parametrize(
    "changed",
    [
        {"variant": "other"},
        {"arch": Arch.ARM64},
        {"build_args": {"A": "2"}},
        {"build_args": {"B": "1"}},
        {"build_args": {"A": "1", "B": "1"}},
        {"parents": {}},
        {"parents": {"BASE": ImagePlan(folder="one", variant="another parent", arch=Arch.AMD64)}},
        {"parents": {"OTHER": ImagePlan(folder="one", variant="parent", arch=Arch.AMD64)}},
        {"context": ()},
        {"context": (replace(ARTEFACT, sha256="bb"),)},
        {"context": (replace(ARTEFACT, target="artefacts/other.deb"),)},
    ],
    ids=str,
)
def test_another_input_gives_another_tag(containers: Path, changed: dict[str, object]) -> None:
    assert containers.is_dir()
    assert image(**changed).fingerprint != image().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: (folder / "run.sh").write_text("false\n"), id="content"),
        pytest.param(lambda folder: (folder / "run.sh").chmod(0o755), id="execute bit"),
        pytest.param(lambda folder: (folder / "run.sh").rename(folder / "go.sh"), id="name"),
        pytest.param(lambda folder: (folder / "run.sh").unlink(), id="one file less"),
        pytest.param(lambda folder: (folder / "more").write_bytes(b""), id="one file more"),
    ],
)
def test_another_file_gives_another_tag_to_the_image_and_to_its_children(
    containers: Path, change: Callable[[Path], object]
) -> None:
    before = image()
    parent = before.parents["BASE"]
    kept = (before.fingerprint, parent.fingerprint)
    change(containers)
    after = image()
    assert after.fingerprint != kept[0]
    assert after.parents["BASE"].fingerprint != kept[1]
    # A plan keeps the tag that it was first asked for: what is built under it is looked for under it.
    assert (before.fingerprint, parent.fingerprint) == kept


def test_what_a_run_of_python_leaves_in_a_folder_changes_nothing(containers: Path) -> None:
    before = image().tag
    (containers / "__pycache__").mkdir()
    (containers / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert image().tag == before


def test_where_a_file_lies_on_this_machine_changes_nothing(containers: Path) -> None:
    assert containers.is_dir()
    moved = image(context=(replace(ARTEFACT, source=Path("/elsewhere/enroot.deb")),))
    assert moved.tag == image().tag


def test_ancestors_come_first_and_once() -> None:
    slurm = plan.slurm("bookworm", Arch.AMD64, MIRROR)
    runtime = plan.runtime(REAL, MIRROR, (ARTEFACT,))
    node = plan.node(REAL, runtime, slurm, ())
    assert [member.folder for member in node.family()] == [
        "base",
        "slurm-integration",
        "slurm-pyxis-integration",
        "subject",
    ]


def test_cells_of_one_slurm_share_its_image_and_differ_in_their_own() -> None:
    first, second = (replace(REAL, enroot=Version(enroot)) for enroot in ("3.4.1", "4.1.2"))
    legacy = Cell(slurm=BOOKWORM, runtime=Runtime.LEGACY, arch=Arch.AMD64)
    embedded = Cell(slurm=BOOKWORM, runtime=Runtime.EMBEDDED, arch=Arch.AMD64)
    plans = [plan.runtime(cell, MIRROR, ()) for cell in (first, second, embedded)]
    assert {each.parents["SLURM_IMAGE"].tag for each in plans} == {plan.runtime(legacy, MIRROR, ()).tag}
    assert len({each.tag for each in plans}) == 3


@pytest.mark.parametrize(
    ("suite", "arch", "mirror"),
    [("trixie", Arch.AMD64, MIRROR), ("bookworm", Arch.ARM64, MIRROR), ("bookworm", Arch.AMD64, "http://mirror")],
)
def test_another_suite_architecture_or_package_mirror_is_another_slurm(suite: str, arch: Arch, mirror: str) -> None:
    # The plugin has to be compiled against the very Slurm that it runs under, so these must never share an image.
    assert plan.slurm(suite, arch, mirror).tag != plan.slurm("bookworm", Arch.AMD64, MIRROR).tag
    assert plan.slurm(suite, arch, mirror).fingerprint != plan.slurm("bookworm", Arch.AMD64, MIRROR).fingerprint


def test_the_versions_of_a_real_cell_are_build_arguments_and_its_artefacts_are_in_the_context() -> None:
    wanted = plan.runtime(REAL, MIRROR, (ARTEFACT,))
    assert wanted.build_args == {"ENROOT_VERSION": "3.4.1", "PYXIS_VERSION": "0.19.0", "ENROOT_ARCH": "amd64"}
    assert wanted.context == (ARTEFACT,)


def test_job_and_registry_are_the_same_for_all_cells_of_an_architecture() -> None:
    assert plan.job(Arch.AMD64, MIRROR, ()).parents["BASE_IMAGE"].variant == "bookworm-amd64"
    assert plan.registry(Arch.AMD64, MIRROR).tag != plan.registry(Arch.ARM64, MIRROR).tag


def every_name(run: str, cell: Cell, nodes: int) -> list[str]:
    names = plan.names(run, cell, nodes)
    return [names.network, names.registry, *names.nodes, names.home_volume, *names.data_volumes]


def test_all_names_of_all_cells_are_valid_unique_and_short_enough() -> None:
    cells = loading.load().all_cells(Arch.AMD64)
    run = "r" * 60  # the longest that the command line takes
    names = [name for cell in cells for name in every_name(run, cell, 16)]
    assert len(names) == len(set(names)) > 1000
    for name in names:
        assert NAME.fullmatch(name), name
        assert len(name) <= 200, name
        assert run in name


def test_two_runs_never_meet() -> None:
    assert not set(every_name("one", REAL, 3)) & set(every_name("two", REAL, 3))


def test_tags_of_all_cells_are_valid() -> None:
    for cell in loading.load().all_cells(Arch.AMD64):
        runtime = plan.runtime(cell, MIRROR, ())
        for each in plan.node(cell, runtime, plan.slurm(cell.slurm.suite, cell.arch, MIRROR), ()).family():
            assert TAG.fullmatch(each.tag), each.tag
            assert cell.arch.value in each.tag


def test_host_names_are_short_and_the_first_comes_first() -> None:
    assert plan.names("run", REAL, 3).hostnames == ("n1", "n2", "n3")
