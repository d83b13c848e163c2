"""Images made from layers and pushed over HTTP: any configuration, any manifest format.

Nothing is pulled and no engine is involved, so a test can make exactly the image that its case needs, also one that no
builder would make. Formats: https://github.com/opencontainers/image-spec and Docker's "Image Manifest V2, Schema 2".

    registry = RegistryClient("localhost:5000")
    image = busybox_image(node, marker)                      # a static busybox, its applets and the marker
    pushed = push(registry, "team/img", "1", image)          # Docker v2 schema 2, which every enroot reads
    pushed = push(registry, "team/img", "2", image, form=Form.OCI, index=True, attestation=True)
    shell.srun("cat", IMAGE_MARKER, image=pushed.reference)  # HOST:PORT#team/img:1
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
import json
from typing import Any

from ci.environment.registry_client import digest_of
from ci.matrix.arch import Arch
from tests.support.oci.layers import Compression, Layer
from tests.support.registry_client import RegistryClient

_DOCKER = "application/vnd.docker"
_OCI = "application/vnd.oci.image"


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
    registry: RegistryClient,
    repository: str,
    tag: str,
    *images: Image,
    form: Form = Form.V2S2,
    index: bool = False,
    attestation: bool = False,
) -> Pushed:
    """Push an image, or several as one index (one per architecture), and check what the registry made of it.

    Its repository is in the registry's folder for images, if it has one.

    ``index`` makes an index of a single image too; ``attestation`` adds the entry for an unknown platform that buildx
    puts beside an image by default.
    """
    repository = f"{registry.folder}{repository.removeprefix(registry.folder)}"  # it may be that of a `Pushed`
    manifests = [_put_image(registry, repository, image, form) for image in images]
    content, media_type = manifests[0], form.manifest
    if index or attestation or len(images) > 1:
        listed = [
            _descriptor(manifest, form.manifest) | {"platform": {"architecture": image.arch.value, "os": "linux"}}
            for manifest, image in zip(manifests, images, strict=True)
        ]
        if attestation:
            listed.append(_put_attestation(registry, repository, manifests[0]))
        media_type = form.list_
        content = _json({"schemaVersion": 2, "mediaType": media_type, "manifests": listed})
    registry.put_manifest(repository, tag, content, media_type)
    _, stored, body = registry.manifest(repository, tag, media_type)
    assert (body, stored["Content-Type"]) == (content, media_type), "the registry stored something else"
    assert stored["Docker-Content-Digest"] == digest_of(content), "the registry has another name for it"
    return Pushed(
        address=registry.address, repository=repository, tag=tag, digest=digest_of(content), media_type=media_type
    )


def _put_image(registry: RegistryClient, repository: str, image: Image, form: Form) -> bytes:
    """Push an image's blobs and its manifest, under its digest; return the manifest."""
    parts = [(image.config(), form.config), *((layer.blob, form.layer(layer.compression)) for layer in image.layers)]
    return _put_manifest(registry, repository, parts, form)


def _put_attestation(registry: RegistryClient, repository: str, about: bytes) -> dict[str, Any]:
    """Push what buildx calls an attestation manifest, and return its entry in the index."""
    statement = _json({"_type": "https://in-toto.io/Statement/v0.1", "predicate": {}})
    config = _json({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers"}})
    parts = [(config, Form.OCI.config), (statement, "application/vnd.in-toto+json")]
    manifest = _put_manifest(registry, repository, parts, Form.OCI)
    return _descriptor(manifest, Form.OCI.manifest) | {
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": digest_of(about),
        },
    }


def _put_manifest(registry: RegistryClient, repository: str, parts: list[tuple[bytes, str]], form: Form) -> bytes:
    """Push blobs with their media types, the configuration first, and the manifest that names them; return it."""
    for content, _ in parts:
        registry.upload_blob(repository, content)
    config, *layers = (_descriptor(*part) for part in parts)
    manifest = _json({"schemaVersion": 2, "mediaType": form.manifest, "config": config, "layers": layers})
    registry.put_manifest(repository, digest_of(manifest), manifest, form.manifest)
    return manifest


def _descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}
