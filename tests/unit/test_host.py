"""Finding an engine, and what a machine must allow."""

from collections.abc import Mapping
import hashlib
import json
import os
from pathlib import Path
import platform
import sys

import pytest

from ci.engine import finding, host
from ci.engine.finding import (
    DEFAULT_SOCKET,
    EngineAddress,
    FoundEngine,
    Reply,
    candidates,
    engine_from,
    find_engine,
    version_number,
)
from ci.engine.host import cgroups, free_bytes, fuse, user_namespaces
from ci.errors import EngineError, EngineMissingError

HOME = Path("/home/someone")
BOOKWORM = {"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "ID": "debian", "VERSION_ID": "12"}
PLACE = EngineAddress(url=DEFAULT_SOCKET, source="Docker's socket", explicit=False)


class Files(dict[str, str]):
    """A file system of a few files; called as the reader is."""

    def __call__(self, path: Path) -> str | None:
        """Return the text, as `read_text` does."""
        return self.get(str(path))


class Sockets:
    """The engines of a machine by address; what is no engine is raised."""

    def __init__(self, engines: Mapping[str, Reply | Exception]) -> None:
        """Take the engines, or what happens on asking them."""
        self.engines = engines
        self.asked: list[str] = []

    def __call__(self, candidate: EngineAddress) -> Reply:
        """Answer as `ask_engine` does."""
        self.asked.append(candidate.url)
        answer = self.engines.get(candidate.url, FileNotFoundError(2, "No such file or directory"))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _bookworm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: BOOKWORM)
    monkeypatch.setattr(Path, "home", lambda: HOME)


def docker(version: str = "20.10.24+dfsg1") -> Reply:
    return Reply(version={"Version": version, "Components": [{"Name": "Engine"}]}, info={})


def podman(version: str = "4.3.1") -> Reply:
    return Reply(version={"Version": version, "Components": [{"Name": "Podman Engine"}]}, info={})


def find(env: Mapping[str, str], sockets: Sockets, files: Files | None = None, system: str = "linux") -> FoundEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "read_text", Files() if files is None else files)
        patch.setattr(finding, "ask_engine", sockets)
        patch.setattr(sys, "platform", system)
        patch.setattr(os, "getuid", lambda: 1000)
        return find_engine(env)


