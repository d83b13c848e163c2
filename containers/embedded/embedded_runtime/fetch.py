"""Images from registries, through skopeo, into a cache of layers."""

import base64
from collections.abc import Mapping
import contextlib
from dataclasses import dataclass, replace
import json
import os
from pathlib import Path
import re
import subprocess
from typing import Any

from . import store
from .failure import Failure
from .reference import HUB, Reference
from .settings import Settings
from .system import die_with_parent

# enroot names architectures as uname does, images as Go does.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x"}
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
TURNED_AWAY = ("unauthorized", "authentication required", "access to the resource is denied")
MESSAGE = re.compile(r'level=(?:fatal|error) msg="(?P<text>(?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image on disk."""

    digest: str
    """Of the image's manifest as stored, for one platform."""
    layers: tuple[Path, ...]
    """Lowest first, compressed as the registry had them."""
    config: Mapping[str, Any]
    """The image's own `config` object: Env, Entrypoint, Cmd, WorkingDir, Labels, Volumes."""


def architecture(name: str | None) -> str:
    """Translate a uname architecture (default: this machine's) into an image's."""
    wanted = name or os.uname().machine
    if wanted not in ARCHITECTURES:
        raise Failure(f"Unsupported architecture: {wanted} (expected one of {', '.join(ARCHITECTURES)})")
    return ARCHITECTURES[wanted]


def find_credentials(settings: Settings, reference: Reference) -> tuple[str, str] | None:
    """Look up user and password in `.credentials`; as in enroot, a host stands there without its port."""
    path = settings.configuration / ".credentials"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    written = " ".join(line for line in lines if not line.lstrip().startswith("#")).split()
    # A word may name variables of the environment, so that no password has to stand in the file.
    known = settings.environment
    words = [re.sub(r"\$\{?(\w+)\}?", lambda match: known.get(match[1], match[0]), word) for word in written]
    host = (
        "auth.docker.io" if reference.registry == HUB else reference.registry.rpartition(":")[0] or reference.registry
    )
    entries: list[dict[str, str]] = []
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key == "machine":
            entries.append({})
        if entries:
            entries[-1][key] = value
    for entry in entries:
        if entry.get("machine") == host and reference.user in ("", entry.get("login")):
            return entry.get("login", ""), entry.get("password", "")
    return None


def _authentication_file(settings: Settings, reference: Reference, work: Path) -> Path:
    """Write the credentials for skopeo, or an empty file so that it looks nowhere else."""
    found = find_credentials(settings, reference)
    content: dict[str, Any] = {"auths": {}}
    if found is not None:
        token = base64.b64encode(":".join(found).encode()).decode()
        registry = "docker.io" if reference.registry == HUB else reference.registry
        content["auths"][registry] = {"auth": token}
    path = work / "auth.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def fetch(settings: Settings, reference: Reference, wanted: str, work: Path) -> Image:
    """Bring an image's layers into the cache; `wanted` is an image architecture, `work` an empty folder of ours.

    Raises Failure with the registry's or skopeo's own words.

    Imports share layers and nothing else. skopeo writes a manifest in its place, where another import could read half
    of it, so each writes to a layout of its own, in which the cached layers are there as links; what it brought
    appears in the cache whole.
    """
    cached = settings.cache / "layers"
    cached.mkdir(mode=0o700, exist_ok=True)
    with store.scratch(settings.cache) as layout:
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for layer in os.scandir(cached):
            os.link(layer.path, blobs / layer.name)
        words = ["copy", "--quiet", "--src-authfile", str(_authentication_file(settings, reference, work))]
        words += [f"--src-tls-verify={_verify(settings)}", reference.docker, f"oci:{layout}:image"]
        _skopeo(settings, reference, wanted, work, words)
        found = _read(layout, wanted, reference)
        for layer_path in found.layers:
            with contextlib.suppress(FileExistsError):
                os.link(layer_path, cached / layer_path.name)
    return replace(found, layers=tuple(cached / path.name for path in found.layers))


def digest(settings: Settings, reference: Reference, wanted: str, work: Path) -> str:
    """Return the digest of what a reference stands for at the moment."""
    words = ["inspect", "--format", "{{.Digest}}", "--no-tags"]
    words += ["--authfile", str(_authentication_file(settings, reference, work))]
    words += [f"--tls-verify={_verify(settings)}", reference.docker]
    return _skopeo(settings, reference, wanted, work, words).strip()


def _verify(settings: Settings) -> str:
    return "false" if settings.allow_http else "true"


def _skopeo(settings: Settings, reference: Reference, wanted: str, work: Path, words: list[str]) -> str:
    command = ["skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", wanted]
    if settings.timeout:
        command += ["--command-timeout", f"{settings.timeout}s"]
    command += [words[0], "--retry-times", str(settings.retries), *words[1:]]
    done = subprocess.run(
        command,
        env={**settings.environment, "TMPDIR": str(work)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=die_with_parent,
    )
    if done.returncode != 0:
        raise Failure(f"could not fetch {reference.docker}", _reasons(done.stderr, wanted))
    return done.stdout


def _reasons(output: str, wanted: str) -> tuple[str, ...]:
    found = [match["text"].replace('\\"', '"').replace("\\n", " ") for match in MESSAGE.finditer(output)]
    reasons = tuple(found) or tuple(output.strip().splitlines()[-5:])
    if any("no image found in" in reason for reason in reasons):
        reasons += (f"the image has no variant for the architecture {wanted}",)
    # skopeo's own words for it change from release to release.
    if any(words in reason.lower() for reason in reasons for words in TURNED_AWAY):
        reasons += ("the registry turned the account away",)
    return reasons


def _read(layout: Path, wanted: str, reference: Reference) -> Image:
    def blob(descriptor: Mapping[str, Any]) -> Path:
        digest = DIGEST.fullmatch(str(descriptor["digest"]))
        if digest is None:
            raise Failure(f"{reference.docker}: invalid digest: {descriptor['digest']}")
        return layout / "blobs" / "sha256" / digest[1]

    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    descriptor = index["manifests"][0]
    manifest = json.loads(blob(descriptor).read_text(encoding="utf-8"))
    config = json.loads(blob(manifest["config"]).read_text(encoding="utf-8"))
    found = config.get("architecture") or wanted
    if found != wanted:
        raise Failure(f"{reference.docker} is for the architecture {found}, not for {wanted}")
    return Image(
        digest=descriptor["digest"],
        layers=tuple(blob(layer) for layer in manifest["layers"]),
        config=config.get("config") or {},
    )
