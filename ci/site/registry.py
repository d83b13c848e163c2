"""The registry that a site names: plain http or https, with a login or without, and a folder in it for all images."""

from dataclasses import dataclass, field
from http import HTTPStatus
import re
from typing import Any

from ci import web
from ci.engine.credentials import password_of
from ci.environment.registry_client import RegistryClient, UnexpectedAnswerError
from ci.errors import SiteError

# For the engine, a first part without a dot or a port is a folder of Docker Hub's.
_HOST = r"[A-Za-z0-9-]+(?:(?:\.[A-Za-z0-9-]+)+(?::\d{1,5})?|:\d{1,5})"
FORM = re.compile(rf"{_HOST}(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
"""HOST:PORT, or HOST.DOMAIN, and folders behind it."""
_SECONDS = 60.0


@dataclass
class PasswordLogin:
    """Logs in with a password, or with a token for it, whichever the registry asks for.

    https://distribution.github.io/distribution/spec/auth/token/
    """

    user: str
    password: str = field(repr=False)
    _let_in: str = field(default="", init=False, repr=False)
    """What let the last request in. A refused upload breaks off, so what begins one has to have logged in already."""

    def __call__(self, request: web.Request) -> web.Request:
        """Have the request sent once more, with another header, if the answer is 401."""
        if self._let_in:
            request.headers["Authorization"] = self._let_in
        request.register_hook("response", self._log_in)  # type: ignore[no-untyped-call]
        return request

    def _log_in(self, answer: web.Answer, **how: Any) -> web.Answer:  # noqa: ANN401 - as requests has it
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            return answer
        kind, asked = web.challenge(answer)
        again = answer.request.copy()
        again.deregister_hook("response", self._log_in)  # type: ignore[no-untyped-call]
        if kind == "bearer":
            realm = asked.pop("realm", "")
            if str(again.url).startswith("https://") and not realm.startswith("https://"):
                raise web.WebError(f"{realm} would get the password in plain text")
            again.headers["Authorization"] = f"Bearer {self._token(realm, asked)}"
        else:
            again.prepare_auth((self.user, self.password))
        self._let_in = again.headers["Authorization"]
        answer.close()
        return answer.connection.send(again, **how)  # as requests' own HTTPDigestAuth does

    def _token(self, realm: str, asked: dict[str, str]) -> str:
        with web.Session() as session:
            session.auth = (self.user, self.password)
            answer = session.get(realm, params=asked, timeout=_SECONDS, verify=web.trusted())
        answer.raise_for_status()
        found = answer.json()
        return str(found.get("token") or found.get("access_token", ""))


def host_of(registry: str) -> str:
    """Return HOST[:PORT] of HOST[:PORT][/FOLDER]."""
    return registry.partition("/")[0]


def folder_of(registry: str) -> str:
    """Return what the names of all images begin with: ``FOLDER/``, or nothing."""
    return "".join(f"{part}/" for part in registry.split("/")[1:])


def reached(registry: str) -> RegistryClient:
    """Return a client of a site's registry: by https if it answers so, else by http, and with the login kept here.

    :raises SiteError: if it does not answer, or does not let the login in.
    """
    host = host_of(registry)
    kept = password_of(host)
    problems = []
    for trusted in (web.trusted(), None):
        # Who stands between could answer in place of https: elsewhere than on this machine, no password goes by http.
        login = PasswordLogin(*kept) if kept and (trusted or host.startswith("localhost:")) else None
        client = RegistryClient(host, auth=login, ca_bundle=trusted)
        try:
            status = client.ping()
        except UnexpectedAnswerError as problem:
            problems.append(f"{problem.where}: {problem.why}")
            continue
        if status == HTTPStatus.OK:
            return client
        if status == HTTPStatus.UNAUTHORIZED:
            how = "https" if trusted else "plain http"
            raise SiteError(
                f"{host} does not take the login that is kept here" if login else f"{host} asks for a login by {how}",
                next_step=f"docker login {host}; the nodes need one, too: docs/your-cluster.md#the-registry",
            )
        problems.append(f"{client.root}: HTTP {status}")
    raise SiteError(f"the registry {host} does not answer", why="; ".join(problems))
