"""The image cache: its address, the names in it, what is kept there, and the clients' words told apart."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from docker.errors import ImageNotFound
import pytest

from ci.engine.build_client import BuildClient
from ci.engine.connection import Engine
from ci.engine.finding import EngineKind
from ci.engine.labels import LABEL_CONTENT
from ci.errors import ArtefactError
from ci.images.cache import READ_ONLY_VARIABLE, VARIABLE, ImageCache, address
from ci.images.content import Content
from ci.images.plan import ImagePlan, Wheels
from ci.matrix.arch import Arch
from ci.terminal import console
from ci.terminal.processes import Completed

PLAN = ImagePlan(folder="slurm-build", variant="25.11.7-debian12-amd64", arch=Arch.AMD64)
CONTENT = Content(plan=PLAN, parents={})
HERE = "registry.example/team/cache"
MISSES = (
    "Error response from daemon: manifest for registry.example/team/cache:x not found: manifest unknown",
    'Error response from daemon: failed to resolve reference "r/c:x": r/c:x: not found',
    "Error: initializing source docker://r/c:x: reading manifest x in r/c: name unknown: repository name not known",
)
REFUSALS = (
    "Error response from daemon: pull access denied for r/c, repository does not exist or may require 'docker login'",
    "Error response from daemon: Head http://r/v2/c/manifests/x: no basic auth credentials",
    "Error: unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password",
)
BROKEN = (
    "Error response from daemon: Get http://localhost:1/v2/: dial tcp 127.0.0.1:1: connect: connection refused",
    "Error response from daemon: Get https://r/v2/: dial tcp: lookup r: no such host",
    'error getting credentials - err: exec: "docker-credential-x": executable file not found in $PATH, out: ``',
    "Error response from daemon: received unexpected HTTP status: 500 Internal Server Error",
)


class Images:
    """An engine's images, as docker-py has them."""

    def __init__(self, labels: dict[str, str], arch: str = "amd64") -> None:
        """Hold one image, under its local name."""
        self.names = [CONTENT.tag]
        self.image = SimpleNamespace(id="sha256:1", labels=labels, attrs={"Architecture": arch}, tag=self._tag)

    def get(self, name: str) -> Any:  # noqa: ANN401 - docker-py's own models are untyped
        """Return the image by one of its names."""
        if name not in {*self.names, self.image.id}:
            raise ImageNotFound(name)
        return self.image

    def remove(self, name: str) -> None:
        """Remove a name."""
        self.names.remove(name)

    def get_registry_data(self, name: str) -> Any:  # noqa: ANN401 - docker-py's own models are untyped
        """Return nothing: no registry has it."""
        raise ImageNotFound(name)

    def _tag(self, repository: str, tag: str) -> None:
        self.names.append(f"{repository}:{tag}")


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what the person is warned of."""
    told: list[str] = []
    monkeypatch.setattr(console, "warn", told.append)
    return told


class Client:
    """The engine's client: all of its commands fail, and say why."""

    def __init__(self) -> None:
        """Know no image."""
        self.says = MISSES[0]
        self.commands: list[list[str]] = []

    def call(self, words: list[str], **_more: object) -> Completed:
        """Fail."""
        self.commands.append(list(words))
        return Completed(command=tuple(words), exit_code=1, output=f"Using default tag\n{self.says}\n")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """Have a client in place of the real one."""
    fake = Client()
    monkeypatch.setattr(console, "call", fake.call)
    return fake


def cache_of(images: Images, repository: str = HERE, kind: EngineKind = "docker") -> ImageCache:
    build_client = BuildClient(path=Path("/usr/bin") / kind, kind=kind, version="1")
    found = SimpleNamespace(environment={}, kind=kind)
    engine = Engine(
        api=cast("Any", SimpleNamespace(images=images)), found=cast("Any", found), build_client=build_client
    )
    return ImageCache(engine, repository, log=Path("/logs/image-cache.log"))


@pytest.mark.parametrize(
    "name",
    [
        *("localhost:5000/c", "127.0.0.1:5000/team/c", "ghcr.io/owner/image-cache", "docker.io/some_body/c__d"),
        *("registry:5000/a.b/c--d/e", "Registry.example.org/x"),
    ],
)
def test_an_address(name: str) -> None:
    assert address({VARIABLE: name}) == address({VARIABLE: f" {name}/ "}) == name
    assert address({}) == address({VARIABLE: ""}) == ""


@pytest.mark.parametrize(
    "name",
    [
        *("cache", "somebody/cache", "https://ghcr.io/o/c", "ghcr.io", "ghcr.io/o/c:latest", "ghcr.io/Owner/c"),
        *("localhost:5000", "ghcr.io/o//c", "ghcr.io/o/c@sha256:ab", "ghcr.io/o/c d", "ghcr.io/-o"),
    ],
)
def test_what_is_no_address_is_refused(name: str) -> None:
    with pytest.raises(ArtefactError, match="name of the image cache is invalid"):
        address({VARIABLE: name})


