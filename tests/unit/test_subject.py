"""Wheelhouses: which wheels fit a target, when a set of them is complete, and what is kept."""

from collections.abc import Callable, Mapping, Sequence
import importlib.util
from pathlib import Path
import zipfile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
import pytest

from ci.errors import DiskFullError, SubjectError
from ci.images import subject as module
from ci.images.checkout import check_open_to_jobs
from ci.images.subject import Wheelhouse, wheelhouse
from ci.images.wheels import Target, Wheel, fingerprint, unmet
from ci.matrix.arch import Arch
from ci.terminal.processes import Completed

TARGET = Target(python="3.13", arch=Arch.AMD64)


def test_platforms_reach_from_the_targets_glibc_down_to_the_oldest() -> None:
    assert TARGET.platforms[0] == "manylinux_2_36_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(TARGET.platforms)
    arm = Target(python="3.11", arch=Arch.ARM64).platforms
    assert "manylinux2014_aarch64" in arm
    assert not [tag for tag in arm if "x86" in tag or tag.startswith("manylinux1")]


def test_markers_are_the_targets_and_not_this_machines() -> None:
    wheel = _wheel(
        "top", "new; python_version >= '3.13'", "mac; sys_platform == 'darwin'", "arm; platform_machine == 'aarch64'"
    )

    assert [str(each) for each in wheel.needs((), TARGET)] == ["new"]
    assert [str(each) for each in wheel.needs((), Target(python="3.11", arch=Arch.ARM64))] == ["arm"]


def test_extras_are_followed_only_where_they_are_asked_for() -> None:
    wheels = [_wheel("top", "low[fast]>=1"), _wheel("low", "speed; extra == 'fast'", "docs; extra == 'docs'")]

    assert unmet([Requirement("top")], wheels, TARGET) == ["speed"]


def test_a_complete_set_leaves_nothing_open() -> None:
    wheels = [_wheel("a", "B-b>=1"), _wheel("b-b", "a")]

    assert unmet([Requirement("a")], wheels, TARGET) == []


def test_a_version_that_does_not_fit_is_open() -> None:
    assert unmet([Requirement("a")], [_wheel("a", "b>=2"), _wheel("b")], TARGET) == ["b>=2"]


def test_the_fingerprint_follows_names_and_contents_only() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert fingerprint({"a": "1"}) != fingerprint({"a": "2"})
    assert fingerprint({"a": "1"}) != fingerprint({"b": "1"})


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a-1-py3-none-any.whl"
    file.write_bytes(b"no archive")

    with pytest.raises(SubjectError, match="a-1-py3-none-any"):
        Wheel.read(file)


class FakePip:
    """Stands in for pip: an index of made-up wheels."""

    def __init__(  # noqa: D107 - the class says it
        self, index: Mapping[str, tuple[str, ...]], *, sources: Sequence[str] = (), says: str = ""
    ) -> None:
        self.index = index
        self.sources = set(sources)
        self.says = says
        self.calls: list[list[str]] = []

    def __call__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,  # noqa: ARG002 - part of the signature
    ) -> Completed:
        """Put the wheels that are named, and no others, where they are wanted."""
        words = [str(word) for word in command]
        self.calls.append(words)
        named = words[words.index("--") + 1 :]
        if self.says:
            return _completed(words, 1, self.says)
        if "wheel" in words:
            for name in self.sources & set(named):
                _write(Path(words[words.index("--wheel-dir") + 1]), name)
            return _completed(words, 0)
        assert env is not None
        assert "manylinux2014_x86_64" in env["PIP_PLATFORM"].split()
        made = {file.name.partition("-")[0] for file in Path(words[words.index("--find-links") + 1]).iterdir()}
        for name in named:
            if name in self.sources - made:
                return _completed(words, 1, f"ERROR: No matching distribution found for {name} (from top)\n")
            _write(Path(words[words.index("--dest") + 1]), name, *self.index.get(name, ()))
        return _completed(words, 0)


Make = Callable[..., Wheelhouse]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a wheelhouse in an empty cache."""

    def make(*requirements: str, constraints: Sequence[str] = ()) -> Wheelhouse:
        return wheelhouse(requirements, constraints, python="3.13", arch=Arch.AMD64, cache=tmp_path)

    return make


def test_what_pip_left_out_for_the_target_is_asked_for_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "call", FakePip({"top": ("low; python_version >= '3.13'",)}))

    made = make("top")

    assert made.wheels == ("low-1-py3-none-any.whl", "top-1-py3-none-any.whl")
    assert made.install_arguments("/wheels") == ("--no-index", "--find-links", "/wheels", "top")


def test_a_second_time_needs_no_pip(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = FakePip({})
    monkeypatch.setattr(module, "call", pip)

    first, second = make("top"), make("top")

    assert len(pip.calls) == 1
    assert (first.reused, second.reused) == (False, True)
    assert (first.path, first.fingerprint, first.size) == (second.path, second.fingerprint, second.size)


def test_other_constraints_are_another_wheelhouse(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "call", FakePip({}))

    assert make("top").path != make("top", constraints=["low<5"]).path


def test_a_wheelhouse_that_lost_a_wheel_is_made_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "call", FakePip({}))
    first = make("top")
    (first.path / "top-1-py3-none-any.whl").unlink()

    second = make("top")

    assert not second.reused
    assert (second.path / "top-1-py3-none-any.whl").is_file()


def test_a_pure_source_distribution_becomes_a_wheel(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "call", FakePip({"top": ("old",)}, sources=["old"]))

    assert make("top").wheels == ("old-1-py3-none-any.whl", "top-1-py3-none-any.whl")


def test_a_failure_shows_pips_verdict_and_keeps_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says = "Looking in indexes: x\nCollecting top\nERROR: Could not find top\nERROR: No matching distribution found\n"
    monkeypatch.setattr(module, "call", FakePip({}, says=says))

    with pytest.raises(SubjectError) as caught:
        make("top")

    text = str(caught.value)
    assert "top for Python 3.13 on Linux amd64" in text
    assert "ERROR: Could not find top" in text
    assert "Collecting" not in text
    assert "pip config list" in text
    assert [entry for entry in (tmp_path / "wheelhouses").iterdir() if entry.is_dir()] == []


def test_a_full_disk_is_reported_as_such(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "call", FakePip({}, says="ERROR: [Errno 28] No space left on device"))

    with pytest.raises(DiskFullError):
        make("top")


def test_a_requirement_that_is_none_is_refused_before_pip_starts(make: Make) -> None:
    with pytest.raises(SubjectError, match="--subject PATH"):
        make("../a/checkout")


def test_without_pip_the_remedy_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(SubjectError, match="ensurepip"):
        make("top")


def _wheel(name: str, *requires: str) -> Wheel:
    return Wheel(
        name=canonicalize_name(name), version=Version("1"), requires=tuple(Requirement(text) for text in requires)
    )


def _write(folder: Path, name: str, *requires: str) -> None:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1", *(f"Requires-Dist: {text}" for text in requires)]
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}-1.dist-info/METADATA", "\n".join(lines) + "\n\n")


def _completed(command: Sequence[str], exit_code: int, output: str = "") -> Completed:
    return Completed(command=tuple(command), exit_code=exit_code, output=output)


@pytest.mark.parametrize(("mode", "why"), [(0o700, "others than its owner"), (0o754, "others than its owner")])
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
