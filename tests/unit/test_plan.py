"""Plans of images: a tag follows everything that goes in, cells share what they can; and an environment's names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import re

from packaging.version import Version
import pytest

from ci import paths
from ci.environment.plan import names, plan_environment
from ci.images import plan
from ci.images.content import Content, ContextFile
from ci.images.plan import CellImages, ImagePlan, Wheels
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmVersion
from ci.matrix.model import Matrix
from ci.matrix.systems import OperatingSystem
from ci.options import Options
from tests.support.cells import ARCHIVE, DEBIAN12, DEBIAN13, EMBEDDED, PACKAGES, REAL

ARTEFACT = ContextFile(source=Path("/cache/enroot.deb"), target="artefacts/enroot.deb", sha256="aa")

# What Docker takes as the name of a container, a volume and a network, and as a tag.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
TAG = re.compile(r"[a-z0-9/._-]+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a folder of the test's own in the place of ``containers/``, with one image ``one`` in it."""
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path)
    (tmp_path / "shared").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "Containerfile").write_text("FROM scratch\n", encoding="utf-8")
    (tmp_path / "one" / "run.sh").write_text("true\n", encoding="utf-8")
    return tmp_path / "one"


def content(wanted: ImagePlan, *context: ContextFile) -> Content:
    """Return an image as building would see it, with nothing in the contexts of its ancestors."""
    return Content(
        plan=wanted, parents={name: content(parent).tag for name, parent in wanted.parents.items()}, context=context
    )


def image(*context: ContextFile, **changed: object) -> Content:
    """Return an image with one of everything, in which something may be changed."""
    parent = ImagePlan(folder="one", variant="parent", arch=Arch.AMD64)
    whole = ImagePlan(folder="one", variant="child", arch=Arch.AMD64, build_args={"A": "1"}, parents={"BASE": parent})
    return content(replace(whole, **changed), *(context or (ARTEFACT,)))  # type: ignore[arg-type]


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
    ],
    ids=str,
)
def test_another_input_gives_another_tag(containers: Path, changed: dict[str, object]) -> None:
    assert containers.is_dir()
    assert image(**changed).fingerprint != image().fingerprint


@pytest.mark.parametrize(
    "context",
    [
        (replace(ARTEFACT, sha256="bb"),),
        (replace(ARTEFACT, target="artefacts/other.deb"),),
        (ARTEFACT, replace(ARTEFACT, target="artefacts/one-more.deb")),
    ],
    ids=str,
)
def test_another_file_in_the_context_gives_another_tag(containers: Path, context: tuple[ContextFile, ...]) -> None:
    assert containers.is_dir()
    assert image(*context).fingerprint != image().fingerprint


def test_what_every_build_finds_counts_for_every_image(containers: Path) -> None:
    before = image().fingerprint
    (containers.parent / "shared" / "apt-install").write_text("#!/bin/sh\n", encoding="utf-8")
    assert image().fingerprint != before


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
    kept = (before.fingerprint, before.parents["BASE"])
    change(containers)
    after = image()
    assert after.fingerprint != kept[0]
    assert after.parents["BASE"] != kept[1]
    # It keeps the tag that it was first asked for: what is built under it is looked for under it.
    assert (before.fingerprint, before.parents["BASE"]) == kept


