"""Tiny images, made from bytes and pushed over HTTP: any layers, any configuration, any manifest format.

Nothing is pulled and no engine is involved, so a test can make exactly the image that its case needs, also one that no
builder would make. Formats: https://github.com/opencontainers/image-spec and Docker's "Image Manifest V2, Schema 2".

    image = busybox_image(node, marker)                       # a static busybox, its applets and the marker
    pushed = push("localhost:5000", "team/img", "1", image)   # Docker v2 schema 2, which every enroot reads
    pushed = push(address, "team/img", "2", image, form=Form.OCI, index=True, attestation=True)
    shell.srun("cat", IMAGE_MARKER, image=pushed.reference)   # HOST:PORT#team/img:1
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache, cached_property
import gzip
import io
import json
from pathlib import PurePosixPath
import secrets
import ssl
import tarfile
from typing import Any

import pytest
import zstandard

from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from tests.integration.container_support import IMAGE_MARKER, Node
from tests.integration.oci_remote import Remote, digest_of

_DOCKER = "application/vnd.docker"
_OCI = "application/vnd.oci.image"


class Compression(StrEnum):
    """How a layer is compressed."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"


class Form(StrEnum):
    """Which family of media types an image is stored under."""

    V2S2 = "docker"
    OCI = "oci"

    @property
    def manifest(self) -> str:
        """Media type of an image's manifest."""
        return f"{_DOCKER}.distribution.manifest.v2+json" if self is Form.V2S2 else f"{_OCI}.manifest.v1+json"

    @property
    def list_(self) -> str:
        """Media type of a list of manifests, one per platform."""
        return f"{_DOCKER}.distribution.manifest.list.v2+json" if self is Form.V2S2 else f"{_OCI}.index.v1+json"

    @property
    def config(self) -> str:
        """Media type of an image's configuration."""
        return f"{_DOCKER}.container.image.v1+json" if self is Form.V2S2 else f"{_OCI}.config.v1+json"

    def layer(self, compression: Compression) -> str:
        """Media type of a layer."""
        if self is Form.OCI:
            return f"{_OCI}.layer.v1.tar" + (f"+{compression}" if compression else "")
        return f"{_DOCKER}.image.rootfs.diff.tar" + (f".{compression}" if compression else "")


# -- what a layer holds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class File:
    """A file with a mode or an owner of its own; plain ``bytes`` or ``str`` make one of root's with mode 0644."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory; those above it come by themselves. ``opaque`` hides what lower layers have in it."""

    mode: int = 0o755
    opaque: bool = False


@dataclass(frozen=True)
class Symlink:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Whiteout:
    """Removes what lower layers have under this path."""


Entry = bytes | str | File | Directory | Symlink | Whiteout


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: an uncompressed tar archive, and how it is stored."""

    tar: bytes = field(repr=False)
    compression: Compression = Compression.GZIP

    @classmethod
    def of(cls, entries: Mapping[str, Entry], compression: Compression = Compression.GZIP) -> "Layer":
        """Make a layer of paths and what is there; the same entries always give the same bytes."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, entry in sorted(_with_parents(entries).items()):
                for member, content in _members(path, entry):
                    archive.addfile(member, io.BytesIO(content))
        return cls(tar=buffer.getvalue(), compression=compression)

    @cached_property
    def blob(self) -> bytes:
        """The bytes that the registry stores."""
        match self.compression:
            case Compression.GZIP:
                return gzip.compress(self.tar, mtime=0)
            case Compression.ZSTD:
                return zstandard.ZstdCompressor().compress(self.tar)
            case Compression.NONE:
                return self.tar


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in entries:
        for parent in list(PurePosixPath(path).parents)[:-1]:
            found[str(parent)] = Directory()
    return found | dict(entries)


def _members(path: str, entry: Entry) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the archive's members for one entry. No times and no names of users: equal entries, equal digests."""
    place = PurePosixPath(path.lstrip("/"))
    member = tarfile.TarInfo(str(place))
    content = b""
    match entry:
        case bytes() | str():
            content = entry.encode() if isinstance(entry, str) else entry
        case File():
            content = entry.content
            member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
        case Directory():
            member.type, member.mode = tarfile.DIRTYPE, entry.mode
        case Symlink():
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
        case Whiteout():
            member.name = str(place.parent / f".wh.{place.name}")
    member.size = len(content)
    yield member, content
    if isinstance(entry, Directory) and entry.opaque:
        yield tarfile.TarInfo(str(place / ".wh..wh..opq")), b""


