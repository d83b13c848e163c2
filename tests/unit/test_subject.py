"""Wheelhouses: which wheels fit a target, what uv and pip are asked for, and what is kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import zipfile

import pytest

from ci.errors import ChecksumError, DiskFullError, SubjectError
from ci.images import wheels
from ci.images.subject import Wheelhouse, wheelhouse
from ci.images.wheels import Target
from ci.matrix.arch import Arch
from ci.options.inputs import check_open_to_jobs
from ci.paths import CACHE_VARIABLE
from ci.python import uv
from ci.terminal.processes import Completed

TARGET = Target(python="3.13", arch=Arch.AMD64, glibc=36)


def test_platforms_reach_from_the_targets_glibc_down_to_the_oldest() -> None:
    assert TARGET.platform == "x86_64-manylinux_2_36"
    assert TARGET.tags[0] == "manylinux_2_36_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(TARGET.tags)
    arm = Target(python="3.11", arch=Arch.ARM64, glibc=36)
    assert arm.platform == "aarch64-manylinux_2_36"
    assert "manylinux2014_aarch64" in arm.tags
    assert not [tag for tag in arm.tags if "x86" in tag or tag.startswith("manylinux1")]


def test_uv_is_asked_for_no_platform_that_it_does_not_know() -> None:
    newest = Target(python="3.13", arch=Arch.AMD64, glibc=41)
    assert newest.platform == "x86_64-manylinux_2_40"
    assert newest.tags[0] == "manylinux_2_41_x86_64"


class FakeTools:
    """Stands in for uv and pip: an index in which every package has version 1 and requires nothing."""

    def __init__(  # noqa: D107 - the class says it
        self, *, sources: Sequence[str] = (), tag: str = "py3-none-any", exit_code: int = 0, says: str = ""
    ) -> None:
        self.sources = set(sources)
        self.tag = tag
        self.exit_code = exit_code
        self.says = says
        self.calls: list[list[str]] = []

    def __call__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path | None = None,  # noqa: ARG002 - part of the signature
        split: bool = False,  # noqa: ARG002 - part of the signature
    ) -> Completed:
        """Resolve, download or build what is named, and nothing else."""
        words = [str(word) for word in command]
        self.calls.append(words)
        if self.says:
            return Completed(command=tuple(words), exit_code=self.exit_code, output="", errors=self.says)
        if "compile" in words:
            assert words[words.index("--python-platform") + 1] == "x86_64-manylinux_2_36"
            assert words[words.index("--python-version") + 1] == "3.13"
            return self._compile(words)
        if "wheel" in words:
            assert env["SOURCE_DATE_EPOCH"]
            _write(Path(words[words.index("--wheel-dir") + 1]), words[-1].partition("==")[0], self.tag)
        else:
            assert "manylinux2014_x86_64" in env["PIP_PLATFORM"].split()
            for pin in Path(words[words.index("--requirement") + 1]).read_text(encoding="utf-8").split():
                _write(Path(words[words.index("--dest") + 1]), pin.partition("==")[0])
        return Completed(command=tuple(words), exit_code=0, output="")

    def _compile(self, words: list[str]) -> Completed:
        _, *named = Path(words[words.index("compile") + 1]).read_text(encoding="utf-8").splitlines()
        forbidden = [name for name in named if name in self.sources and f"--no-binary={name}" not in words]
        hints = "".join(
            f"hint: Wheels are required for `{name}` because building from source is disabled for all packages\n"
            for name in forbidden
        )
        output = "".join(f"{name}==1\n" for name in named)
        return Completed(command=tuple(words), exit_code=1 if forbidden else 0, output=output, errors=hints)


@pytest.fixture(autouse=True)
def _uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "program", lambda: "uv")
    monkeypatch.setattr(uv, "environment", dict)


Make = Callable[..., Wheelhouse]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a wheelhouse in an empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def make(*requirements: str, constraints: Sequence[str] = ()) -> Wheelhouse:
        return wheelhouse(requirements, constraints, target=TARGET)

    return make


def test_a_second_time_needs_neither_uv_nor_pip(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = FakeTools()
    monkeypatch.setattr(wheels, "call", tools)

    first, second = make("top", "low"), make("top", "low")

    assert len(tools.calls) == 2
    assert first.wheels == ("low-1-py3-none-any.whl", "top-1-py3-none-any.whl")
    assert first.requirements == ("top", "low")
    assert (first.reused, second.reused) == (False, True)
    assert (first.path, first.fingerprint) == (second.path, second.fingerprint)


@pytest.mark.parametrize("changed", ["low-1-py3-none-any.whl", "editable/new.whl", "new.whl"])
def test_wheels_that_are_changed_after_their_check_are_not_handed_on(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: str
) -> None:
    monkeypatch.setattr(wheels, "call", FakeTools())
    house = make("top", "low")
    house.copy_to(tmp_path / "as-it-was")
    assert {it.name for it in (tmp_path / "as-it-was").glob("*.whl")} == set(house.wheels)
    (house.path / changed).parent.mkdir(exist_ok=True)
    (house.path / changed).write_bytes(b"another")

    with pytest.raises(ChecksumError, match="wheels were changed after they were checked"):
        house.copy_to(tmp_path / "now")


def test_other_constraints_are_another_wheelhouse(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "call", FakeTools())

    assert make("top").path != make("top", constraints=["low<5"]).path


def test_a_wheelhouse_that_lost_a_wheel_is_made_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "call", FakeTools())
    first = make("top")
    (first.path / "top-1-py3-none-any.whl").unlink()

    second = make("top")

    assert not second.reused
    assert (second.path / "top-1-py3-none-any.whl").is_file()


def test_a_pure_source_distribution_becomes_a_wheel(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "call", FakeTools(sources=["old", "older"]))

    assert make("old", "top", "older").wheels == tuple(f"{name}-1-py3-none-any.whl" for name in ("old", "older", "top"))


def test_a_source_distribution_that_compiles_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "call", FakeTools(sources=["old"], tag="cp311-cp311-linux_x86_64"))

    with pytest.raises(SubjectError, match="not pure Python") as caught:
        make("old", "top")

    assert caught.value.where == "old==1"


@pytest.mark.parametrize(
    ("exit_code", "what", "next_step"),
    [(1, "no release satisfies the requirements", "matrix.toml"), (2, "the requirements were not resolved", "network")],
)
def test_a_failure_shows_uvs_words_and_keeps_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exit_code: int, what: str, next_step: str
) -> None:
    monkeypatch.setattr(wheels, "call", FakeTools(exit_code=exit_code, says="error: the reason\n  cause: the cause\n"))

    with pytest.raises(SubjectError, match=what) as caught:
        make("top")

    assert caught.value.where == "top for Python 3.13 on Linux amd64"
    assert caught.value.why == "uv says:\n    error: the reason\n      cause: the cause"
    assert next_step in caught.value.next_step
    assert [entry for entry in (tmp_path / "wheelhouses").iterdir() if entry.is_dir()] == []


def test_a_full_disk_is_reported_as_such(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "error: Failed to write: No space left on device (os error 28)"
    monkeypatch.setattr(wheels, "call", FakeTools(exit_code=2, says=says))

    with pytest.raises(DiskFullError):
        make("top")


def test_a_requirement_that_is_none_is_refused_before_uv_starts(make: Make) -> None:
    with pytest.raises(SubjectError, match="--subject PATH"):
        make("../a/checkout")


def test_without_uv_the_remedy_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "program", lambda: None)

    with pytest.raises(SubjectError, match="pip install uv"):
        make("top")


def _write(folder: Path, name: str, tag: str = "py3-none-any") -> None:
    with zipfile.ZipFile(folder / f"{name}-1-{tag}.whl", "w") as archive:
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n\n")


@pytest.mark.parametrize(("mode", "why"), [(0o700, "only its owner"), (0o754, "only its owner")])
def test_a_checkout_that_jobs_could_not_read_is_refused(tmp_path: Path, mode: int, why: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(SubjectError, match="could not read") as caught:
        check_open_to_jobs(folder)
    assert why in caught.value.why
    folder.chmod(0o755)
    check_open_to_jobs(folder)


def test_a_checkout_below_root_is_refused_whatever_its_mode() -> None:
    with pytest.raises(SubjectError, match="could not read"):
        check_open_to_jobs(Path("/root/project"))
