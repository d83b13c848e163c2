"""Registries of every kind, started when the first test of a worker asks for one."""

from collections.abc import Iterator
from contextlib import ExitStack
import json
import secrets
import ssl

import bcrypt
import pytest

from ci.engine import connection as engines
from ci.engine.connection import Engine
from ci.environment.registry import PORT as REGISTRY_PORT
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from tests.integration.container_support import Node, Registry
from tests.integration.oci import basic, busybox_image, new_marker, put_blob
from tests.integration.registry import tls
from tests.integration.registry.support import (
    TOKEN_REPOSITORY,
    LoginRegistry,
    Marked,
    OwnRegistry,
    TlsRegistry,
    htpasswd_settings,
    let_jobs_choose_https,
    new_name,
    start_registry,
)


@pytest.fixture
def marked(environment: EnvironmentFile, pyxis_container: Node) -> Marked:
    """Return an image of the test's own."""
    marker = new_marker()
    return Marked(image=busybox_image(pyxis_container, marker, Arch(environment.arch)), marker=marker)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return the engine that runs the environment."""
    return engines.connect()


@pytest.fixture(scope="session")
def registries() -> Iterator[ExitStack]:
    """Return the stack that removes the registries of this worker when its tests are done."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def https_on_request(environment: EnvironmentFile) -> None:
    """Let a job say that it wants https only."""
    let_jobs_choose_https(environment)


@pytest.fixture(scope="session")
def tls_registry(registries: ExitStack, engine: Engine, environment: EnvironmentFile) -> TlsRegistry:
    """Start a registry behind https, with a certificate of a private authority made here."""
    name = new_name("tls")
    authority = tls.new_authority("pyxis-matrix test authority")
    server = tls.new_certificate(authority, name, "localhost")
    registry = start_registry(
        registries,
        engine,
        environment,
        name=name,
        settings={"REGISTRY_HTTP_TLS_CERTIFICATE": "/server.pem", "REGISTRY_HTTP_TLS_KEY": "/server.key"},
        files={"/server.pem": server.pem, "/server.key": server.key_pem},
        tls=ssl.create_default_context(cadata=authority.pem.decode()),
    )
    return TlsRegistry(registry=registry, authority=authority)


@pytest.fixture(scope="session")
def login_registry(registries: ExitStack, engine: Engine, environment: EnvironmentFile) -> LoginRegistry:
    """Start a registry that asks for a user's name and password."""
    accounts = {user: secrets.token_urlsafe(12) for user in ("first", "second")}
    htpasswd = "".join(
        f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=5)).decode()}\n"
        for user, password in accounts.items()
    )
    registry = start_registry(
        registries,
        engine,
        environment,
        name=new_name("login"),
        settings=htpasswd_settings(),
        files={"/htpasswd": htpasswd.encode()},
        authorization=basic("first", accounts["first"]),
    )
    return LoginRegistry(
        registry=registry,
        user="first",
        password=accounts["first"],
        second_user="second",
        second_password=accounts["second"],
    )


@pytest.fixture(scope="session")
def token_registry(
    registries: ExitStack, engine: Engine, environment: EnvironmentFile, local_registry: Registry
) -> OwnRegistry:
    """Start a registry that wants a token, as Docker Hub and most hosted registries do.

    Its token service is a blob in the environment's own registry: the tokens of anonymous users need no program, only
    an address that answers ``{"token": …}``.
    """
    signer = tls.new_authority("pyxis-matrix test tokens")
    facts = {"issuer": "pyxis-matrix", "service": new_name("service"), "repository": TOKEN_REPOSITORY}
    pull = tls.registry_token(signer, **facts, actions=["pull"])
    both = tls.registry_token(signer, **facts, actions=["pull", "push"])
    answer = put_blob(local_registry.address, "pyxis-matrix/token", json.dumps({"token": pull}).encode())
    return start_registry(
        registries,
        engine,
        environment,
        name=new_name("token"),
        settings={
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": f"http://registry:{REGISTRY_PORT}{answer}",
            "REGISTRY_AUTH_TOKEN_SERVICE": facts["service"],
            "REGISTRY_AUTH_TOKEN_ISSUER": facts["issuer"],
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": "/signer.pem",
        },
        files={"/signer.pem": signer.pem},
        authorization=f"Bearer {both}",
    )