def test_a_password_in_the_address_is_not_shown() -> None:
    with pytest.raises(ArtefactError) as caught:
        address({VARIABLE: "user:s3cr3t@ghcr.io/o/c"})
    assert "s3cr3t" not in str(caught.value)
    assert "docker login" in caught.value.next_step


def test_names_in_the_cache_end_with_the_hash() -> None:
    cache = cache_of(Images({}))
    assert cache.reference(CONTENT) == f"{HERE}:slurm-build-25.11.7-debian12-amd64-{CONTENT.fingerprint}"
    assert CONTENT.digest.startswith(CONTENT.fingerprint)
    long = Content(plan=ImagePlan(folder="slurm-build", variant="v" * 150, arch=Arch.AMD64), parents={})
    tag = cache.reference(long).rpartition(":")[2]
    assert len(tag) == 128
    assert tag.endswith(f"-{long.fingerprint}")


def test_neither_the_package_under_test_nor_images_from_outside_are_kept(client: Client) -> None:
    cache = cache_of(Images({}))
    wheels = Wheels(subject=cast("Any", None), checkout=None, python="3.11", glibc=36, editable=True)
    subject = Content(plan=ImagePlan(folder="subject", variant="v", arch=Arch.AMD64, wheels=wheels), parents={})
    outside = Content(plan=ImagePlan(folder="base", variant="v", arch=Arch.AMD64), parents={}, pulled="debian:sid-slim")
    for content in (subject, outside):
        assert not cache.keeps(content)
        assert not cache.pull(content)
        cache.push(content)
    assert client.commands == []


@pytest.mark.parametrize(("kind", "more"), [("docker", []), ("podman", ["--tls-verify=false"])])
def test_plain_http_on_loopback_only(client: Client, kind: EngineKind, more: list[str]) -> None:
    for here in ("localhost:5000/c", HERE):
        cache_of(Images({}), here, kind).pull(CONTENT)
    reference = cache_of(Images({}), HERE).reference(CONTENT).removeprefix(HERE)
    pull = [f"/usr/bin/{kind}", "pull"]
    platform = ["--platform", "linux/amd64"]
    assert client.commands == [
        [*pull, *more, *platform, f"localhost:5000/c{reference}"],
        [*pull, *platform, f"{HERE}{reference}"],
    ]


@pytest.mark.parametrize("words", MISSES)
def test_what_it_does_not_have_is_no_trouble(words: str, client: Client, warned: list[str]) -> None:
    client.says = words
    cache = cache_of(Images({}))
    assert not cache.pull(CONTENT)
    assert not cache.pull(CONTENT)
    assert len(client.commands) == 2
    assert warned == []


@pytest.mark.parametrize("words", REFUSALS)
def test_who_may_not_read_may_still_write(words: str, client: Client, warned: list[str]) -> None:
    client.says = words
    images = Images({"pyxis-matrix.content": CONTENT.digest})
    cache = cache_of(images)
    assert not cache.pull(CONTENT)
    assert not cache.pull(CONTENT)
    assert [words[1] for words in client.commands] == ["pull"]
    assert len(warned) == 1
    assert "docker login registry.example" in warned[0]
    cache.push(CONTENT)
    cache.push(CONTENT)
    assert [words[1] for words in client.commands] == ["pull", "push"]
    assert len(warned) == 2
    assert images.names == [CONTENT.tag]


@pytest.mark.parametrize("words", BROKEN)
def test_one_that_does_not_work_is_left_alone_after_one_warning(words: str, client: Client, warned: list[str]) -> None:
    client.says = words
    cache = cache_of(Images({"pyxis-matrix.content": CONTENT.digest}))
    assert not cache.pull(CONTENT)
    cache.push(CONTENT)
    assert not cache.pull(CONTENT)
    assert len(client.commands) == 1
    (warning,) = warned
    assert words in warning
    assert f"unset {VARIABLE}" in warning


@pytest.mark.parametrize(("said", "pushes"), [("1", 0), ("", 1)])
def test_nothing_is_pushed_to_a_cache_that_may_be_read_only(
    *, client: Client, warned: list[str], monkeypatch: pytest.MonkeyPatch, said: str, pushes: int
) -> None:
    monkeypatch.setenv(READ_ONLY_VARIABLE, said)
    images = Images({LABEL_CONTENT: CONTENT.digest})
    cache_of(images).push(CONTENT)
    assert len([words for words in client.commands if "push" in words]) == pushes
    assert len(warned) == pushes, "the client of these tests fails at all it is asked for"
    client.commands.clear()
    cache_of(images).pull(CONTENT)
    assert len([words for words in client.commands if "pull" in words]) == 1


def test_an_image_without_the_hash_is_not_pushed(client: Client, warned: list[str]) -> None:
    cache_of(Images({"pyxis-matrix": "1"})).push(CONTENT)
    assert (client.commands, warned) == ([], [])
