"""A client of a registry's HTTP API: check that it answers, and read manifests. It needs no engine.

https://distribution.github.io/distribution/spec/api/
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import hashlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from ci import web
from ci.engine.references import is_loopback
from ci.errors import LaunchError

Auth = tuple[str, str] | Callable[[web.Request], web.Request]
"""User name and password, or a function that adds another kind of login to a request."""

V2S2 = "application/vnd.docker.distribution.manifest.v2+json"
"""Docker's manifest, version 2, schema 2: the format that enroot asks a registry for (NVIDIA/enroot PR 273)."""
# All are named: for `*/*` a registry answers 404 where an image has OCI's format
# (https://github.com/distribution/distribution/issues/3938).
MANIFESTS = (
    V2S2,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)

LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"
_SECONDS = 60.0
_TRIES = 2  # a broken connection is opened once more, at once


class UnexpectedAnswerError(LaunchError):
    """The registry answered with an unexpected status, or not at all."""


class RegistryAnswer(NamedTuple):
    """A registry's answer."""

    status: int
    headers: Mapping[str, str]
    """Names are case-insensitive."""
    body: bytes


def digest_of(content: bytes) -> str:
    """Return the digest of a blob: ``sha256:`` and 64 digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class RegistryClient:
    """One registry.

    Methods raise ``UnexpectedAnswerError`` for an unexpected status, and if the registry does not answer.
    """

    address: str
    """HOST[:PORT]. For ``localhost`` the client connects to 127.0.0.1, because another process may listen on ::1."""
    auth: Auth | None = field(default=None, kw_only=True)
    ca_bundle: Path | str | bool | None = field(default=None, kw_only=True)
    """Certificates to trust (`ci.web.trusted`). With them the client uses https, without them plain http."""

    @property
    def root(self) -> str:
        """The address of its API."""
        scheme, (host, colon, port) = "https" if self.ca_bundle else "http", self.address.partition(":")
        return f"{scheme}://{LOOPBACK if host == 'localhost' else host}{colon}{port}/v2/"

    def ping(self) -> int:
        """Return the status of the API's root: 200, or 401 if it wants a login."""
        return self._ask("GET", "").status

    def manifest(self, repository: str, reference: str, accept: str) -> RegistryAnswer:
        """Return the manifest of a tag or a digest; ``accept`` has the media types that are wanted, with commas."""
        return self._expect({200}, "GET", f"{repository}/manifests/{reference}", headers={"Accept": accept})

    def _expect(self, statuses: set[int], method: str, path: str, **more: object) -> RegistryAnswer:
        answer = self._ask(method, path, **more)
        if answer.status not in statuses:
            raise UnexpectedAnswerError(
                f"the registry answered with status {answer.status}",
                where=f"{method} {path} at {self.address}",
                why=answer.body[:500].decode(errors="replace"),
            )
        return answer

    def _ask(self, method: str, path: str, **more: object) -> RegistryAnswer:
        """Send one request; ``path`` is relative to the API's root, or a full address."""
        url = urljoin(self.root, path)
        try:
            with web.translated(), web.Session(tries=_TRIES, https_only=False) as session:
                # A registry on loopback has nothing to do with the environment's proxies and REQUESTS_CA_BUNDLE.
                session.trust_env = not is_loopback(urlsplit(url).netloc)
                session.auth = self.auth or session.auth
                # Said of each request: requests takes REQUESTS_CA_BUNDLE in place of what its session says.
                verify = str(self.ca_bundle) if isinstance(self.ca_bundle, Path) else self.ca_bundle or True
                found = session.request(method, url, timeout=_SECONDS, verify=verify, **more)  # type: ignore[arg-type]
        except web.WebError as problem:
            raise UnexpectedAnswerError("the registry does not answer", where=url, why=str(problem)) from problem
        return RegistryAnswer(status=found.status_code, headers=found.headers, body=found.content)