def context_files(name: str, host: str, *, current: bool) -> Files:
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = {"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    files = Files({f"{HOME}/.docker/contexts/meta/{folder}/meta.json": json.dumps(meta)})
    if current:
        files[f"{HOME}/.docker/config.json"] = json.dumps({"currentContext": name})
    return files


def test_docker_host_is_the_only_place_tried() -> None:
    sockets = Sockets({"unix:///elsewhere.sock": docker(), DEFAULT_SOCKET: docker("28.0.0")})
    engine = find({"DOCKER_HOST": "unix:///elsewhere.sock", "DOCKER_CONTEXT": "other"}, sockets)
    assert (engine.url, engine.version) == ("unix:///elsewhere.sock", "20.10.24+dfsg1")
    assert sockets.asked == ["unix:///elsewhere.sock"]


def test_docker_host_that_does_not_answer_is_one_error_and_no_other_engine_is_taken() -> None:
    sockets = Sockets({DEFAULT_SOCKET: docker()})
    with pytest.raises(EngineError) as caught:
        find({"DOCKER_HOST": "unix:///nonexistent.sock"}, sockets)
    assert not isinstance(caught.value, EngineMissingError)  # bootstrap must not install another one
    assert "does not answer" in caught.value.what
    assert caught.value.where == "unix:///nonexistent.sock (DOCKER_HOST)"
    assert caught.value.why == "no such socket"
    assert "unset DOCKER_HOST" in caught.value.next_step
    assert sockets.asked == ["unix:///nonexistent.sock"]


@pytest.mark.parametrize(
    "address",
    [
        "/var/run/docker.sock",
        "unix://relative.sock",
        "tcp://",
        "tcp://host:port",
        "npipe:////./pipe/docker_engine",
        "x",
    ],
)
def test_senseless_docker_host_is_refused_before_anything_is_asked(address: str) -> None:
    sockets = Sockets({})
    with pytest.raises(EngineError, match="the address of the container engine is invalid"):
        find({"DOCKER_HOST": address}, sockets)
    assert sockets.asked == []


def test_engine_behind_ssh_is_refused_with_the_reason() -> None:
    with pytest.raises(EngineError, match="over ssh") as caught:
        find({"DOCKER_HOST": "ssh://me@host"}, Sockets({}))
    assert "loopback" in caught.value.why


@pytest.mark.parametrize(
    ("address", "local"),
    [("tcp://127.0.0.1:2375", True), ("tcp://localhost:2375", True), ("tcp://docker:2375", False)],
)
def test_tcp_engine_says_whether_its_loopback_is_ours(address: str, local: bool) -> None:  # noqa: FBT001
    assert find({"DOCKER_HOST": address}, Sockets({address: docker()})).local is local


def test_tls_settings_are_handed_on() -> None:
    env = {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/keys"}
    engine = find(env, Sockets({"tcp://h:2376": docker()}))
    assert engine.environment == env


@pytest.mark.parametrize("current", [True, False])
def test_docker_context_is_honoured(current: bool) -> None:  # noqa: FBT001
    files = context_files("work", "unix:///work.sock", current=current)
    env = {} if current else {"DOCKER_CONTEXT": "work"}
    sockets = Sockets({"unix:///work.sock": docker(), DEFAULT_SOCKET: docker()})
    engine = find(env, sockets, files)
    assert engine.url == "unix:///work.sock"
    assert sockets.asked == ["unix:///work.sock"]


def test_docker_config_says_where_contexts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files({key.replace(f"{HOME}/.docker", "/conf"): text for key, text in context_files(
        "work", "unix:///work.sock", current=True).items()})  # fmt: skip
    monkeypatch.setattr(finding, "read_text", files)
    assert candidates({"DOCKER_CONFIG": "/conf"})[0].url == "unix:///work.sock"


def test_context_with_keys_wants_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    files = context_files("far", "tcp://far:2376", current=True)
    keys = HOME / ".docker/contexts/tls" / hashlib.sha256(b"far").hexdigest() / "docker"
    files[str(keys / "ca.pem")] = "certificate"
    monkeypatch.setattr(finding, "read_text", files)
    assert candidates({})[0].tls == keys


def test_unknown_context_is_named() -> None:
    with pytest.raises(EngineError, match="'gone' was not found"):
        find({"DOCKER_CONTEXT": "gone"}, Sockets({DEFAULT_SOCKET: docker()}))


@pytest.mark.parametrize("config", ['{"currentContext": "default"}', '{"currentContext": ""}', "{}", "{broken", "[1]"])
def test_default_context_and_broken_configuration_mean_the_usual_sockets(config: str) -> None:
    files = Files({f"{HOME}/.docker/config.json": config})
    assert find({}, Sockets({DEFAULT_SOCKET: docker()}), files).url == DEFAULT_SOCKET


@pytest.mark.parametrize(
    "path",
    [
        "/var/run/docker.sock",
        "/run/user/1000/docker.sock",
        "/home/someone/.docker/run/docker.sock",
        "/home/someone/.colima/default/docker.sock",
        "/home/someone/.orbstack/run/docker.sock",
        "/home/someone/.rd/docker.sock",
    ],
)
def test_usual_docker_sockets_are_found(path: str) -> None:
    engine = find({}, Sockets({f"unix://{path}": docker()}))
    assert (engine.url, engine.kind, engine.local) == (f"unix://{path}", "docker", True)


@pytest.mark.parametrize("path", ["/run/user/7/podman/podman.sock", "/run/podman/podman.sock"])
def test_podman_is_found_and_known_as_such(path: str) -> None:
    engine = find({"XDG_RUNTIME_DIR": "/run/user/7"}, Sockets({f"unix://{path}": podman()}))
    assert (engine.url, engine.kind, engine.version) == (f"unix://{path}", "podman", "4.3.1")


def test_stale_and_closed_sockets_do_not_hide_a_working_one() -> None:
    sockets = Sockets(
        {
            DEFAULT_SOCKET: PermissionError(13, "Permission denied"),
            "unix:///run/user/1000/docker.sock": ConnectionRefusedError(111, "Connection refused"),
            "unix:///run/user/1000/podman/podman.sock": podman(),
        }
    )
    assert find({}, sockets).kind == "podman"


def test_missing_engine_names_every_place_and_the_packages() -> None:
    sockets = Sockets({DEFAULT_SOCKET: ConnectionRefusedError(111, "Connection refused")})
    with pytest.raises(EngineMissingError) as caught:
        find({}, sockets)
    assert caught.value.exit_code == 20
    assert f"{DEFAULT_SOCKET} (Docker's socket): connection refused" in caught.value.where
    assert all(url in caught.value.where for url in sockets.asked)
    assert "apt-get install --no-install-recommends docker.io" in caught.value.next_step


def test_missing_engine_on_macos_points_to_its_engines() -> None:
    with pytest.raises(EngineMissingError) as caught:
        find({}, Sockets({}), Files(), system="darwin")
    assert "Colima" in caught.value.next_step


def test_lack_of_permission_says_how_to_get_it() -> None:
    with pytest.raises(EngineError, match="no permission") as caught:
        find({}, Sockets({DEFAULT_SOCKET: PermissionError(13, "Permission denied")}))
    assert not isinstance(caught.value, EngineMissingError)
    assert 'usermod -aG docker "$USER"' in caught.value.next_step


@pytest.mark.parametrize("reply", [docker("19.03.15"), podman("3.4.4")])
def test_old_engine_is_refused_with_the_minimum(reply: Reply) -> None:
    with pytest.raises(EngineError, match=r"too old: \w+ [\d.]+; (20\.10|4\.0) or newer is needed"):
        find({}, Sockets({DEFAULT_SOCKET: reply}))


@pytest.mark.parametrize("reply", [docker("20.10.0"), docker("28.2.2"), docker("dev"), podman("5.0.0-dev")])
def test_new_enough_or_unversioned_engine_is_taken(reply: Reply) -> None:
    assert engine_from(PLACE, reply).version == reply.version["Version"]


def test_engine_carries_what_launching_needs() -> None:
    engine = engine_from(PLACE, Reply(version={"Version": "28.0.0"}, info={"DockerRootDir": "/data"}))
    assert (engine.version, engine.kind, engine.data_root) == ("28.0.0", "docker", Path("/data"))
    assert engine_from(PLACE, docker()).data_root is None


@pytest.mark.parametrize(
    ("text", "number"), [("20.10.24+dfsg1", (20, 10)), ("v0.13.1", (0, 13)), ("dev", None), ("28", None)]
)
def test_version_number(text: str, number: tuple[int, int] | None) -> None:
    assert version_number(text) == number


@pytest.mark.parametrize(
    ("setting", "value", "fix"),
    [
        ("/proc/sys/user/max_user_namespaces", "0\n", "sysctl -w user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0\n", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_each_switch_against_user_namespaces_is_noticed(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, fix: str
) -> None:
    monkeypatch.setattr(host, "read_text", Files({setting: value}))
    obstacle = user_namespaces()
    assert obstacle is not None
    assert obstacle.next_step == fix
    assert setting in obstacle.where


def test_user_namespaces_are_fine_where_nothing_forbids_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "/proc/sys/user/max_user_namespaces": "96364\n",
        "/proc/sys/kernel/unprivileged_userns_clone": "1\n",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0\n",
    }
    for files in (Files(settings), Files()):
        monkeypatch.setattr(host, "read_text", files)
        assert user_namespaces() is None


def test_fuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "_FUSE", tmp_path)
    assert fuse() is None
    monkeypatch.setattr(host, "_FUSE", tmp_path / "fuse")
    obstacle = fuse()
    assert obstacle is not None
    assert obstacle.next_step == "modprobe fuse"


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (["cgroup.controllers", "system.slice"], ["version 2", "takes cgroup/v2 here", "CgroupPlugin in cgroup.conf"]),
        (["memory", "systemd"], ["version 1", "may fail there"]),
        (["memory", "systemd", "unified"], ["version 1"]),  # hybrid: the controllers are version 1's
        ([], ["none below /"]),
    ],
)
def test_the_version_of_cgroups_and_what_follows_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: list[str], words: list[str]
) -> None:
    monkeypatch.setattr(host, "_CGROUPS", tmp_path)
    for name in there:
        (tmp_path / name).touch()
    said = cgroups()
    assert [word for word in words if word not in said] == []
    assert "cells use none" in said


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
