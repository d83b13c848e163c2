"""The image cache: what one machine has built another one pulls; and whatever is wrong with it, the image is built.

The registries are real ones, each started by its test. Another machine is this one after it has forgotten the image.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http import HTTPStatus
import json
from pathlib import Path
import secrets
import shutil
import socket

import bcrypt
import pytest

from ci import paths
from ci.artefacts.sources import Sources
from ci.engine.connection import Engine, InsideFile
from ci.environment import registry
from ci.environment.registry_client import V2S2, UnexpectedAnswerError
from ci.environment.service import Place
from ci.images import cache
from ci.images.building import Builder, Built, ImageOrigin
from ci.images.plan import ImagePlan
from ci.images.plan import registry as registry_plan
from ci.matrix.arch import Arch
from ci.terminal import console
from tests.component.weather import until
from tests.support.registry_client import RegistryClient

REPOSITORY = "ours/image-cache"
KIBIBYTES = 256
USER, PASSWORD = "somebody", "s3cr3t"


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what the person is warned of."""
    told: list[str] = []
    monkeypatch.setattr(console, "warn", told.append)
    return told


Start = Callable[..., registry.Registry]


@pytest.fixture
def start(engine: Engine, builder: Builder, run: str, stack: ExitStack) -> Start:
    """Return a function that starts a registry with distribution's own environment variables, and with files."""
    image = builder.ensure(registry_plan(Arch.host())).tag
    place = Place(engine=engine, stack=stack, run=run, cell="image-cache", network=f"pyxis-matrix-{run}")
    place.create_network()

    def started(files: Mapping[str, bytes] | None = None, **settings: str) -> registry.Registry:
        usual = registry.planned(image, f"pyxis-matrix-{run}-{secrets.token_hex(2)}")
        inside = {path: InsideFile(content=content) for path, content in (files or {}).items()}
        wanted = replace(usual, role="own-registry", environment=settings, files={**usual.files, **inside})
        return registry.start(place, wanted)

    return started


@dataclass(kw_only=True)
class Machine:
    """One that builds an image of the test's own, with an image cache."""

    engine: Engine
    logs: Path
    patch: pytest.MonkeyPatch
    variables: dict[str, str] = field(default_factory=dict)
    folder: str = "cached"

    @property
    def wanted(self) -> ImagePlan:
        """The image."""
        return ImagePlan(folder=self.folder, variant=self.logs.parent.name.replace("_", "-"), arch=Arch.host())

    def builder(self, address: str, *, share_all: bool = False) -> Builder:
        """Return what builds, with the cache at an address."""
        for name, value in {cache.VARIABLE: f"{address}/{REPOSITORY}", **self.variables}.items():
            self.patch.setenv(name, value)
        return Builder(self.engine, Sources.from_environment(), logs=self.logs, share_all=share_all)

    def ensure(self, address: str, *, share_all: bool = False) -> Built:
        """Have the image."""
        return self.builder(address, share_all=share_all).ensure(self.wanted)

    def forget(self, tag: str) -> None:
        """Be another machine."""
        if self.engine.image_exists(tag):
            self.engine.untag_exactly(tag)
        assert not self.engine.image_exists(tag)

    def names(self, address: str) -> list[str]:
        """Return the local names that lead to a registry."""
        return [name for it in self.engine.api.images.list() for name in it.tags if name.startswith(address)]


