"""A client of a registry's HTTP API that does what suites do: list, read, upload and delete.

https://distribution.github.io/distribution/spec/api/
"""

from dataclasses import dataclass, field
from http import HTTPStatus
import json
from typing import Self

from ci import web
from ci.environment import registry_client
from ci.environment.registry_client import digest_of
from ci.site import registry as of_sites


@dataclass(frozen=True)
class Token:
    """Log in with a token (a Bearer header)."""

    text: str

    def __call__(self, request: web.Request) -> web.Request:
        """Add the token to a request."""
        request.headers["Authorization"] = f"Bearer {self.text}"
        return request


@dataclass(frozen=True)
class RegistryClient(registry_client.RegistryClient):
    """One registry; methods raise what those of its base class raise."""

    folder: str = field(default="", kw_only=True)
    """``FOLDER/`` of the registry, which the names of images begin with that are pushed there."""

    @classmethod
    def of_site(cls, registry: str) -> Self:
        """Return that of a site, with the login that is kept here."""
        found = of_sites.reached(registry)
        return cls(found.address, auth=found.auth, ca_bundle=found.ca_bundle, folder=of_sites.folder_of(registry))

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository; none if there is no such repository."""
        answer = self._expect({200, 404}, "GET", f"{repository}/tags/list")
        return sorted(json.loads(answer.body).get("tags") or [])

    def blob(self, repository: str, digest: str) -> bytes:
        """Return a layer or a configuration."""
        return self._expect({200}, "GET", f"{repository}/blobs/{digest}").body

    def upload_blob(self, repository: str, content: bytes) -> str:
        """Upload bytes unless they exist there, and return their digest."""
        digest = digest_of(content)
        if self._expect({200, 404}, "HEAD", f"{repository}/blobs/{digest}").status == HTTPStatus.NOT_FOUND:
            upload = self._expect({202}, "POST", f"{repository}/blobs/uploads/")
            kind = {"Content-Type": "application/octet-stream"}
            place = upload.headers["Location"]
            self._expect({201}, "PUT", place, params={"digest": digest}, data=content, headers=kind)
        return digest

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> None:
        """Upload a manifest or an index under a tag or under its digest."""
        kind = {"Content-Type": media_type}
        self._expect({201}, "PUT", f"{repository}/manifests/{reference}", data=content, headers=kind)

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest, and with it all tags that lead to it."""
        self._expect({202}, "DELETE", f"{repository}/manifests/{digest}")
