"""Finding a client that can build, and the packages that bring one."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
import platform

import pytest

from ci.engine import build_client
from ci.engine.build_client import BuildClient, executables_on_path, find_build_client
from ci.engine.distribution import ROLLING, Distro, install_advice
from ci.engine.finding import FoundEngine
from ci.errors import EngineError

TRIXIE = {"ID": "debian", "VERSION_ID": "13"}
NEW, OLD, PODMAN = "/usr/local/bin/docker", "/usr/bin/docker", "/usr/bin/podman"
DOCKER_ENGINE = FoundEngine(url="unix:///d.sock", version="28.0.0", kind="docker")
PODMAN_ENGINE = FoundEngine(url="unix:///p.sock", version="4.3.1", kind="podman")


class Clients:
    """The clients of a machine: what each says to ``--version``, and which have buildx."""

    def __init__(self, versions: Mapping[str, str], *, buildx: Iterable[str] = ()) -> None:
        """Take the clients by path."""
        self.versions = versions
        self.buildx = set(buildx)

    def on_path(self, name: str, _search_path: str) -> list[Path]:
        """Return them as `executables_on_path` does."""
        return [Path(path) for path in self.versions if Path(path).name == name]

    def probe(self, command: tuple[str, ...]) -> tuple[int, str]:
        """Answer as `run_probe` does."""
        path, *arguments = command
        if arguments == ["--version"]:
            return (0, self.versions[path]) if self.versions[path] else (127, "exec format error")
        assert arguments == ["buildx", "version"]
        return (0, "github.com/docker/buildx 0.13.1") if path in self.buildx else (1, "unknown command: docker buildx")


Machine = Callable[[Mapping[str, str] | None], None]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a function that changes the os-release of this machine, which is Debian 13's at first."""

    def become(os_release: Mapping[str, str] | None) -> None:
        def read() -> dict[str, str]:
            if os_release is None:
                raise FileNotFoundError
            return dict(os_release)

        monkeypatch.setattr(platform, "freedesktop_os_release", read)

    become(TRIXIE)
    return become


def find(clients: Clients, engine: FoundEngine | None = None) -> BuildClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_client, "run_probe", clients.probe)
        patch.setattr(build_client, "executables_on_path", clients.on_path)
        return find_build_client({"PATH": "/bin"}, engine=engine)


def version(number: str) -> str:
    return f"Docker version {number}, build e6534b4\n"


def test_newer_client_without_buildx_is_passed_over_for_an_older_one_that_can_build() -> None:
    client = find(Clients({NEW: version("28.2.2"), OLD: version("20.10.24+dfsg1")}))
    assert (client.path, client.version) == (Path(OLD), "20.10.24+dfsg1")
    assert client.environment == {"DOCKER_BUILDKIT": "1"}


def test_newer_client_with_buildx_is_taken() -> None:
    client = find(Clients({NEW: version("28.2.2"), OLD: version("20.10.24")}, buildx=[NEW]))
    assert client.path == Path(NEW)


def test_client_that_does_not_start_is_passed_over() -> None:
    assert find(Clients({NEW: "", OLD: version("20.10.24")})).path == Path(OLD)


def test_client_is_pointed_to_the_engine() -> None:
    client = find(Clients({OLD: version("20.10.24")}), DOCKER_ENGINE)
    assert client.environment == {"DOCKER_BUILDKIT": "1", "DOCKER_HOST": "unix:///d.sock"}


def test_podman_is_taken_only_after_every_docker() -> None:
    clients = {PODMAN: "podman version 4.3.1\n", NEW: version("28.2.2")}
    assert find(Clients(clients)).path == Path(PODMAN)
    assert find(Clients(clients, buildx=[NEW])).path == Path(NEW)


def test_podman_under_the_name_of_docker_is_recognised() -> None:
    assert find(Clients({OLD: "podman version 4.3.1\n"})).kind == "podman"


def test_client_is_of_the_kind_of_the_engine() -> None:
    clients = Clients({OLD: version("20.10.24"), PODMAN: "podman version 4.3.1\n"})
    client = find(clients, PODMAN_ENGINE)
    assert client.path == Path(PODMAN)
    assert client.environment == {"BUILDAH_FORMAT": "docker", "CONTAINER_HOST": "unix:///p.sock"}
    with pytest.raises(EngineError, match="a client of podman, not of docker"):
        find(Clients({PODMAN: "podman version 4.3.1\n"}), DOCKER_ENGINE)


@pytest.mark.parametrize(
    ("os_release", "packages"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, "docker.io"),
        (TRIXIE, "docker-cli docker-buildx"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "docker.io docker-buildx"),
    ],
)
def test_no_client_that_builds_names_each_that_was_tried_and_the_packages(
    machine: Machine, os_release: Mapping[str, str], packages: str
) -> None:
    machine(os_release)
    with pytest.raises(EngineError) as caught:
        find(Clients({NEW: version("28.2.2"), OLD: version("17.03.1-ce")}))
    assert f"{NEW}: version 28.2.2 without its buildx plugin" in caught.value.where
    assert f"{OLD}: version 17.03.1-ce is too old for BuildKit" in caught.value.where
    assert caught.value.next_step.endswith(f"--no-install-recommends {packages}")


def test_no_client_at_all_for_podman_asks_for_podman() -> None:
    with pytest.raises(EngineError) as caught:
        find(Clients({}), PODMAN_ENGINE)
    assert caught.value.where == "neither docker nor podman is on PATH"
    assert caught.value.next_step.endswith(" podman")


def test_every_executable_on_path_once_and_in_order(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder / "docker").write_text("", encoding="utf-8")
    (tmp_path / "b/docker").chmod(0o755)  # a/docker stays without its x bit
    (tmp_path / "c/docker").symlink_to(tmp_path / "b/docker")
    search = ":".join(str(tmp_path / folder) for folder in ("", "a", "c", "b", "nowhere"))
    assert executables_on_path("docker", f":{search}") == [tmp_path / "c/docker"]


@pytest.mark.parametrize(
    ("os_release", "release", "packages"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, 12, ("docker.io",)),
        (TRIXIE, 13, ("docker.io", "docker-cli", "docker-buildx")),
        ({"ID": "debian", "VERSION_CODENAME": "forky"}, ROLLING, ("docker.io", "docker-cli", "docker-buildx")),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, 24, ("docker.io", "docker-buildx")),
        ({"ID": "fedora", "VERSION_ID": "41"}, 41, ()),
        (None, ROLLING, ()),
    ],
)
def test_packages_by_distribution(
    machine: Machine, os_release: Mapping[str, str] | None, release: int, packages: tuple[str, ...]
) -> None:
    machine(os_release)
    distro = Distro.of_this_machine()
    assert (distro.release, distro.engine_packages, distro.installable) == (release, packages, bool(packages))


@pytest.mark.parametrize(
    ("os_release", "system", "expected"),
    [
        (None, "darwin", "Colima"),
        ({"ID": "fedora"}, "linux", "dnf install podman"),
        ({"ID": "arch"}, "linux", "Docker Engine"),
    ],
)
def test_advice_elsewhere(machine: Machine, os_release: Mapping[str, str] | None, system: str, expected: str) -> None:
    machine(os_release)
    assert expected in install_advice(Distro.of_this_machine(), system=system, packages=())
