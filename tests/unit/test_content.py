"""An image's tag is made of what goes in; what was changed since then is not built under that tag."""

from collections.abc import Callable
from dataclasses import replace
import hashlib
from pathlib import Path
import shutil

import pytest

from ci import paths
from ci.artefacts.identity import combined, sha256_of, sums_of
from ci.errors import ChecksumError
from ci.images.content import Content, ContextFile
from ci.images.plan import ImagePlan
from ci.matrix.arch import Arch

PLAN = ImagePlan(folder="slurm-archive", variant="25.11.7", arch=Arch.AMD64, beside=("slurm-integration",))


@pytest.fixture(autouse=True)
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of ``containers/`` that a test may change."""
    copy = tmp_path / "containers"
    shutil.copytree(paths.CONTAINERS, copy)
    monkeypatch.setattr(paths, "CONTAINERS", copy)
    return copy


@pytest.fixture
def wanted(tmp_path: Path) -> Content:
    """Return an image with a release file, a folder of wheels and a text in its context."""
    archive = tmp_path / "slurm.tar.gz"
    archive.write_bytes(b"packed")
    wheels = tmp_path / "wheels"
    (wheels / "editable").mkdir(parents=True)
    for name in ("a.whl", "editable/b.whl", "wheelhouse.json"):
        (wheels / name).write_text(name, encoding="utf-8")
    text = b"a==1\n"
    return Content(
        plan=PLAN,
        parents={},
        context=(
            ContextFile(source=archive, target="artefacts/s.tar.gz", sha256="of the tar", copied=sha256_of(archive)),
            ContextFile(source=wheels, target="wheels", sha256=combined(sums_of(wheels))),
            ContextFile(source=text, target="requirements.txt", sha256=hashlib.sha256(text).hexdigest()),
        ),
    )


def test_a_context_has_the_images_folder_those_beside_it_and_what_is_added(wanted: Content, tmp_path: Path) -> None:
    (paths.CONTAINERS / "slurm-archive" / "__pycache__").mkdir()
    wanted.write(tmp_path / "context")
    written = sums_of(tmp_path / "context")
    assert {"Containerfile", "shared/apt-install", "slurm-integration/sshd.conf"} <= written.keys()
    assert {"artefacts/s.tar.gz", "wheels/a.whl", "wheels/editable/b.whl", "requirements.txt"} <= written.keys()
    assert not (tmp_path / "context" / "__pycache__").exists(), "what the tag takes no notice of is not there"


def appended(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b"#")

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "its own file": appended("containers/slurm-archive/Containerfile"),
    "a shared file": appended("containers/shared/apt-install"),
    "a file of a folder beside it": appended("containers/slurm-integration/sshd.conf"),
    "a new file": lambda folder: (folder / "containers/slurm-archive/new").touch(),
    "a file that is gone": lambda folder: (folder / "containers/slurm-integration/sshd.conf").unlink(),
    "the right to execute": lambda folder: (folder / "containers/shared/apt-install").chmod(0o600),
    "a release file": appended("slurm.tar.gz"),
    "a wheel": appended("wheels/a.whl"),
    "an editable wheel": appended("wheels/editable/b.whl"),
    "a new wheel": lambda folder: (folder / "wheels/new.whl").touch(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_changed_after_the_tag_was_made_of_it_is_not_built_under_that_tag(
    wanted: Content, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    tag = wanted.tag
    change(tmp_path)
    with pytest.raises(ChecksumError, match="were changed after its tag was made from them") as caught:
        wanted.write(tmp_path / "context")
    assert tag in caught.value.why
    assert caught.value.where


@pytest.mark.parametrize("of", ["slurm.tar.gz", "wheels", "slurm-archive", "shared", "slurm-integration"])
def test_it_is_the_copies_that_are_compared(
    wanted: Content, tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a file was before it was copied, and is again afterwards, says nothing of what is built."""
    for name in ("copyfile", "copytree"):
        real = getattr(shutil, name)

        def copy(source: Path, target: Path, *given: object, real: Callable[..., Path] = real, **more: object) -> None:
            real(source, target, *given, **more)
            if Path(source).name == of:
                (target if target.is_file() else target / "a.whl").write_text("another", encoding="utf-8")

        monkeypatch.setattr(shutil, name, copy)
    with pytest.raises(ChecksumError):
        wanted.write(tmp_path / "context")


def test_the_tag_is_read_once_and_of_what_goes_in(wanted: Content, tmp_path: Path) -> None:
    changed = replace(wanted, context=())
    assert changed.tag != wanted.tag
    appended("containers/shared/apt-install")(tmp_path)
    assert replace(wanted).tag != wanted.tag