def test_what_a_run_of_python_leaves_in_a_folder_changes_nothing(containers: Path) -> None:
    before = image().tag
    (containers / "__pycache__").mkdir()
    (containers / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert image().tag == before


def test_where_a_file_lies_on_this_machine_changes_nothing(containers: Path) -> None:
    assert containers.is_dir()
    moved = image(replace(ARTEFACT, source=Path("/elsewhere/enroot.deb")))
    assert moved.tag == image().tag


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


def images_of(cell: Cell, rows: Matrix) -> CellImages:
    return plan.images_of(cell, rows.subject, None, accounting=False, environ={})


def test_ancestors_come_first_and_once(rows: Matrix) -> None:
    assert [member.folder for member in images_of(REAL, rows).node.family()] == [
        "base",
        "slurm-integration",
        "slurm-pyxis-integration",
        "subject",
    ]


def test_cells_of_one_slurm_share_its_image_and_differ_in_their_own(rows: Matrix) -> None:
    first, second = (replace(REAL, enroot=Version(enroot)) for enroot in ("3.4.1", "4.1.2"))
    legacy = Cell(slurm=PACKAGES, os=DEBIAN12, runtime=Runtime.LEGACY, arch=Arch.AMD64)
    plans = [images_of(cell, rows) for cell in (first, second, EMBEDDED, legacy)]
    assert len({content(each.slurm).tag for each in plans}) == 1
    assert len({content(each.node).tag for each in plans}) == 4


@pytest.mark.parametrize(
    ("version", "base"),
    [
        (PACKAGES, (DEBIAN13, Arch.AMD64, {})),
        (PACKAGES, (DEBIAN12, Arch.ARM64, {})),
        (PACKAGES, (DEBIAN12, Arch.AMD64, {"PYXIS_MATRIX_DEBIAN_MIRROR": "http://mirror"})),
        (ARCHIVE, (DEBIAN12, Arch.AMD64, {})),
    ],
)
def test_another_slurm_system_architecture_or_package_mirror_is_another_image(
    version: SlurmVersion, base: tuple[OperatingSystem, Arch, dict[str, str]]
) -> None:
    # The plugin has to be compiled against the very Slurm that it runs under, so these must never share an image.
    asked: tuple[tuple[SlurmVersion, tuple[OperatingSystem, Arch, dict[str, str]]], ...]
    asked = ((version, base), (PACKAGES, (DEBIAN12, Arch.AMD64, {})))
    one, other = (content(plan.slurm(slurm, plan.base(*system))) for slurm, system in asked)
    assert one.tag != other.tag
    assert one.fingerprint != other.fingerprint


def test_a_slurm_archive_is_compiled_once_for_all_cells_of_a_system_and_no_compiler_is_below_the_nodes(
    rows: Matrix,
) -> None:
    first, second = (replace(REAL, slurm=ARCHIVE, enroot=Version(enroot)) for enroot in ("3.4.1", "4.1.2"))
    embedded = Cell(slurm=ARCHIVE, os=DEBIAN12, runtime=Runtime.EMBEDDED, arch=Arch.AMD64)
    plans = [images_of(cell, rows) for cell in (first, second, embedded)]
    (compiled,) = {content(each.slurm.parents["SLURM_BUILD"]).tag for each in plans}
    assert compiled.startswith("pyxis-matrix/slurm-build:25.11.7-debian12-amd64-")
    assert [each.slurm.parents["BASE_IMAGE"].folder for each in plans] == ["base"] * 3
    assert [artefact.path for artefact in plans[2].artefacts] == [
        "SchedMD/slurm/archive/refs/tags/slurm-25-11-7-1.tar.gz"
    ]


def test_the_entry_script_of_legacy_is_part_of_a_compiled_node_too() -> None:
    planned = plan.slurm(ARCHIVE, plan.base(DEBIAN12, Arch.AMD64, {}))
    assert planned.beside == ("slurm-integration",)
    assert content(planned).fingerprint != content(replace(planned, beside=())).fingerprint


def test_the_versions_of_a_real_cell_are_build_arguments_and_its_release_files_are_planned(rows: Matrix) -> None:
    wanted = images_of(REAL, rows)
    runtime = wanted.node.parents["NODE_IMAGE"]
    assert runtime.build_args == {"ENROOT_VERSION": "3.4.1", "PYXIS_VERSION": "0.19.0"}
    assert [artefact.name for artefact in wanted.artefacts] == [
        "enroot_3.4.1-1_amd64.deb",
        "enroot+caps_3.4.1-1_amd64.deb",
        "v0.19.0.tar.gz",
    ]
    assert runtime.artefacts == wanted.artefacts


def test_the_nodes_python_is_asked_of_their_slurm_image_and_the_job_images_is_known(rows: Matrix) -> None:
    wanted = images_of(REAL, rows)
    installed = Wheels(subject=rows.subject, checkout=None, python=wanted.slurm, glibc=36, editable=True)
    assert wanted.node.wheels == installed
    assert wanted.job
    assert wanted.job.wheels == replace(installed, python=plan.JOB_PYTHON, editable=False)


def test_a_legacy_cell_has_neither_registry_nor_job_image_and_its_node_is_plain_slurm(rows: Matrix) -> None:
    wanted = images_of(Cell(slurm=PACKAGES, os=DEBIAN12, runtime=Runtime.LEGACY, arch=Arch.AMD64), rows)
    assert (wanted.registry, wanted.job, wanted.accounting, wanted.artefacts) == (None, None, None, ())
    assert wanted.node.parents["NODE_IMAGE"] == wanted.slurm


def test_what_others_need_is_built_first(rows: Matrix) -> None:
    wanted = plan.images_of(REAL, rows.subject, None, accounting=True, environ={})
    folders = [image.folder for image in wanted.all()]
    assert folders == ["slurm-integration", "registry", "job", "subject", "slurmdbd"]


def test_job_and_registry_are_the_same_for_all_cells_of_an_architecture(rows: Matrix) -> None:
    new = Cell(slurm=SlurmVersion(version="24.11"), os=DEBIAN13, runtime=Runtime.EMBEDDED, arch=Arch.AMD64)
    one, other = images_of(REAL, rows), images_of(new, rows)
    assert (one.job, one.registry) == (other.job, other.registry)
    assert one.registry != images_of(replace(REAL, arch=Arch.ARM64), rows).registry


# -- environments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "asked", "recorded"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_accounting_is_an_option_of_a_cells_slurm_and_of_a_session(
    rows: Matrix, *, row: bool, asked: bool, recorded: bool
) -> None:
    cell = replace(REAL, slurm=replace(PACKAGES, accounting=row))
    planned = plan_environment(cell, rows, Options(run="run", accounting=asked))
    assert planned.options.accounting is recorded
    assert (planned.images.accounting is not None) is recorded