@pytest.fixture
def machine(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a machine whose one image holds random bytes, so that no other test's cache or layers are of use."""
    folder = tmp_path / "containers" / "cached"
    folder.mkdir(parents=True)
    (folder.parent / "shared").mkdir()
    shutil.copytree(paths.CONTAINERS / "registry", folder.parent / "registry")  # what tests start as the cache
    (folder / "payload").write_bytes(secrets.token_bytes(KIBIBYTES << 10))
    (folder / "Containerfile").write_text("FROM scratch\nCOPY payload /payload\n", encoding="utf-8")
    monkeypatch.setattr(paths, "CONTAINERS", folder.parent)
    made = Machine(engine=engine, logs=tmp_path / "logs", patch=monkeypatch)
    yield made
    for image in engine.api.images.list(name="pyxis-matrix/cached"):
        for name in image.tags:
            if made.wanted.variant in name:
                engine.untag_exactly(name)


def answers(address: str) -> bool:
    """Tell whether a registry answers."""
    try:
        return RegistryClient(address).ping() == HTTPStatus.OK
    except UnexpectedAnswerError:
        return False


# The image of the registry itself is built from the real folder, so `start` stands before `machine` in all arguments.


def test_what_one_machine_has_built_another_one_pulls(start: Start, machine: Machine, warned: list[str]) -> None:
    address = start().address

    first = machine.ensure(address)
    assert first.how is ImageOrigin.BUILT
    (tag,) = RegistryClient(address).tags(REPOSITORY)
    assert tag == f"cached-{machine.wanted.variant}-{first.content.fingerprint}"

    assert machine.ensure(address).how is ImageOrigin.REUSED

    machine.forget(first.tag)
    second = machine.ensure(address)
    assert (second.how, second.tag, second.identity) == (ImageOrigin.PULLED, first.tag, first.identity)
    assert machine.names(address) == []
    assert warned == []


def test_what_was_built_without_the_cache_is_added_by_who_fills_it(
    start: Start, machine: Machine, warned: list[str]
) -> None:
    address = start().address
    machine.variables = {cache.VARIABLE: ""}
    machine.ensure(address)
    machine.variables = {}

    assert machine.ensure(address).how is ImageOrigin.REUSED
    assert RegistryClient(address).tags(REPOSITORY) == []
    assert machine.ensure(address, share_all=True).how is ImageOrigin.REUSED
    assert len(RegistryClient(address).tags(REPOSITORY)) == 1
    assert machine.names(address) == []
    assert warned == []


def test_with_a_login(start: Start, machine: Machine, warned: list[str], tmp_path: Path) -> None:
    line = f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds=5)).decode()}\n"
    locked = start(
        {"/htpasswd": line.encode()},
        REGISTRY_AUTH="htpasswd",
        REGISTRY_AUTH_HTPASSWD_REALM="test",
        REGISTRY_AUTH_HTPASSWD_PATH="/htpasswd",
    ).address
    config = tmp_path / "config"
    config.mkdir()
    variable = "REGISTRY_AUTH_FILE" if machine.engine.build_client.kind == "podman" else "DOCKER_CONFIG"
    file = config / "config.json"
    machine.variables = {variable: str(file if variable == "REGISTRY_AUTH_FILE" else config)}

    file.write_text("{}", encoding="utf-8")
    built = machine.ensure(locked)
    assert built.how is ImageOrigin.BUILT
    assert len(warned) == 2, warned  # of reading, and of writing
    assert all(f"docker login {locked}" in it and "basic auth" in it for it in warned), warned
    assert "images are built here" in warned[0]
    assert "could not be written" in warned[1]

    machine.forget(built.tag)
    warned.clear()
    auth = {"auths": {locked: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}
    file.write_text(json.dumps(auth), encoding="utf-8")
    assert machine.ensure(locked).how is ImageOrigin.BUILT
    machine.forget(built.tag)
    assert machine.ensure(locked).how is ImageOrigin.PULLED
    assert warned == []


# -- bad weather ----------------------------------------------------------------------------------------------------


def test_one_that_is_down_is_asked_once(machine: Machine, warned: list[str]) -> None:
    with socket.socket() as taken:  # nobody listens there, and nobody will
        taken.bind(("127.0.0.1", 0))
        address = f"localhost:{taken.getsockname()[1]}"
        builder = machine.builder(address)
        assert builder.ensure(machine.wanted).how is ImageOrigin.BUILT
        second = replace(machine.wanted, variant=f"{machine.wanted.variant}-2")
        assert builder.ensure(second).how is ImageOrigin.BUILT
    (warning,) = warned
    assert "the image cache does not work; images are built here" in warning
    assert "connection refused" in warning
    assert f"{address}/{REPOSITORY}:cached-" in warning
    assert "unset PYXIS_MATRIX_IMAGE_CACHE" in warning


def test_one_that_is_full(start: Start, machine: Machine, warned: list[str]) -> None:
    full = start(REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/dev/shm/registry")
    filled = machine.engine.run_inside(full.container, ["dd", "if=/dev/zero", "of=/dev/shm/rest", "bs=64k"])
    assert "No space left" in filled.output
    assert machine.ensure(full.address).how is ImageOrigin.BUILT
    (warning,) = warned
    assert "the image cache could not be written; new images stay on this machine" in warning
    assert machine.names(full.address) == []


def test_one_that_is_read_only_is_read(start: Start, machine: Machine, warned: list[str]) -> None:
    found = start()
    first = machine.ensure(found.address)
    closed = "version: 0.1\nhttp: {addr: ':5000'}\nstorage:\n  filesystem: {rootdirectory: /srv/registry}\n"
    closed += "  maintenance: {readonly: {enabled: true}}\n"
    machine.engine.copy_into(found.container, {"/etc/docker/registry/config.yml": InsideFile(content=closed.encode())})
    found.container.restart()
    address = f"localhost:{machine.engine.published_port(found.container, registry.PORT)}"
    until("the registry answers again", lambda: answers(address))

    machine.forget(first.tag)
    builder = machine.builder(address)
    assert builder.ensure(machine.wanted).how is ImageOrigin.PULLED
    assert warned == []
    for more in ("2", "3"):
        assert (
            builder.ensure(replace(machine.wanted, variant=f"{machine.wanted.variant}-{more}")).how is ImageOrigin.BUILT
        )
    (warning,) = warned
    assert "the image cache could not be written" in warning
    assert "405" in warning  # the words are Docker's own complaint that the answer is no JSON


def test_another_image_under_our_tag_is_refused_and_left_alone(
    start: Start, machine: Machine, engine: Engine, warned: list[str]
) -> None:
    address = start().address
    built = machine.ensure(address)
    machine.forget(built.tag)
    client = RegistryClient(address)
    (tag,) = client.tags(REPOSITORY)
    # An image of ours, but not the one of this tag.
    other = machine.builder(address).ensure(replace(machine.wanted, variant=f"{machine.wanted.variant}-other"))
    foreign = f"{address}/{REPOSITORY}:{tag}"
    engine.image(other.tag).tag(*foreign.rsplit(":", 1))
    engine.push(foreign)
    engine.untag_exactly(foreign)
    before = client.manifest(REPOSITORY, tag, V2S2).headers["Docker-Content-Digest"]

    again = machine.ensure(address)
    assert (again.how, again.tag) == (ImageOrigin.BUILT, built.tag)
    assert engine.image(again.tag).labels["pyxis-matrix.content"] == again.content.digest
    (warning,) = warned
    assert "holds another image under this tag" in warning
    assert foreign in warning
    assert other.content.digest in warning
    assert again.content.digest in warning
    assert client.manifest(REPOSITORY, tag, V2S2).headers["Docker-Content-Digest"] == before
    assert machine.names(address) == []
