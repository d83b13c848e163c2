"""The HTTP API of a registry (OCI distribution specification): manifests and blobs, with neither an engine nor a tool.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
import hashlib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin

import requests

from ci.errors import LaunchError

V2S2 = "application/vnd.docker.distribution.manifest.v2+json"
"""Docker's manifest, version 2, schema 2: what enroot asks a registry for (NVIDIA/enroot PR 273)."""
MANIFESTS = (
    V2S2,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)

_SECONDS = 60.0


def digest_of(content: bytes) -> str:
    """Return the name of a blob: ``sha256:`` and 64 digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A manifest, or what the registry says about one."""

    content: bytes
    """Empty where only the headers were asked for."""
    digest: str
    media_type: str


@dataclass(frozen=True, kw_only=True)
class RegistryClient:
    """A registry as a client sees it."""

    address: str
    """HOST:PORT."""
    authorization: str = ""
    """Value of the header; empty: none is sent."""
    ca_bundle: Path | None = None
    """Certificates to trust; with them it is https, else plain http."""
    session: requests.Session = field(default_factory=requests.Session, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep the user's proxies and .netrc out: the registry is on this machine."""
        self.session.trust_env = False

    def status(self, seconds: float = 5.0) -> int:
        """Return the status of ``/v2/``: 200 where it is open to us, 401 where it wants a login.

        :raises requests.RequestException: where nothing answers.
        """
        return self._send("GET", "/v2/", seconds=seconds).status_code

    def manifest(self, repository: str, reference: str, accept: Collection[str] = MANIFESTS) -> Document:
        """Return a manifest or an index, by tag or digest."""
        return self._document("GET", repository, reference, accept)

    def stat(self, repository: str, reference: str, accept: Collection[str] = MANIFESTS) -> Document:
        """Return what the registry says about a manifest or an index, without its content."""
        return self._document("HEAD", repository, reference, accept)

    def blob(self, repository: str, digest: str) -> bytes:
        """Return a blob: a layer, or an image's configuration."""
        return self._expect({HTTPStatus.OK}, "GET", f"/v2/{repository}/blobs/{digest}").content

    def put_blob(self, repository: str, content: bytes) -> str:
        """Store a blob unless it is there, and return its digest."""
        digest = digest_of(content)
        there = self._expect({HTTPStatus.OK, HTTPStatus.NOT_FOUND}, "HEAD", f"/v2/{repository}/blobs/{digest}")
        if there.status_code == HTTPStatus.NOT_FOUND:
            begun = self._expect({HTTPStatus.ACCEPTED}, "POST", f"/v2/{repository}/blobs/uploads/")
            place = begun.headers["Location"]
            place += ("&" if "?" in place else "?") + f"digest={digest}"
            self._expect(
                {HTTPStatus.CREATED}, "PUT", place, content, headers={"Content-Type": "application/octet-stream"}
            )
        return digest

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest or an index under a tag or under its digest."""
        path = f"/v2/{repository}/manifests/{reference}"
        self._expect({HTTPStatus.CREATED}, "PUT", path, content, headers={"Content-Type": media_type})

    def _document(self, method: str, repository: str, reference: str, accept: Collection[str]) -> Document:
        path = f"/v2/{repository}/manifests/{reference}"
        answer = self._expect({HTTPStatus.OK}, method, path, headers={"Accept": ", ".join(accept)})
        return Document(
            content=answer.content,
            digest=answer.headers.get("Docker-Content-Digest", ""),
            media_type=answer.headers.get("Content-Type", ""),
        )

    def _expect(
        self,
        wanted: Collection[int],
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        answer = self._send(method, path, content, headers)
        if answer.status_code not in wanted:
            raise LaunchError(
                f"the registry answered {answer.status_code} {answer.reason}",
                where=f"{method} {self.address}{path}",
                why=answer.text[:500],
            )
        return answer

    def _send(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float = _SECONDS,
    ) -> requests.Response:
        login = {"Authorization": self.authorization} if self.authorization else {}
        return self.session.request(
            method,
            urljoin(f"http{'s' if self.ca_bundle else ''}://{self.address}", path),
            data=content,
            headers={**login, **(headers or {})},
            timeout=seconds,
            verify=str(self.ca_bundle) if self.ca_bundle else True,
            # A registry may send a blob's reader elsewhere; a login is not for there, and requests drops it.
            allow_redirects=True,
        )