# -- an image -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Image:
    """Layers, lowest first, and the configuration that goes with them."""

    layers: tuple[Layer, ...]
    arch: Arch
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()

    def plus(self, *layers: Layer) -> "Image":
        """Return the same image with more layers on top."""
        return replace(self, layers=(*self.layers, *layers))

    def stored_as(self, *compressions: Compression) -> "Image":
        """Return the same image with its layers, from the lowest on, compressed in these ways; the last one repeats."""
        ways = [*compressions, *[compressions[-1]] * len(self.layers)]
        chosen = zip(self.layers, ways, strict=False)
        return replace(self, layers=tuple(replace(layer, compression=way) for layer, way in chosen))

    def config(self) -> bytes:
        """Return the configuration as the registry stores it."""
        container: dict[str, object] = {
            "Env": [f"{name}={value}" for name, value in self.env.items()] or None,
            "Entrypoint": list(self.entrypoint) or None,
            "Cmd": list(self.cmd) or None,
            "WorkingDir": self.workdir or None,
            "User": self.user or None,
            "Labels": dict(self.labels) or None,
            "Volumes": {path: {} for path in self.volumes} or None,
        }
        return _json(
            {
                "created": "1970-01-01T00:00:00Z",
                "architecture": self.arch.value,
                "os": "linux",
                "config": {name: value for name, value in container.items() if value is not None},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer.tar) for layer in self.layers]},
                # enroot's first request accepts anything, and distribution 2 then rewrites a v2 schema 2 manifest in
                # schema 1 (for HEAD too), which it can't without a history: 400 "manifest invalid".
                "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "test"} for _ in self.layers],
            }
        )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# -- into a registry ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image in a registry, under the address by which it was pushed."""

    address: str
    repository: str
    tag: str
    digest: str
    """Of the manifest, or of the index, that the tag names."""
    media_type: str
    """As the registry itself states it."""

    @property
    def reference(self) -> str:
        """HOST:PORT#NAME:TAG, which every version of enroot takes."""
        return self.written("#", f":{self.tag}")

    def written(self, separator: str, version: str) -> str:
        """Return the reference in another form: ``written("/", "@" + digest)``."""
        return f"{self.address}{separator}{self.repository}{version}"

    def at(self, address: str) -> "Pushed":
        """Return the same image under the registry's other address (that for the nodes, for example)."""
        return replace(self, address=address)


def push(
    address: str,
    repository: str,
    tag: str,
    *images: Image,
    form: Form = Form.V2S2,
    index: bool = False,
    attestation: bool = False,
    authorization: str = "",
    tls: ssl.SSLContext | None = None,
) -> Pushed:
    """Push an image, or several as one index (one per architecture), and check what the registry made of it.

    ``index`` makes an index of a single image too; ``attestation`` adds the entry for an unknown platform that buildx
    puts beside an image by default. ``authorization`` is a header's value (see ``basic``), ``tls`` turns https on.
    """
    remote = Remote(address=address, repository=repository, authorization=authorization, tls=tls)
    manifests = [_put_image(remote, image, form) for image in images]
    content, media_type = manifests[0], form.manifest
    if index or attestation or len(images) > 1:
        listed = [
            _descriptor(manifest, form.manifest) | {"platform": {"architecture": image.arch.value, "os": "linux"}}
            for manifest, image in zip(manifests, images, strict=True)
        ]
        if attestation:
            listed.append(_put_attestation(remote, manifests[0]))
        media_type = form.list_
        content = _json({"schemaVersion": 2, "mediaType": media_type, "manifests": listed})
    remote.put_manifest(tag, content, media_type)
    stored_digest, stored_type = remote.stat(tag, media_type)
    assert (stored_digest, stored_type) == (digest_of(content), media_type), "the registry stored something else"
    return Pushed(address=address, repository=repository, tag=tag, digest=stored_digest, media_type=stored_type)


