"""One repository of a registry, through its HTTP API: blobs and manifests, with neither an engine nor a tool."""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import http.client
import ssl
from urllib.parse import urlsplit

_HTTP_SECONDS = 60.0


def digest_of(content: bytes) -> str:
    """Return the name of a blob: ``sha256:`` and 64 digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository; ``authorization`` is a header's value, ``tls`` turns https on."""

    address: str
    repository: str
    authorization: str = ""
    tls: ssl.SSLContext | None = None

    def put_blob(self, content: bytes) -> str:
        """Store bytes unless they are there, and return their digest."""
        digest = digest_of(content)
        if self._ask("HEAD", f"/blobs/{digest}", expect={200, 404})[0] == http.HTTPStatus.NOT_FOUND:
            _, headers = self._ask("POST", "/blobs/uploads/", expect={202})
            upload = urlsplit(headers["location"])
            query = f"{upload.query}&digest={digest}" if upload.query else f"digest={digest}"
            self._ask("PUT", f"{upload.path}?{query}", content, {"Content-Type": "application/octet-stream"})
        return digest

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest or an index under a tag or under its digest."""
        self._ask("PUT", f"/manifests/{reference}", content, {"Content-Type": media_type})

    def stat(self, reference: str, media_type: str) -> tuple[str, str]:
        """Return digest and media type of what the registry has, as it states them itself."""
        _, headers = self._ask("HEAD", f"/manifests/{reference}", b"", {"Accept": media_type}, expect={200})
        return headers["docker-content-digest"], headers["content-type"]

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        expect: frozenset[int] | set[int] = frozenset({201}),
    ) -> tuple[int, dict[str, str]]:
        """Send one request; ``path`` is below the repository unless it is the registry's own answer (``/v2/…``)."""
        connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(self.address, timeout=_HTTP_SECONDS, context=self.tls)
            if self.tls
            else http.client.HTTPConnection(self.address, timeout=_HTTP_SECONDS)
        )
        wanted = path if path.startswith("/v2/") else f"/v2/{self.repository}{path}"
        login = {"Authorization": self.authorization} if self.authorization else {}
        try:
            connection.request(method, wanted, body=body, headers={**login, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status in expect, f"{method} {self.address}{wanted}: {answer.status} {text[:500]!r}"
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
