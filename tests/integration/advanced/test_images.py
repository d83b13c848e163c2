"""What the SDK makes of images: digests, secrets of a build, tags that move."""

import gzip
import hashlib
import json
from pathlib import Path
import secrets
from typing import Any
import uuid

import pytest

from tests.integration.advanced import tasks
from tests.integration.advanced.fixtures import Packaging
from tests.integration.advanced.image import SdkImage
from tests.integration.advanced.jobs import SdkJobs, result_of
from tests.support.markers import IMAGE_MARKER, TEST_MARKER
from tests.support.oci.images import Form
from tests.support.oci.layers import Layer
from tests.support.registry_client import RegistryClient

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


MANIFESTS = ", ".join(form.manifest for form in Form)


def manifest_of(registry: RegistryClient, repository: str, tag: str) -> tuple[dict[str, Any], str]:
    """Return an image's manifest and its digest."""
    _, headers, body = registry.manifest(repository, tag, MANIFESTS)
    return json.loads(body), headers["Docker-Content-Digest"]


def content_of(registry: RegistryClient, repository: str, digest: str) -> bytes:
    """Return a layer or a configuration, unpacked where it is compressed."""
    blob = registry.blob(repository, digest)
    return gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob


def test_digest_is_recorded_with_the_job(
    *,
    sdk_jobs: SdkJobs,
    sdk_image: SdkImage,
    tmp_path: Path,
    built_from: Packaging,
    registry_client: RegistryClient,
) -> None:
    """`use_digest` writes down the digest that the registry has; the job itself goes by the unique tag.

    The SDK asks registries for digests over https only. Ours speaks plain http, so what it records comes from the
    engine that pushed the image, and has to be the same.
    """
    name = f"digest-{uuid.uuid4().hex[:8]}"
    context = sdk_image.context(tmp_path, f"RUN echo {name} > {TEST_MARKER}")
    job = sdk_jobs.submit(tasks.look, built_from(context, name, tag="pinned", use_digest=True))
    assert result_of(job)["marker"] == name
    _, digest = manifest_of(registry_client, f"sdk/{name}", "pinned")
    assert f"# Container digest: {registry_client.address}/sdk/{name}@{digest}" in job.get_script().splitlines()


def test_build_secrets_are_used_and_stay_out_of_the_image(
    *,
    sdk_jobs: SdkJobs,
    sdk_image: SdkImage,
    tmp_path: Path,
    built_from: Packaging,
    registry_client: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A secret from a variable and one from a file are there while the image is built, and in none of its parts."""
    values = {"by-file": secrets.token_hex(24), "by-variable": secrets.token_hex(24)}
    folder, file = tmp_path / "context", tmp_path / "secret"
    folder.mkdir()
    file.write_text(values["by-file"], encoding="utf-8")
    monkeypatch.setenv("PYXIS_MATRIX_TEST_SECRET", values["by-variable"])
    name = f"secrets-{uuid.uuid4().hex[:8]}"
    context = sdk_image.context(
        folder,
        # First: a secret is no part of the build cache's key, so steps that are alike would be an earlier build's.
        f"RUN echo {name} > {TEST_MARKER}",
        *(
            f"RUN --mount=type=secret,id={secret} sha256sum < /run/secrets/{secret} | cut -c1-64 > /etc/{secret}"
            for secret in values
        ),
    )
    given = [{"id": "by-file", "file": str(file)}, {"id": "by-variable", "env": "PYXIS_MATRIX_TEST_SECRET"}]
    packaging = built_from(context, name, tag="1", build_secrets=given)
    seen = sdk_jobs.run(tasks.look, packaging, *(f"/etc/{secret}" for secret in values), "/run/secrets/by-file")
    assert seen["marker"] == name
    proofs = {f"/etc/{secret}": hashlib.sha256(value.encode()).hexdigest() for secret, value in values.items()}
    assert seen["files"] == {**proofs, "/run/secrets/by-file": None}
    manifest, _ = manifest_of(registry_client, f"sdk/{name}", "1")
    base_name, _, base_tag = sdk_image.reference.partition("/")[2].rpartition(":")
    base, _ = manifest_of(registry_client, base_name, base_tag)
    # The layers below were there before the secrets were made.
    older = {layer["digest"] for layer in base["layers"]}
    parts = {part["digest"] for part in (manifest["config"], *manifest["layers"])} - older
    contents = [content_of(registry_client, f"sdk/{name}", digest) for digest in sorted(parts)]
    proof = proofs["/etc/by-file"].encode()
    assert any(proof in content for content in contents), "the layer with the proof is not among those looked through"
    for value in values.values():
        assert not any(value.encode() in content for content in contents)


def test_rebuilt_tag_is_imported_again(
    *, sdk_jobs: SdkJobs, sdk_image: SdkImage, tmp_path: Path, built_from: Packaging, registry_client: RegistryClient
) -> None:
    name = f"rebuilt-{uuid.uuid4().hex[:8]}"
    context = sdk_image.context(tmp_path, f"RUN echo {name}-first > {TEST_MARKER}")
    containerfile = context / "Containerfile"
    first = sdk_jobs.run(tasks.look, built_from(context, name, tag="same"))
    text = containerfile.read_text(encoding="utf-8")
    containerfile.write_text(text.replace(f"{name}-first", f"{name}-second"), encoding="utf-8")
    second = sdk_jobs.run(tasks.look, built_from(context, name, tag="same"))
    assert [first["marker"], second["marker"]] == [f"{name}-first", f"{name}-second"]
    assert registry_client.tags(f"sdk/{name}") == ["same"]


def _marked(marker: str) -> Layer:
    return Layer.of({IMAGE_MARKER: f"{marker}\n"})