def basic(user: str, password: str) -> str:
    """Return the header of a login by password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def put_blob(address: str, repository: str, content: bytes) -> str:
    """Store bytes in a registry that asks for no login; return their path there."""
    remote = Remote(address=address, repository=repository)
    return f"/v2/{repository}/blobs/{remote.put_blob(content)}"


def _put_image(remote: Remote, image: Image, form: Form) -> bytes:
    """Push an image's blobs and its manifest, under its digest; return the manifest."""
    blobs = [(layer.blob, form.layer(layer.compression)) for layer in image.layers]
    manifest = _manifest(remote, (image.config(), form.config), blobs, form)
    remote.put_manifest(digest_of(manifest), manifest, form.manifest)
    return manifest


def _put_attestation(remote: Remote, about: bytes) -> dict[str, Any]:
    """Push what buildx calls an attestation manifest, and return its entry in the index."""
    statement = _json({"_type": "https://in-toto.io/Statement/v0.1", "predicate": {}})
    config = _json({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers"}})
    manifest = _manifest(remote, (config, Form.OCI.config), [(statement, "application/vnd.in-toto+json")], Form.OCI)
    remote.put_manifest(digest_of(manifest), manifest, Form.OCI.manifest)
    return _descriptor(manifest, Form.OCI.manifest) | {
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": digest_of(about),
        },
    }


def _manifest(remote: Remote, config: tuple[bytes, str], blobs: list[tuple[bytes, str]], form: Form) -> bytes:
    for content, _ in [config, *blobs]:
        remote.put_blob(content)
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": form.manifest,
            "config": _descriptor(*config),
            "layers": [_descriptor(*blob) for blob in blobs],
        }
    )


def _descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


# -- a ready-made one -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TinyImage:
    """A tiny image in the environment's registry."""

    reference: str
    """HOST:PORT#NAME:TAG."""
    marker: str
    """What ``/etc/pyxis-matrix-image`` holds in this image and nowhere else."""
    pushed: Pushed
    image: Image


def new_marker() -> str:
    """Return a text that no other image has."""
    return f"tiny-{secrets.token_hex(8)}"


@cache
def busybox_layer(node: Node) -> Layer:
    """Return a layer with a static busybox, taken from the node, and a link for each of its applets."""
    answer = node.run("base64 --wrap=0 /bin/busybox")
    assert answer.status == 0, str(answer)
    applets = node.run("/bin/busybox --list").stdout.split()
    assert "sh" in applets, "the node's busybox has no shell"
    links: dict[str, Entry] = {f"/bin/{applet}": Symlink("busybox") for applet in applets if applet != "busybox"}
    empty = ("/dev", "/home", "/mnt", "/opt", "/proc", "/run", "/srv", "/sys", "/var/tmp")
    return Layer.of(
        {
            **links,
            **{path: Directory() for path in empty},
            "/bin/busybox": File(content=base64.b64decode(answer.stdout), mode=0o755),
            "/usr/bin/env": Symlink("/bin/busybox"),
            "/root": Directory(mode=0o700),
            "/tmp": Directory(mode=0o1777),
            "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
            "/etc/os-release": 'ID=pyxis-matrix-tiny\nPRETTY_NAME="pyxis-matrix tiny image"\n',
        }
    )


def busybox_image(node: Node, marker: str, arch: Arch | None = None) -> Image:
    """Return an image of about 1 MB with a shell and the usual programs; ``marker`` is what only it has."""
    return Image(
        layers=(busybox_layer(node), Layer.of({IMAGE_MARKER: f"{marker}\n"})),
        arch=arch or Arch.host(),
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        cmd=("/bin/sh",),
    )


@pytest.fixture(scope="session")
def tiny_image(environment: EnvironmentFile, pyxis_container: Node) -> TinyImage:
    """Return a tiny image in the environment's registry, this test process' own."""
    assert environment.registry
    marker = new_marker()
    image = busybox_image(pyxis_container, marker, Arch(environment.arch))
    pushed = push(environment.registry, f"tiny/{marker}", "1", image)
    return TinyImage(reference=pushed.reference, marker=marker, pushed=pushed, image=image)
