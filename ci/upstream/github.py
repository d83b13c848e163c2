"""Releases and tags of a repository, as GitHub's API tells them."""

from datetime import UTC, datetime
import os
import re
from typing import TypeVar

import msgspec

from ci import web
from ci.errors import UpstreamError
from ci.terminal import console

API = "https://api.github.com/"
TOKEN_VARIABLE = "GITHUB_TOKEN"  # noqa: S105 - the variable's name
_PER_PAGE = 100  # the most that the API gives
_MOST_PAGES = 100  # a server that always names a next page would be asked for ever
_TIMEOUT = 30.0
_NOT_FOUND = 404
# https://github.blog/changelog/2025-06-03-releases-now-expose-digests-for-release-assets/
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")

T = TypeVar("T")


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

    def __init__(self, base: str = API) -> None:
        """Ask the API at ``base``."""
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
            body, following = _ask(url)
            try:
                # Keys that are not named here are left out.
                found += msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]
            except msgspec.MsgspecError as problem:
                raise _unusable(url, f"its answer is not what the API promises: {problem}") from problem
            if following is None:
                return tuple(found)
            # The token in the headers must not go to another server.
            if not following.startswith(self._base):
                raise _unusable(url, f"its next page is elsewhere: {following}")
            url = following
        raise _unusable(url, f"it has more than {_MOST_PAGES} pages")


def _ask(url: str) -> tuple[bytes, str | None]:
    """Return what the API answers, and the address of the next page."""
    headers = {"Accept": "application/vnd.github+json"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    try:
        with web.opened(url, timeout=_TIMEOUT, tell=console.warn, headers=headers) as answer:
            return answer.content, answer.links.get("next", {}).get("url")
    except web.StatusError as problem:
        # In seconds since the epoch. The status is 403 or 429, which both mean other things as well.
        # https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
        reset = problem.headers.get("X-RateLimit-Reset", "")
        if problem.headers.get("X-RateLimit-Remaining") == "0" and reset.isdigit():
            at = datetime.fromtimestamp(int(reset), UTC)
            why = f"all requests of this hour are used up; more from {at:%H:%M} UTC on"
            step = f"wait, or set {TOKEN_VARIABLE} to a token of yours (it needs no permission)"
            raise _unusable(url, why, step) from problem
        # GitHub does not tell which of the two.
        missing = ": no such repository, or nothing for this account" if problem.status == _NOT_FOUND else ""
        raise _unusable(url, f"{problem}{missing}") from problem
    except web.WebError as problem:
        raise _unusable(url, str(problem)) from problem


def _unusable(url: str, why: str, step: str = "try again later, or look at the repository's page") -> UpstreamError:
    return UpstreamError("upstream did not say which releases it has", where=url, why=why, next_step=step)
