"""HTTP: downloads, GitHub and registries have the same time limits, number of tries and errors.

Proxies and trusted certificates (`trusted`) come from the environment.
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
"""The most seconds to wait, in sum, for a server that wants to be asked again later."""
_DEFAULT_WAIT = 5.0
"""Seconds to wait for a busy server that does not say how long."""
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_CHUNK = 1 << 20
_CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

Request = requests.PreparedRequest
Answer = requests.Response
Basic = requests.auth.HTTPBasicAuth
Tell = Callable[[str], None]
"""Called with a line of text for every wait."""


class WebError(Exception):
    """A request failed; the text is the cause in a few words."""


class BrokenOffError(WebError):
    """The connection ended before the answer did."""


class StatusError(WebError):
    """A server answered with an error status."""

    def __init__(self, answer: requests.Response) -> None:
        """Name the status, and why the request was not repeated."""
        self.status, self.headers = answer.status_code, answer.headers
        # urllib3 leaves the policy of the last try on the answer.
        text, patience = f"HTTP {answer.status_code} {answer.reason}", answer.raw.retries
        if self.status in BUSY and isinstance(patience, Patience):
            wait = patience.get_retry_after(answer.raw) or 0.0
            if wait > patience.left:
                text += f"; it asks for a wait of {wait:.0f} s, and {LONGEST_WAIT:.0f} s is the longest here"
            elif patience.history:
                text += f" ({len(patience.history) + 1} tries)"
        super().__init__(text)


class Patience(urllib3.Retry):
    """Repeats a request after a lost connection, and to a busy server after the time that it names.

    All waits together last `LONGEST_WAIT` at most; ``tell`` is called for each.
    """

    tell: Tell = staticmethod(lambda _text: None)
    left = LONGEST_WAIT

    def new(self, **changes: Any) -> Self:  # noqa: ANN401 - as the base class has it
        """Return the policy for the next try."""
        # urllib3 makes a new object of what its own class knows; ours is lost unless it is copied.
        later = super().new(**changes)
        later.tell, later.left = self.tell, self.left
        return later

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return the seconds until a server wants the next request; ``None`` if repeating this one is of no use."""
        try:
            seconds = super().get_retry_after(response)
        except InvalidHeader:
            seconds = None
        reset = response.headers.get("X-RateLimit-Reset", "")
        if seconds is None and response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdigit():
            return max(0.0, int(reset) - time.time())  # GitHub's limit of requests per hour
        return _DEFAULT_WAIT if seconds is None and response.status in BUSY else seconds

    def increment(self, *request: Any, **more: Any) -> Self:  # noqa: ANN401 - as above
        """Return the policy for the next try; ``MaxRetryError`` if there is to be none."""
        later = super().increment(*request, **more)
        response: urllib3.BaseHTTPResponse | None = more.get("response")
        if response is not None:
            wait = self.get_retry_after(response)
            # None: a 403 that names no time is a plain refusal. With raise_on_status=False urllib3 catches this error
            # and returns the answer as it is.
            if wait is None or wait > self.left:
                raise MaxRetryError(more["_pool"], response.url or "", ResponseError("too long to wait"))
            later.left = self.left - wait
            self.tell(f"HTTP {response.status} {response.reason}; waiting {wait:.0f} s")
        return later


class Session(requests.Session):
    """A session of requests with our `Patience`."""

    def __init__(self, *, tries: int = TRIES, tell: Tell = lambda _text: None, https_only: bool = True) -> None:
        """Send each request ``tries`` times at most."""
        super().__init__()
        self._https_only = https_only
        # Without any `auth`, requests would send the password that the user's ~/.netrc has for the host.
        self.auth = lambda request: request
        # 403, because GitHub answers so, too, when its limit of requests is reached:
        # https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
        patience = Patience(
            tries - 1, status_forcelist={*BUSY, HTTPStatus.FORBIDDEN}, backoff_factor=0.5, raise_on_status=False
        )
        patience.tell = tell
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(max_retries=patience))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer redirects to: any host, but https only, so that nobody can change the content."""
        target = super().get_redirect_target(resp)
        there = urlsplit(urljoin(resp.url, target or ""))
        if target and self._https_only and there.scheme != "https":
            # Without the query, which may hold a signature.
            raise WebError(f"redirects to {there.scheme}://{there.netloc}{there.path}, but only https is allowed")
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:  # noqa: ARG002
        """Send no token to the target of a redirect."""
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
    """Send a request over https and yield the answer, with its body not read yet.

    :param timeout: the most seconds between two packets of the answer.
    :raises StatusError: for an error status; ``WebError`` for every other failure, also one within the block.
    """
    if not url.startswith("https://"):
        raise WebError("only https is allowed")
    # "identity": the bytes as they lie on the server, because their number is compared with Content-Length.
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
    """Yield the bytes of an answer's body, without decoding them.

    :raises BrokenOffError: if the body ends early; ``WebError`` if its length is not announced.
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
    """Return the file or folder of trusted certificates; True for those that come with requests.

    Those that the environment names come first, then the system's, which include a site's proxy that re-signs TLS.
    """
    usual = ssl.get_default_verify_paths()  # OpenSSL's
    found = ca_bundle() or usual.cafile or usual.capath
    return str(found) if found else True


def ca_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the host's CA bundle, or None. It is one file, because a build can mount only a file as a secret."""
    named = (Path(environ[name]) for name in _CA_BUNDLES if environ.get(name))
    return next((path for path in (*named, _SYSTEM_CA_BUNDLE) if path.is_file()), None)


def challenge(answer: Answer) -> tuple[str, dict[str, str]]:
    """Return how a server wants a login, in small letters (``basic``, ``bearer``), and what it says of it.

    ``Bearer realm="https://auth.example.org/token",service="registry",scope="repository:team/img:pull,push"``
    """
    kind, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
    return kind.lower(), requests.utils.parse_dict_header(rest)  # type: ignore[no-untyped-call]


def cause(problem: BaseException) -> str:
    """Return in a few words what failed in the network: the libraries wrap the first error several times."""
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
    # requests keeps urllib3's error in `args`, and urllib3 what it comes from in `reason`.
    for inner in (getattr(problem, "reason", None), *problem.args, problem.__cause__, problem.__context__):
        if isinstance(inner, BaseException) and not any(inner is error for error in seen):
            yield from _chain(inner, seen)
