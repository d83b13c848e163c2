"""Building: the command for each kind of client and network, what is not built again, and what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
import io
from itertools import pairwise
from pathlib import Path
import re
import shutil
import tarfile
from types import SimpleNamespace
from typing import Any, cast

from docker.errors import APIError, ImageNotFound
import pytest

from ci import paths, web
from ci.artefacts.pins import ImagePin
from ci.artefacts.sources import Sources
from ci.engine.build_client import BuildClient
from ci.engine.connection import Engine
from ci.engine.finding import EngineKind
from ci.engine.refusals import explain
from ci.errors import ArtefactError, BuildError, DiskFullError, LaunchError
from ci.images import building
from ci.images.base import origin, packages
from ci.images.building import Builder, ImageOrigin
from ci.images.content import Content
from ci.images.observing import Observed, check_slurm
from ci.images.plan import (
    ImagePlan,
    accounting_daemon,
    base,
    mirror,
    registry,
    slurm,
)
from ci.matrix.arch import Arch
from ci.matrix.cells import SlurmVersion
from ci.terminal import console
from ci.terminal.processes import Completed
from tests.support.cells import ARCHIVE, DEBIAN12, DEBIAN13, PACKAGES

MIRROR = "PYXIS_MATRIX_DEBIAN_MIRROR"
WHERE = Sources(cache=Path("/cache"))
PARENT = ImagePlan(folder="registry", variant="parent", arch=Arch.AMD64)
CHILD = ImagePlan(
    folder="registry", variant="child", arch=Arch.ARM64, build_args={"VERSION": "1"}, parents={"BASE_IMAGE": PARENT}
)


def content(wanted: ImagePlan) -> Content:
    """Return an image as building sees it."""
    return Content(plan=wanted, parents={name: content(parent).tag for name, parent in wanted.parents.items()})


DIGEST = f"sha256:{'d' * 64}"


class Store:
    """An engine's images."""

    def __init__(self) -> None:
        """Start with none."""
        self.tags: dict[str, str] = {}
        self.digests: dict[str, list[str]] = {}
        self.pulled: list[str] = []
        self.reachable = False

    def get(self, tag: str) -> Any:  # noqa: ANN401 - docker-py's own models are untyped
        """Return an image as docker-py has it."""
        if tag not in self.tags:
            raise ImageNotFound(tag)

        def name(repository: str, version: str) -> None:
            self.tags[f"{repository}:{version}"] = self.tags[tag]
            self.digests[f"{repository}:{version}"] = self.digests.get(tag, [])

        attrs = {"Architecture": self.tags[tag], "Size": 7, "RepoDigests": self.digests.get(tag, [])}
        return SimpleNamespace(id="sha256:1", attrs=attrs, tag=name)

    def pull(self, reference: str, platform: str) -> None:
        """Pull from a registry that may not be there."""
        self.pulled.append(reference)
        if not self.reachable:
            raise APIError("no registry answers")
        self.tags[reference] = Arch.parse(platform).value
        self.digests[reference] = [f"{reference.partition(':')[0].partition('@')[0]}@{DIGEST}"]


@pytest.fixture
def store() -> Store:
    return Store()


def engine_with(store: Store, kind: EngineKind = "docker") -> Engine:
    client = BuildClient(path=Path("/usr/bin") / kind, kind=kind, version="1", environment={"X": "1"})
    found = SimpleNamespace(environment={"DOCKER_HOST": "unix:///e.sock"}, kind=kind)
    api = SimpleNamespace(images=store, version=lambda: {"Arch": "amd64"})
    return Engine(api=cast("Any", api), found=cast("Any", found), build_client=client)


def command(environ: Mapping[str, str], kind: EngineKind = "docker") -> list[str]:
    """Return with which arguments of the client ``CHILD`` would be built."""
    builder = Builder(engine_with(Store(), kind), WHERE, logs=Path("/logs"))
    with pytest.MonkeyPatch.context() as patch:
        for name in (*building._PROXIES, *web._CA_BUNDLES):  # noqa: SLF001 - this machine's own are not meant
            patch.delenv(name, raising=False)
        for name, value in environ.items():
            patch.setenv(name, value)
        return builder._build_command(content(CHILD), Path("/context"))  # noqa: SLF001 - the one pure part


