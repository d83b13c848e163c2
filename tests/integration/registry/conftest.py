"""Registries of every kind, started when the first test of a worker asks for one."""

from collections.abc import Iterator
from contextlib import ExitStack
import json
import secrets

import bcrypt
import pytest

from ci.engine import connection as engines
from ci.engine.connection import Engine
from ci.environment.registry import PORT as REGISTRY_PORT
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from tests.integration.registry.support import (
    TOKEN_REPOSITORY,
    LoginRegistry,
    Marked,
    OwnRegistry,
    Registries,
    TlsRegistry,
    htpasswd_settings,
    let_jobs_choose_https,
    new_name,
)
from tests.support.authorities import TokenSigner, new_authority
from tests.support.cluster import Node
from tests.support.oci.tiny import busybox_image, new_marker
from tests.support.registry_client import RegistryClient, Token


@pytest.fixture
def marked(environment: EnvironmentFile, login_node: Node) -> Marked:
    """Return an image of the test's own."""
    marker = new_marker()
    return Marked(image=busybox_image(login_node, marker, Arch(environment.arch)), marker=marker)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return the engine that runs the environment."""
    return engines.connect()


@pytest.fixture(scope="session")
def registries(engine: Engine, environment: EnvironmentFile) -> Iterator[Registries]:
    """Return what starts registries; they are removed when the tests of this worker are done."""
    with ExitStack() as stack:
        yield Registries(stack=stack, engine=engine, environment=environment)


@pytest.fixture(scope="session")
def https_on_request(environment: EnvironmentFile) -> None:
    """Let a job say that it wants https only."""
    let_jobs_choose_https(environment)


@pytest.fixture(scope="session")
def tls_registry(registries: Registries, tmp_path_factory: pytest.TempPathFactory) -> TlsRegistry:
    """Start a registry behind https, with a certificate of a private authority made here."""
    name, authority = new_name("tls"), new_authority()
    server = authority.issue_cert(name, "localhost", "127.0.0.1")
    bundle = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    registry = registries.start(
        name,
        settings={"REGISTRY_HTTP_TLS_CERTIFICATE": "/server.pem", "REGISTRY_HTTP_TLS_KEY": "/server.key"},
        files={"/server.pem": server.cert_chain_pems[0].bytes(), "/server.key": server.private_key_pem.bytes()},
        ca_bundle=bundle,
    )
    return TlsRegistry(registry=registry, authority=authority)


@pytest.fixture(scope="session")
def login_registry(registries: Registries) -> LoginRegistry:
    """Start a registry that asks for a user's name and password."""
    accounts = {user: secrets.token_urlsafe(12) for user in ("first", "second")}
    htpasswd = "".join(
        f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=5)).decode()}\n"
        for user, password in accounts.items()
    )
    registry = registries.start(
        new_name("login"),
        settings=htpasswd_settings(),
        files={"/htpasswd": htpasswd.encode()},
        auth=("first", accounts["first"]),
    )
    return LoginRegistry(
        registry=registry,
        user="first",
        password=accounts["first"],
        second_user="second",
        second_password=accounts["second"],
    )


@pytest.fixture(scope="session")
def token_registry(registries: Registries, registry_client: RegistryClient) -> OwnRegistry:
    """Start a registry that wants a token, as Docker Hub and most hosted registries do.

    Its token service is a blob in the environment's own registry: the tokens of anonymous users need no program, only
    an address that answers ``{"token": …}``.
    """
    signer = TokenSigner(issuer="pyxis-matrix", service=new_name("service"))
    answer = json.dumps({"token": signer.token(TOKEN_REPOSITORY, "pull")}).encode()
    digest = registry_client.upload_blob("pyxis-matrix/token", answer)
    return registries.start(
        new_name("token"),
        settings={
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": f"http://registry:{REGISTRY_PORT}/v2/pyxis-matrix/token/blobs/{digest}",
            "REGISTRY_AUTH_TOKEN_SERVICE": signer.service,
            "REGISTRY_AUTH_TOKEN_ISSUER": signer.issuer,
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": "/signer.pem",
        },
        files={"/signer.pem": signer.authority.cert_pem.bytes()},
        auth=Token(signer.token(TOKEN_REPOSITORY, "pull", "push")),
    )
