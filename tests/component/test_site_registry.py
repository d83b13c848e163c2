"""The registry of a site (`ci.site.registry`): behind https, with a password or tokens for it, and a folder in it."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
from pathlib import Path
import secrets
import threading
from urllib.parse import parse_qs, urlsplit

import bcrypt
import pytest

from ci.engine.connection import InsideFile
from ci.engine.credentials import Password
from ci.environment import registry
from ci.environment.plan import EnvironmentPlan
from ci.environment.registry_client import UnexpectedAnswerError
from ci.environment.service import Place
from ci.errors import SiteError
from ci.matrix.arch import Arch
from ci.site.registry import PasswordLogin
from tests.support.authorities import TokenSigner, new_authority
from tests.support.oci.images import Image, push
from tests.support.oci.layers import File, Layer
from tests.support.registry_client import RegistryClient

USER, FOLDER = "ann", "group/pyxis"

Guarded = Callable[..., str]
LogIn = Callable[[str, str], None]
ServeBy = Callable[[type[BaseHTTPRequestHandler], str], str]


@pytest.fixture
def guarded(place: Place, registry_image: str, planned: EnvironmentPlan) -> Guarded:
    """Return a function that starts a registry with such settings and files, and returns its HOST:PORT."""

    def start(settings: dict[str, str], files: dict[str, bytes], ca_bundle: Path | None = None) -> str:
        usual = registry.planned(registry_image, planned.names.registry)
        inside = {path: InsideFile(content=content) for path, content in files.items()}
        wanted = replace(usual, environment=settings, files={**usual.files, **inside})
        return registry.start(place, wanted, ca_bundle).address

    return start


@pytest.fixture
def log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogIn:
    """Return a function that keeps a password for a registry as `docker login` does; none is kept before."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def keep(address: str, password: str) -> None:
        entry = {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {address: entry}}), encoding="utf-8")

    return keep


@pytest.fixture
def serve_by() -> Iterator[ServeBy]:
    """Return a function that serves by a handler at an address until the test ends, and returns HOST:PORT."""
    servers: list[ThreadingHTTPServer] = []

    def serve(handler: type[BaseHTTPRequestHandler], host: str) -> str:
        servers.append(ThreadingHTTPServer((host, 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"{host}:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def signer() -> TokenSigner:
    return TokenSigner(issuer="pyxis-matrix", service="site")


@pytest.fixture
def tokens(signer: TokenSigner, serve_by: ServeBy) -> tuple[str, str]:
    """Serve tokens for a password; return the address and the password."""
    password = secrets.token_urlsafe(12)
    entry = f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode()}"

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            let_in = self.headers["Authorization"] == entry and asked["service"] == [signer.service]
            self.send_response(HTTPStatus.OK if let_in else HTTPStatus.UNAUTHORIZED)
            self.end_headers()
            if let_in:
                _, repository, actions = asked.get("scope", ["repository::"])[0].split(":")
                self.wfile.write(json.dumps({"token": signer.token(repository, *actions.split(","))}).encode())

    return f"http://{serve_by(Service, '127.0.0.1')}/token", password


def pushed_below(address: str) -> str:
    """Push an image into the folder and return the names of repositories that the registry has for it."""
    client = RegistryClient.of_site(f"{address}/{FOLDER}")
    # More than a socket holds: a registry that refuses a request closes the connection, and does not read all of it.
    image = Image(layers=(Layer.of({"/noise": File(content=secrets.token_bytes(8 << 20))}),), arch=Arch.host())
    pushed = push(client, "tiny/img", "1", image)
    assert client.tags(f"{FOLDER}/tiny/img") == ["1"]
    return pushed.reference


def test_a_password_over_https(
    guarded: Guarded, log_in: LogIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, password = new_authority(), f"pü€{secrets.token_urlsafe(12)}"
    server, bundle = authority.issue_cert("localhost", "127.0.0.1"), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=5)).decode()
    address = guarded(
        {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "site",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/htpasswd",
            "REGISTRY_HTTP_TLS_CERTIFICATE": "/server.pem",
            "REGISTRY_HTTP_TLS_KEY": "/server.key",
        },
        {
            "/htpasswd": f"{USER}:{hashed}\n".encode(),
            "/server.pem": server.cert_chain_pems[0].bytes(),
            "/server.key": server.private_key_pem.bytes(),
        },
        bundle,
    )
    with pytest.raises(SiteError, match=f"the registry {address} does not answer") as unknown:
        RegistryClient.of_site(address)
    assert "certificate is not trusted" in str(unknown.value)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with pytest.raises(SiteError, match=f"{address} asks for a login by https"):
        RegistryClient.of_site(address)
    log_in(address, "wrong")
    with pytest.raises(SiteError, match=f"{address} does not take the login that is kept here"):
        RegistryClient.of_site(address)
    log_in(address, password)
    assert pushed_below(address) == f"{address}#{FOLDER}/tiny/img:1"


def test_a_token_for_a_password(guarded: Guarded, log_in: LogIn, tokens: tuple[str, str], signer: TokenSigner) -> None:
    realm, password = tokens
    address = guarded(
        {
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": realm,
            "REGISTRY_AUTH_TOKEN_SERVICE": signer.service,
            "REGISTRY_AUTH_TOKEN_ISSUER": signer.issuer,
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": "/signer.pem",
        },
        {"/signer.pem": signer.authority.cert_pem.bytes()},
    )
    log_in(address, "wrong")
    with pytest.raises(SiteError, match=r"does not answer(?s:.*)401"):
        RegistryClient.of_site(address)
    log_in(address, password)
    assert pushed_below(address) == f"{address}#{FOLDER}/tiny/img:1"


def test_a_password_goes_nowhere_else(serve_by: ServeBy) -> None:
    got: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.headers["Authorization"])
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="mine"')
            self.end_headers()

        def do_PUT(self) -> None:
            self.do_GET()

    elsewhere = serve_by(Elsewhere, "127.0.0.2")

    class Leading(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Authorization"] is None
            self.send_response(HTTPStatus.UNAUTHORIZED if asked else HTTPStatus.TEMPORARY_REDIRECT)
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.send_header("Location", f"http://{elsewhere}/away")
            self.end_headers()

        def do_POST(self) -> None:
            self.send_response(HTTPStatus.ACCEPTED)
            self.send_header("Location", f"http://{elsewhere}/upload")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.send_response(HTTPStatus.NOT_FOUND)
            self.end_headers()

    address = serve_by(Leading, "127.0.0.1")
    client = RegistryClient(address, auth=PasswordLogin(f"http://{address}/v2/", Password(USER, "secret")))
    for act in (lambda: client.blob("img", "sha256:0"), lambda: client.upload_blob("img", b"x")):
        with pytest.raises(UnexpectedAnswerError, match="status 401"):
            act()
    assert got == [None, None]