def pairs(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine without a CA bundle; tests that want one name it."""
    monkeypatch.setattr(web, "_SYSTEM_CA_BUNDLE", Path("/nonexistent"))


def test_the_build_command() -> None:
    words = command({})
    assert words[0] == "build"
    assert words[-1] == "/context"
    assert pairs(words, "--tag") == [content(CHILD).tag]
    assert pairs(words, "--label") == ["pyxis-matrix=1", f"pyxis-matrix.content={content(CHILD).digest}"]
    assert pairs(words, "--file") == ["/context/Containerfile"]
    assert pairs(words, "--platform") == ["linux/arm64"]
    assert pairs(words, "--progress") == ["plain"]
    assert pairs(words, "--build-arg") == ["VERSION=1", f"BASE_IMAGE={content(PARENT).tag}"]
    assert not {"--network", "--secret"} & set(words)


def test_podman_knows_no_progress_option() -> None:
    words = command({}, kind="podman")
    assert "--progress" not in words


def test_proxies_are_handed_on_and_a_distant_one_needs_nothing_more() -> None:
    environ = {"http_proxy": "http://user:secret@proxy.example:3128", "NO_PROXY": "localhost", "https_proxy": ""}
    words = command(environ)
    # By name alone: the command line is logged.
    assert pairs(words, "--build-arg")[2:] == ["http_proxy", "NO_PROXY"]
    assert not any("secret" in word for word in words)
    assert "--network" not in words


def test_a_password_in_the_address_of_debians_mirror_is_refused_as_images_would_keep_it() -> None:
    with pytest.raises(ArtefactError, match="password"):
        mirror(DEBIAN12.family, {MIRROR: "https://user:secret@mirror.example/debian"})
    assert mirror(DEBIAN12.family, {MIRROR: "https://mirror.example/debian"}) == "https://mirror.example/debian"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_proxy_on_loopback_is_reached_through_the_hosts_network(host: str) -> None:
    assert pairs(command({"HTTPS_PROXY": f"http://{host}:3128"}), "--network") == ["host"]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_that_is_named_is_handed_on_as_a_secret(tmp_path: Path, variable: str) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates", encoding="utf-8")
    assert pairs(command({variable: str(bundle)}), "--secret") == [f"id=ca-bundle,src={bundle}"]


def test_debians_mirror() -> None:
    assert mirror(DEBIAN12.family, {}) == mirror(DEBIAN12.family, {MIRROR: ""}) == DEBIAN12.family.archive
    assert mirror(DEBIAN12.family, {MIRROR: "http://mirror/debian"}) == "http://mirror/debian"


# -- what is made, and what is not ----------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[list[str]]:
    """Record the commands that are run; a build puts its tag into the store."""
    commands: list[list[str]] = []

    def call(words: list[str], **_more: object) -> Completed:
        commands.append([str(word) for word in words])
        if tags := pairs(commands[-1], "--tag"):
            store.tags[tags[0]] = Arch.parse(pairs(commands[-1], "--platform")[0]).value
        return Completed(command=tuple(commands[-1]), exit_code=0, output="")

    monkeypatch.setattr(console, "call", call)
    return commands


@pytest.fixture
def builder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    return Builder(engine_with(store), WHERE, logs=tmp_path)


def test_what_the_engine_holds_is_not_built_again(builder: Builder, store: Store, called: list[list[str]]) -> None:
    wanted = slurm(PACKAGES, base(DEBIAN12, Arch.AMD64, {}))
    for member in wanted.family():
        store.tags[content(member).tag] = "amd64"
    assert builder.ensure(wanted).how is ImageOrigin.REUSED
    assert called == []
    assert [built.plan.folder for built in builder.done] == ["base", "slurm-integration"]


def test_only_what_is_missing_is_built(builder: Builder, store: Store, called: list[list[str]]) -> None:
    wanted = slurm(PACKAGES, base(DEBIAN12, Arch.AMD64, {}))
    store.tags[content(wanted.parents["BASE_IMAGE"]).tag] = "amd64"
    assert builder.ensure(wanted).how is ImageOrigin.BUILT
    assert builder.ensure(wanted).how is ImageOrigin.BUILT  # still said of this run, though it was built once
    assert len(called) == 1
    assert pairs(called[0], "--tag") == [content(wanted).tag]


def test_an_image_that_failed_is_not_tried_again_for_the_next_cell(
    builder: Builder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = base(DEBIAN12, Arch.AMD64, {})
    store.tags[content(bare).tag] = "amd64"
    calls: list[list[str]] = []

    def call(words: list[str], **_more: object) -> Completed:
        calls.append(words)
        return Completed(command=(), exit_code=1, output="no room in the compiler")

    monkeypatch.setattr(console, "call", call)
    wanted = slurm(PACKAGES, bare)
    for image in (wanted, accounting_daemon(wanted), wanted):
        with pytest.raises(BuildError, match=f"building the image {wanted.name} failed"):
            builder.ensure(image)
    assert len(calls) == 1


def test_an_image_is_there_if_all_that_it_is_built_upon_is(
    builder: Builder, store: Store, called: list[list[str]]
) -> None:
    wanted = slurm(PACKAGES, base(DEBIAN12, Arch.AMD64, {}))
    assert not builder.has(wanted)
    store.tags[content(wanted.parents["BASE_IMAGE"]).tag] = "amd64"
    assert not builder.has(wanted)
    store.tags[content(wanted).tag] = "amd64"
    assert builder.has(wanted)
    assert called == []


def test_a_cached_image_of_another_architecture_is_refused(
    builder: Builder, store: Store, called: list[list[str]]
) -> None:
    wanted = base(DEBIAN12, Arch.AMD64, {})
    store.tags[content(wanted).tag] = "arm64"
    with pytest.raises(BuildError) as caught:
        builder.ensure(wanted)
    assert "wanted amd64, found arm64" in caught.value.why
    assert f"docker image rm {content(wanted).tag}" in caught.value.next_step
    assert called == []


def test_tags_carry_the_architecture() -> None:
    assert content(base(DEBIAN12, Arch.AMD64, {})).tag != content(base(DEBIAN12, Arch.ARM64, {})).tag


def test_the_base_is_pulled_where_a_registry_answers(builder: Builder, store: Store, called: list[list[str]]) -> None:
    store.reachable = True
    pulled = builder.ensure(base(DEBIAN13, Arch.AMD64, {}))
    assert pulled.how is ImageOrigin.PULLED
    assert pulled.origin == f"pulled debian@{DIGEST}"
    assert store.pulled == ["debian:trixie-slim"]
    assert called == []


def test_a_pinned_base_is_pulled_by_its_digest(store: Store, tmp_path: Path) -> None:
    store.reachable = True
    pin = ImagePin(reference="debian:trixie-slim", digest=DIGEST, date=date(2026, 11, 25))
    where = replace(WHERE, image_pins={pin.reference: pin})
    Builder(engine_with(store), where, logs=tmp_path).ensure(base(DEBIAN13, Arch.AMD64, {}))
    assert store.pulled == [f"debian@{DIGEST}"]


def test_a_pulled_image_and_a_made_one_have_different_names(store: Store) -> None:
    wanted = base(DEBIAN13, Arch.AMD64, {})
    pulled = Content(plan=wanted, parents={}, pulled="debian:trixie-slim")
    by_digest = Content(plan=wanted, parents={}, pulled=f"debian@{DIGEST}")
    assert len({pulled.tag, by_digest.tag, content(wanted).tag}) == 3
    assert store.pulled == []


def test_a_made_base_that_is_there_is_used_also_where_a_registry_answers_by_now(
    builder: Builder, store: Store, called: list[list[str]]
) -> None:
    store.reachable = True
    wanted = base(DEBIAN13, Arch.AMD64, {})
    store.tags[content(wanted).tag] = "amd64"
    assert builder.ensure(wanted).how is ImageOrigin.REUSED
    assert (store.pulled, called) == ([], [])


def test_the_origin_of_a_made_base_stands_in_its_label() -> None:
    made = "made 2026-11-25 from http://deb.debian.org/debian trixie, 80 packages, sha256 ab"
    assert origin({"Config": {"Labels": {"pyxis-matrix.origin": made}}, "RepoDigests": []}) == made
    assert origin({"Config": {"Labels": None}, "RepoDigests": []}) == ""


def test_the_origin_of_a_pulled_base_is_where_it_was_pulled_from_and_not_its_local_name() -> None:
    digests = [f"localhost/pyxis-matrix/base@{DIGEST}", f"docker.io/library/debian@{DIGEST}"]
    assert origin({"RepoDigests": digests}) == f"pulled docker.io/library/debian@{DIGEST}"


def test_the_packages_of_a_root_are_read_from_its_archive(tmp_path: Path) -> None:
    zlib, apt = "Package: zlib1g\nStatus: ok\nVersion: 1:1.3\n", "Package: apt\nVersion: 3.0\nConffiles:\n /x 1\n"
    status = f"{zlib}\n{apt}"
    archive = tmp_path / "base.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("./var/lib/dpkg/status")
        entry.size = len(status)
        tar.addfile(entry, io.BytesIO(status.encode()))
    assert packages(archive) == ["apt 3.0", "zlib1g 1:1.3"]


def test_whoever_names_a_mirror_of_debian_gets_a_base_from_there(
    builder: Builder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.reachable = True
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ArtefactError) as caught:
        builder.ensure(base(DEBIAN13, Arch.AMD64, {MIRROR: "http://mirror/debian"}))
    assert store.pulled == []
    assert "apt-get install mmdebstrap" in caught.value.next_step


def test_the_registry_is_pulled_or_built(builder: Builder, store: Store, called: list[list[str]]) -> None:
    wanted = registry(Arch.AMD64, {})
    store.tags[content(wanted.parents["BASE_IMAGE"]).tag] = "amd64"
    builder.ensure(wanted)
    assert store.pulled == ["registry:2"]
    assert pairs(called[0], "--tag") == [content(wanted).tag]


# -- Slurm's version ------------------------------------------------------------------------------------------------


def test_a_suite_that_has_moved_on_is_refused_with_the_row_to_change() -> None:
    with pytest.raises(BuildError) as caught:
        check_slurm(
            Observed(slurm="26.11.1", python="3.13"), "slurm-integration sid-amd64", SlurmVersion(version="26.05")
        )
    assert "Slurm 26.11.1, not 26.05" in caught.value.what
    assert caught.value.next_step.endswith("26.11")


def test_an_archive_of_another_release_is_refused_with_the_file() -> None:
    with pytest.raises(BuildError) as caught:
        check_slurm(Observed(slurm="25.11.6", python="3.11"), "slurm-archive 25.11.7-debian12-amd64", ARCHIVE)
    assert caught.value.where == "SchedMD/slurm/archive/refs/tags/slurm-25-11-7-1.tar.gz"


# -- what the engine says -------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_apart_from_other_refusals() -> None:
    full = APIError("500", explanation="mkdir /var/lib/docker/x: no space left on device")
    other = APIError("500", explanation="something else")
    assert isinstance(explain(full, "starting"), DiskFullError)
    assert isinstance(explain(other, "starting"), LaunchError)
    assert "something else" in str(explain(other, "starting"))


@pytest.mark.parametrize("file", sorted(paths.CONTAINERS.glob("*/Containerfile")), ids=lambda file: file.parent.name)
def test_no_build_step_leaves_a_mount_point_in_an_image(file: Path) -> None:
    """What a step mounts is gone after it, but a folder that the engine has made for it stays, empty, in every node."""
    targets = re.findall(r"--mount=type=bind\S*?,target=([^\s,]+)", file.read_text(encoding="utf-8"))
    assert [target for target in targets if target not in {"/mnt", "/srv"}] == [], "every Debian has /mnt and /srv"
