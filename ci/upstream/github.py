"""Releases and tags of a repository, as GitHub's API tells them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
import os
import re
import time
from typing import TypeVar

import msgspec
import requests
from requests.utils import parse_header_links

from ci.artefacts.download import retry_after
from ci.errors import UpstreamError
from ci.terminal import console

API = "https://api.github.com/"
TOKEN_VARIABLE = "GITHUB_TOKEN"  # noqa: S105 - the variable's name
LONGEST_WAIT = 60.0
"""Seconds that an answer is waited for, all in all, where GitHub asks to be asked later."""
_PER_PAGE = 100
_MOST_PAGES = 100
_TIMEOUT = 30.0
_OK, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 200, 403, 404, 429
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of the API."""

    status: int
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes


Ask = Callable[[str], Answer]
"""Asks an address; ``UpstreamError`` if nobody answers. Tests put their own in its place."""


class Asset(msgspec.Struct, frozen=True):
    """A file of a release."""

    name: str
    digest: str | None = None
    """``sha256:`` and 64 digits; GitHub has it of files that were uploaded since June 2025."""

    @property
    def sha256(self) -> str:
        """The checksum; empty if GitHub does not say it."""
        found = _DIGEST.fullmatch(self.digest or "")
        return found[1] if found else ""


class Release(msgspec.Struct, frozen=True):
    """A release."""

    tag_name: str
    draft: bool = False
    prerelease: bool = False
    html_url: str = ""
    assets: tuple[Asset, ...] = ()


class _Commit(msgspec.Struct, frozen=True):
    sha: str


class Tag(msgspec.Struct, frozen=True):
    """A tag, which need not be a release."""

    name: str
    commit: _Commit


class GitHub:
    """GitHub's API, without an account or, with ``GITHUB_TOKEN``, as somebody who may ask more often."""

    def __init__(self, ask: Ask | None = None, *, base: str = API) -> None:
        """Ask the API at ``base``."""
        self._ask = ask or ask_over_https
        self._base = base

    def releases(self, repository: str) -> tuple[Release, ...]:
        """Return all releases, drafts and pre-releases among them; ``UpstreamError`` if GitHub does not tell."""
        return self._pages(f"repos/{repository}/releases", Release)

    def tags(self, repository: str) -> tuple[Tag, ...]:
        """Return all tags; errors as for `releases`."""
        return self._pages(f"repos/{repository}/tags", Tag)

    def _pages(self, path: str, kind: type[T]) -> tuple[T, ...]:
        found: list[T] = []
        url = f"{self._base}{path}?per_page={_PER_PAGE}"
        for _page in range(_MOST_PAGES):
            answer = self._patiently(url)
            try:
                found += msgspec.json.decode(answer.body, type=list[kind])  # type: ignore[valid-type]
            except msgspec.MsgspecError as problem:
                raise _unusable(url, f"its answer is not what the API promises: {problem}") from problem
            links = parse_header_links(answer.headers.get("link", ""))
            following = next((link["url"] for link in links if link.get("rel") == "next"), None)
            if following is None:
                return tuple(found)
            if not following.startswith(self._base):
                raise _unusable(url, f"its next page is elsewhere: {following}")
            url = following
        raise _unusable(url, f"it has more than {_MOST_PAGES} pages")

    def _patiently(self, url: str) -> Answer:
        left = LONGEST_WAIT
        while (answer := self._ask(url)).status != _OK:
            wait = _wait(answer)
            if wait is None or wait > left:
                raise _refused(url, answer)
            console.warn(f"{url}: GitHub asks to be asked later; waiting {wait:.0f} s")
            time.sleep(wait)
            left -= max(wait, 1.0)
        return answer


def ask_over_https(url: str) -> Answer:
    """Ask GitHub."""
    headers = {"Accept": "application/vnd.github+json", "User-Agent": "pyxis-matrix"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    try:
        answer = requests.get(url, headers=headers, timeout=_TIMEOUT, verify=os.environ.get("SSL_CERT_FILE") or True)
    except requests.RequestException as problem:
        raise _unusable(url, _cause(problem)) from problem
    named = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(status=answer.status_code, headers=named, body=answer.content)


def _cause(problem: requests.RequestException) -> str:
    """Return what failed, without the objects that it failed in."""
    inner = getattr(problem.args[0], "reason", problem) if problem.args else problem
    text = str(inner)
    return text.rpartition("): ")[2] if text.startswith("HTTPSConnection") else text or type(problem).__name__


def _wait(answer: Answer) -> float | None:
    """Return the seconds after which asking again may help; ``None`` if it does not."""
    if answer.status not in {_FORBIDDEN, _TOO_MANY}:
        return None
    if "retry-after" in answer.headers:
        return retry_after(answer.headers["retry-after"])
    if (reset := _reset(answer)) is not None:
        return max(0.0, (reset - datetime.now(UTC)).total_seconds())
    return None


def _reset(answer: Answer) -> datetime | None:
    """Return when requests are allowed again, if they are used up."""
    at = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") != "0" or not at.isdigit():
        return None
    return datetime.fromtimestamp(int(at), UTC)


def _refused(url: str, answer: Answer) -> UpstreamError:
    if (reset := _reset(answer)) is not None:
        why = f"all requests of this hour are used up; more from {reset:%H:%M} UTC on"
        return _unusable(url, why, f"wait, or set {TOKEN_VARIABLE} to a token of yours (it needs no permission)")
    if answer.status == _NOT_FOUND:
        return _unusable(url, "HTTP 404: no such repository, or nothing for this account")
    return _unusable(url, f"HTTP {answer.status}")


def _unusable(url: str, why: str, step: str = "try again later, or look at the repository's page") -> UpstreamError:
    return UpstreamError("upstream did not say which releases it has", where=url, why=why, next_step=step)
