"""The embedded runtime's parts that need no container: references, settings, mounts, the store."""

import fcntl
import os
from pathlib import Path

import pytest

from containers.embedded.embedded_runtime import containers, fetch, mounts, reference, settings, squashfs, store
from containers.embedded.embedded_runtime.failure import Failure

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    """Return settings with folders of this test's own and no enroot.conf."""
    return settings_of(tmp_path, monkeypatch)


def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str = "", **variables: str) -> settings.Settings:
    configuration = tmp_path / "enroot.conf"
    configuration.write_text(text)
    monkeypatch.setattr(settings, "CONFIGURATION", configuration)
    folders = {f"ENROOT_{name}_PATH": str(tmp_path / name.lower()) for name in ("CACHE", "DATA", "TEMP", "CONFIG")}
    return settings.load({"HOME": str(tmp_path), **folders, **variables})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("docker://localhost:5000#team/it:1", "docker://localhost:5000/team/it:1"),
        ("docker://localhost:5000/team/it:1", "docker://localhost:5000/team/it:1"),
        ("docker://localhost:5000#it", "docker://localhost:5000/it:latest"),
        (f"docker://localhost:5000#it@{DIGEST}", f"docker://localhost:5000/it@{DIGEST}"),
        (f"docker://localhost:5000/it:1@{DIGEST}", f"docker://localhost:5000/it@{DIGEST}"),
        ("docker://somebody@host.example#it:1", "docker://host.example/it:1"),
        ("docker://debian:13", "docker://docker.io/library/debian:13"),
        ("docker://team/it:1", "docker://docker.io/team/it:1"),
        ("docker://docker.io#debian", "docker://docker.io/library/debian:latest"),
    ],
)
def test_references(uri: str, expected: str) -> None:
    assert reference.parse(uri).docker == expected


@pytest.mark.parametrize(
    "uri",
    ["docker://", "docker://a#b#c", "docker://host#Team/it", "docker://host#it:", "docker://#it", "docker://it:a/b"],
)
def test_what_is_no_reference(uri: str) -> None:
    with pytest.raises(Failure, match="Invalid image reference"):
        reference.parse(uri)


def test_a_daemon_is_no_registry() -> None:
    with pytest.raises(Failure, match="Invalid argument"):
        reference.parse("dockerd://debian")


def test_architectures_go_by_unames_words() -> None:
    assert fetch.architecture("aarch64") == "arm64"
    with pytest.raises(Failure, match="Unsupported architecture: arm64"):
        fetch.architecture("arm64")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ENROOT_ALLOW_HTTP yes\nENROOT_REMAP_ROOT y\n#ENROOT_MOUNT_HOME yes\nENROOT_SQUASH_OPTIONS -comp lz4\n"
    found = settings_of(tmp_path, monkeypatch, text, ENROOT_ALLOW_HTTP="no")
    assert (found.allow_http, found.remap_root, found.mount_home) == (False, True, False)
    assert found.squashfs_options == ("-comp", "lz4")


def test_values_are_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ENROOT_A ${HOME}/user-$(id -u)\nENROOT_B ${NONE:-fallback}\nENROOT_C $(printf '%s-%s' a b)\n"
    found = settings_of(tmp_path, monkeypatch, text).environment
    assert (found["ENROOT_A"], found["ENROOT_B"]) == (f"{tmp_path}/user-{os.getuid()}", "fallback")
    assert found["ENROOT_C"] == "a-b"


def test_a_broken_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match=r"enroot\.conf, line 2"):
        settings_of(tmp_path, monkeypatch, "ENROOT_ALLOW_HTTP yes\n!!\n")


def test_credentials_name_the_host_without_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(tmp_path, monkeypatch, SECRET="from outside")  # noqa: S106 - an invented one
    found.configuration.mkdir()
    credentials = found.configuration / ".credentials"
    wanted = reference.parse("docker://localhost:5000#it")
    credentials.write_text("machine localhost:5000 login a password b\n")
    assert fetch.find_credentials(found, wanted) is None
    credentials.write_text("# comment\nmachine other login x password y\nmachine localhost login a password $SECRET\n")
    assert fetch.find_credentials(found, wanted) == ("a", "from outside")
    assert fetch.find_credentials(found, reference.parse("docker://b@localhost:5000#it")) is None


def test_flags_of_a_mount() -> None:
    entry = mounts.requested("/a", "/b", "ro+unbindable")
    assert entry.options == ("x-create=auto", "rbind", "ro", "unbindable")
    assert mounts.requested("tmpfs", "/b", "huge=always").kind == "tmpfs"


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=f"source path does not exist: {tmp_path}/none"):
        mounts.check_sources([mounts.requested(f"{tmp_path}/none", "/m", "")])


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a" * 300])
def test_what_is_no_name(own: settings.Settings, name: str) -> None:
    with pytest.raises(Failure, match="Invalid argument"):
        store.rootfs(own, name)


def test_scratch_is_gone_at_the_end_also_after_an_error(tmp_path: Path) -> None:
    def work() -> None:
        with store.scratch(tmp_path) as folder:
            (folder / "closed").mkdir(mode=0)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert list(tmp_path.iterdir()) == []


def test_what_the_killed_left_is_swept_and_the_living_spared(tmp_path: Path) -> None:
    dead, alive = tmp_path / f"{store.PARTIAL}1", tmp_path / f"{store.PARTIAL}2"
    for path in (dead, alive):
        path.mkdir()
    holder = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with store.scratch(tmp_path):
            assert not dead.exists()
            assert alive.exists()
    finally:
        os.close(holder)


def test_only_squashfs_files_are_images(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("hello")
    with pytest.raises(Failure, match="Invalid image format"):
        squashfs.check(other)
    with pytest.raises(Failure, match="No such file"):
        squashfs.check(tmp_path)


def test_a_container_whose_image_is_gone_says_so(own: settings.Settings) -> None:
    base = own.data / "it" / containers.OVERLAY
    base.mkdir(parents=True)
    (base / "lower").write_text(str(own.data / containers.IMAGES / "sha256-gone"))
    with pytest.raises(Failure, match="no longer stored"):
        containers.overlay(own.data / "it")
