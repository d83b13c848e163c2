"""HTTP: how servers are asked, so that downloads, GitHub and registries have the same limits, tries and errors.

Proxies come from the environment, and so does whom to trust (`trusted`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
import os
from pathlib import Path
import socket
import ssl
import time
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
import urllib3
from urllib3.exceptions import InvalidHeader, MaxRetryError, ResponseError

TRIES = 3
LONGEST_WAIT = 120.0
"""Seconds that are waited at most, all in all, for a server that asks to be asked later."""
_UNSAID_WAIT = 5.0
"""Seconds to wait for a busy server that does not say how long."""
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_CHUNK = 1 << 20
_CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

Request = requests.PreparedRequest
Tell = Callable[[str], None]
"""Is told of every wait."""


class WebError(Exception):
    """A server did not give what it was asked for; the text is the cause in a few words."""


class BrokenOffError(WebError):
    """The connection ended before the answer did."""


class StatusError(WebError):
    """A server answered with an error."""

    def __init__(self, answer: requests.Response) -> None:
        """Say the status, and why it was not asked again."""
        self.status, self.headers = answer.status_code, answer.headers
        text, patience = f"HTTP {answer.status_code} {answer.reason}", answer.raw.retries
        if self.status in BUSY and isinstance(patience, Patience):
            wait = patience.get_retry_after(answer.raw) or 0.0
            if wait > patience.left:
                text += f"; it asks for a wait of {wait:.0f} s, and {LONGEST_WAIT:.0f} s is the longest here"
            elif patience.history:
                text += f" ({len(patience.history) + 1} tries)"
        super().__init__(text)


class Patience(urllib3.Retry):
    """Asks again after a lost connection, and a busy server when it says, within `LONGEST_WAIT`; tells each wait."""

    tell: Tell = staticmethod(lambda _text: None)
    left = LONGEST_WAIT

    def new(self, **changes: Any) -> Self:  # noqa: ANN401 - as the base class has it
        """Return the policy for the next try."""
        later = super().new(**changes)
        later.tell, later.left = self.tell, self.left
        return later

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return the seconds that a server asks to be left alone for; ``None`` if asking again is of no use."""
        try:
            seconds = super().get_retry_after(response)
        except InvalidHeader:
            seconds = None
        reset = response.headers.get("X-RateLimit-Reset", "")
        if seconds is None and response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdigit():
            return max(0.0, int(reset) - time.time())  # GitHub, of an hour's requests
        return _UNSAID_WAIT if seconds is None and response.status in BUSY else seconds

    def increment(self, *asked: Any, **more: Any) -> Self:  # noqa: ANN401 - as above
        """Return the policy for the next try; ``MaxRetryError`` if there is to be none."""
        later = super().increment(*asked, **more)
        response: urllib3.BaseHTTPResponse | None = more.get("response")
        if response is not None:
            wait = self.get_retry_after(response)
            if wait is None or wait > self.left:
                raise MaxRetryError(more["_pool"], response.url or "", ResponseError("too long to wait"))
            later.left = self.left - wait
            self.tell(f"HTTP {response.status} {response.reason}; waiting {wait:.0f} s")
        return later


class Session(requests.Session):
    """A session of requests with our patience; it sends no password of a netrc that somebody keeps for others."""

    def __init__(self, *, tries: int = TRIES, tell: Tell = lambda _text: None, https_only: bool = True) -> None:
        """Ask ``tries`` times at most."""
        super().__init__()
        self._https_only = https_only
        self.auth = lambda request: request
        patience = Patience(
            tries - 1, status_forcelist={*BUSY, HTTPStatus.FORBIDDEN}, backoff_factor=0.5, raise_on_status=False
        )
        patience.tell = tell
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(max_retries=patience))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer leads, also to another host, as long as nobody on the way can change what is sent."""
        target = super().get_redirect_target(resp)
        there = urlsplit(urljoin(resp.url, target or ""))
        if target and self._https_only and there.scheme != "https":
            # Without the query, which may hold a signature.
            raise WebError(f"redirects to {there.scheme}://{there.netloc}{there.path}, and only https is taken")
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:  # noqa: ARG002
        """Send no token to where a server leads."""
        prepared_request.headers.pop("Authorization", None)


@contextmanager
def translated() -> Iterator[None]:
    """Raise what goes wrong in the network as ``WebError``."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
        raise WebError(cause(problem)) from problem


@contextmanager
def opened(
    url: str,
    method: str = "GET",
    *,
    timeout: float,
    tries: int = TRIES,
    tell: Tell = lambda _text: None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[requests.Response]:
    """Ask a server over https and give its answer, whose body has not been read yet.

    :param timeout: seconds in which something has to come.
    :raises StatusError: if it answers with an error; ``WebError`` for all else that goes wrong, in the block, too.
    """
    if not url.startswith("https://"):
        raise WebError("only https is taken")
    sent = {"User-Agent": "pyxis-matrix", "Accept-Encoding": "identity", **(headers or {})}
    with translated(), Session(tries=tries, tell=lambda text: tell(f"{url}: {text}")) as session:
        response = session.request(
            method, url, headers=sent, timeout=timeout, stream=True, allow_redirects=True, verify=trusted()
        )
        with response as answer:
            if not answer.ok:
                raise StatusError(answer)
            yield answer


def body(answer: requests.Response) -> Iterator[bytes]:
    """Yield what a server sends, as it is.

    :raises BrokenOffError: if not all of it comes; ``WebError`` if nobody could tell.
    """
    announced = answer.headers.get("Content-Length", "")
    if not announced.isdigit() and not answer.raw.chunked:
        raise WebError("the server does not say how long the file is, so a part could be taken for all of it")
    arrived = 0
    try:
        for chunk in answer.raw.stream(_CHUNK, decode_content=False):
            arrived += len(chunk)
            yield chunk
    except urllib3.exceptions.HTTPError as problem:
        where = f" after {arrived} of {announced} bytes" if announced else f": {cause(problem)}"
        raise BrokenOffError(f"broken off{where}") from problem


def trusted() -> str | bool:
    """Return the file or folder of certificates that servers are trusted by; True for those that requests brings.

    What the environment names comes first, then the system's: a proxy that re-signs TLS is trusted there.
    """
    usual = ssl.get_default_verify_paths()  # OpenSSL's
    found = ca_bundle() or usual.cafile or usual.capath
    return str(found) if found else True


def ca_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the host's CA bundle, or None: one file, as builds take it."""
    named = (Path(environ[name]) for name in _CA_BUNDLES if environ.get(name))
    return next((path for path in (*named, _SYSTEM_CA_BUNDLE) if path.is_file()), None)


def cause(problem: BaseException) -> str:
    """Return in a few words what failed in the network: the libraries wrap it several times."""
    chain = list(_chain(problem, []))
    for error in chain:
        if isinstance(error, socket.gaierror):
            return f"the name does not resolve ({error.strerror})"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE can name a CA bundle"
        if isinstance(error, TimeoutError):
            return "no answer in time"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
    if any(isinstance(error, urllib3.exceptions.TimeoutError) for error in chain):
        return "no answer in time"
    return str(chain[-1]) or type(chain[-1]).__name__


def _chain(problem: BaseException, seen: list[BaseException]) -> Iterator[BaseException]:
    """Yield an exception and what it wraps, the outermost first."""
    seen.append(problem)
    yield problem
    for inner in (getattr(problem, "reason", None), *problem.args, problem.__cause__, problem.__context__):
        if isinstance(inner, BaseException) and not any(inner is error for error in seen):
            yield from _chain(inner, seen)
