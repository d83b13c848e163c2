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


def test_a_link_among_what_is_swept_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "closed").mkdir(parents=True, mode=0o500)
    (elsewhere / "closed").chmod(0o500)
    work = tmp_path / "work"
    work.mkdir()
    (work / f"{store.PARTIAL}1").symlink_to(elsewhere)
    with store.scratch(work):
        pass
    assert (work / f"{store.PARTIAL}1").is_symlink()
    assert (elsewhere / "closed").stat().st_mode & 0o777 == 0o500


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
    (base / "lower").write_text("sha256-" + "0" * 64)
    with pytest.raises(Failure, match="no longer stored"):
        containers.overlay(own.data / "it")


@pytest.mark.parametrize("lower", ["/", "..", "sha256-", "/etc,upperdir=/home", "sha256-" + "0" * 64 + "/.."])
def test_a_container_is_layered_over_stored_images_alone(own: settings.Settings, lower: str) -> None:
    base = own.data / "it" / containers.OVERLAY
    base.mkdir(parents=True)
    (base / "lower").write_text(lower)
    with pytest.raises(Failure, match="names no stored image"):
        containers.overlay(own.data / "it")


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_an_image_can_not_pass_for_a_layered_container(
    own: settings.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def unpack(_: Path, rootfs: Path) -> None:
        rootfs.mkdir()
        path = rootfs / containers.OVERLAY
        path.symlink_to(tmp_path) if kind == "link" else path.mkdir()

    monkeypatch.setattr(squashfs, "unpack", unpack)
    with pytest.raises(Failure, match="only the runtime makes"):
        containers.create_from_squashfs(own, "it", tmp_path / "image")
    assert not (own.data / "it").exists()


@pytest.mark.parametrize("folder", ["CACHE", "DATA", "TEMP"])
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    settings_of(tmp_path, monkeypatch)
    path = tmp_path / folder.lower()
    somebody = path.stat().st_uid + 1
    path.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(Failure, match=f"{path} belongs to another user"):
        settings.check_owner(path, shared=False)


@pytest.mark.parametrize("folder", ["CACHE", "DATA"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, mode: int
) -> None:
    path = tmp_path / folder.lower()
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(Failure, match=f"{path} can be written to by other users"):
        settings_of(tmp_path, monkeypatch)


def test_the_folder_for_work_may_be_everybodys_if_it_is_sticky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "temp"
    path.mkdir()
    path.chmod(0o1777)
    settings_of(tmp_path, monkeypatch)
    path.chmod(0o777)
    with pytest.raises(Failure, match="can be written to by other users"):
        settings_of(tmp_path, monkeypatch)


def test_a_name_leads_to_no_lock_elsewhere(own: settings.Settings, tmp_path: Path) -> None:
    def hold() -> None:
        with store.locked(own, "../elsewhere"):
            pass

    with pytest.raises(Failure, match="Invalid argument"):
        hold()
    assert not (tmp_path / "data/elsewhere").exists()