def test_the_matrix_says_how_many_nodes_where_nobody_else_does(rows: Matrix) -> None:
    assert len(plan_environment(REAL, rows, Options(run="run")).names.nodes) == rows.defaults.nodes
    assert len(plan_environment(REAL, rows, Options(run="run", nodes=3)).names.nodes) == 3


def test_a_checkout_is_seen_by_the_nodes_under_its_own_path(rows: Matrix, tmp_path: Path) -> None:
    planned = plan_environment(REAL, rows, Options(run="run", subject=tmp_path))
    assert planned.mounts == (str(tmp_path),)
    assert planned.subject == str(tmp_path)
    assert planned.images.node.wheels
    assert planned.images.node.wheels.checkout == tmp_path


def test_planning_touches_nothing(rows: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    plan_environment(REAL, rows, Options(run="run", results=tmp_path / "results"))
    assert list(tmp_path.iterdir()) == []


def every_name(run: str, cell: Cell, nodes: int) -> list[str]:
    found = names(Options(run=run, nodes=nodes), cell)
    return [found.network, found.registry, *found.nodes, found.home_volume, *found.data_volumes]


def test_all_names_of_all_cells_are_valid_unique_and_short_enough() -> None:
    cells = loading.load().all_cells(Arch.AMD64)
    run = "r" * 60  # the longest that the command line takes
    every = [name for cell in cells for name in every_name(run, cell, 16)]
    assert len(every) == len(set(every)) > 1000
    for name in every:
        assert NAME.fullmatch(name), name
        assert len(name) <= 200, name
        assert run in name


def test_two_runs_never_meet() -> None:
    assert not set(every_name("one", REAL, 3)) & set(every_name("two", REAL, 3))


def test_tags_of_all_cells_are_valid(rows: Matrix) -> None:
    for cell in rows.all_cells(Arch.AMD64)[::20]:
        for each in images_of(cell, rows).node.family():
            assert TAG.fullmatch(content(each).tag), each.name
            assert cell.arch.value in content(each).tag


def test_host_names_are_short_and_the_first_comes_first() -> None:
    assert names(Options(nodes=3), REAL).hostnames == ("n1", "n2", "n3")
