"""The registry that a site names: plain http or https, with a login or without, and a folder in it for all images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
import re
from typing import Any

from ci import web
from ci.engine import references
from ci.engine.credentials import Password, password_of
from ci.environment.registry_client import RegistryClient, UnexpectedAnswerError
from ci.errors import SiteError

FORM = re.compile(rf"{references.HOST}(?:/{references.PART})*")
"""HOST[:PORT], and folders behind it."""
_SECONDS = 60.0


@dataclass
class PasswordLogin:
    """Logs in with a password, or with a token for it, whichever the registry asks for; elsewhere it sends nothing.

    https://distribution.github.io/distribution/spec/auth/token/
    """

    root: str
    """The address of the registry's API. What it leads to, such as another host for layers, is no business of it."""
    kept: Password
    _let_in: str = field(default="", init=False, repr=False)
    """What let the last request in. A refused upload breaks off, so what begins one has to have logged in already."""

    def __call__(self, request: web.Request) -> web.Request:
        """Have the request sent once more, with another header, if the answer is 401."""
        if self._is_ours(request):
            if self._let_in:
                request.headers["Authorization"] = self._let_in
            request.register_hook("response", self._log_in)  # type: ignore[no-untyped-call]
        return request

    def _is_ours(self, request: web.Request) -> bool:
        return str(request.url).startswith(self.root)

    def _log_in(self, answer: web.Answer, **how: Any) -> web.Answer:  # noqa: ANN401 - as requests has it
        # A redirect keeps the hooks of the request that it answers.
        if answer.status_code != HTTPStatus.UNAUTHORIZED or not self._is_ours(answer.request):
            return answer
        again = answer.request.copy()
        again.deregister_hook("response", self._log_in)  # type: ignore[no-untyped-call]
        match web.challenge(answer):
            case "bearer", asked:
                again.headers["Authorization"] = f"Bearer {self._token(asked)}"
            case "basic", _:
                self.kept.basic(again)
            case kind, _:
                raise web.WebError(f"it asks for a login of the kind {kind!r}, and not for a password")
        self._let_in = again.headers["Authorization"]
        answer.close()
        return answer.connection.send(again, **how)  # as requests' own HTTPDigestAuth does

    def _token(self, asked: Mapping[str, str]) -> str:
        realm = asked.get("realm", "")
        if self.root.startswith("https://") and not realm.startswith("https://"):
            raise web.WebError(f"{realm} would get the password in plain text")
        wanted = {name: asked[name] for name in ("service", "scope") if name in asked}
        with web.Session() as session:
            session.auth = self.kept.basic
            answer = session.get(realm, params=wanted, timeout=_SECONDS, verify=web.trusted())
        answer.raise_for_status()
        found = answer.json()
        token = isinstance(found, dict) and (found.get("token") or found.get("access_token"))
        if not token:
            raise web.WebError(f"{realm} gave no token")
        return str(token)


def folder_of(registry: str) -> str:
    """Return what the names of all images begin with: ``FOLDER/``, or nothing."""
    return "".join(f"{part}/" for part in registry.split("/")[1:])


def reached(registry: str) -> RegistryClient:
    """Return a client of a site's registry: by https if it answers so, else by http, and with the login kept here.

    :raises SiteError: if it does not answer, or does not let the login in.
    """
    host = registry.partition("/")[0]
    kept = password_of(host)
    problems = []
    for trusted in (web.trusted(), None):
        client = RegistryClient(host, ca_bundle=trusted)
        # Someone in the middle could answer instead of https: elsewhere than on this machine, no password goes by http.
        login = PasswordLogin(client.root, kept) if kept and (trusted or references.is_loopback(host)) else None
        client = replace(client, auth=login)
        try:
            status = client.ping()
        except UnexpectedAnswerError as problem:
            problems.append(f"{problem.where}: {problem.why}")
            continue
        if status == HTTPStatus.OK:
            return client
        if status == HTTPStatus.UNAUTHORIZED:
            by = "https" if trusted else "plain http"
            if kept and not login:
                problems.append("the login that is kept here is not sent by plain http")
            raise SiteError(
                f"{host} does not take the login that is kept here" if login else f"{host} asks for a login by {by}",
                why="; ".join(problems),
                next_step=f"docker login {host}; the nodes need one, too: docs/your-cluster.md#the-registry",
            )
        problems.append(f"{client.root}: HTTP {status}")
    raise SiteError(f"the registry {host} does not answer", why="; ".join(problems))
