"""A registry that asks who is there: passwords, where they are looked up, and tokens."""

from base64 import b64encode
from contextlib import ExitStack
import hashlib
import http.client

import pytest

from ci.cells import Cell
from ci.engine import Engine
from ci.environment_file import EnvironmentFile
from ci.plan import REGISTRY_PORT
from tests.integration.container_support import Shell
from tests.integration.expectations import differs
from tests.integration.oci import Pushed, basic
from tests.integration.registry.support import (
    TOKEN_REPOSITORY,
    LoginRegistry,
    Marked,
    OwnRegistry,
    htpasswd_settings,
    new_name,
    refused,
    runs,
    start_registry,
    user_files,
)

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


@pytest.fixture
def guarded(login_registry: LoginRegistry, marked: Marked) -> Pushed:
    """Return the test's image behind a password."""
    return login_registry.registry.push("team/img", marked.marker, marked.image)


def credentials(shell: Shell, *lines: str) -> dict[str, str]:
    """Write a file of credentials; return the variable with which a job uses it instead of the user's own."""
    return {"ENROOT_CONFIG_PATH": user_files(shell, {".credentials": "".join(f"{line}\n" for line in lines)})}


def status(registry: OwnRegistry) -> int:
    """Return what the registry answers to its own header of authorization."""
    connection = http.client.HTTPConnection(registry.host_address, timeout=10)
    try:
        connection.request("GET", "/v2/", headers={"Authorization": registry.authorization})
        return connection.getresponse().status
    finally:
        connection.close()


def test_password(slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked) -> None:
    # The file knows hosts only; the reference has a port (NVIDIA/enroot#99).
    line = f"machine {login_registry.registry.name} login {login_registry.user} password {login_registry.password}"
    done = runs(slurm_pyxis_cluster, guarded.reference, marked.marker, credentials(slurm_pyxis_cluster, line))
    assert login_registry.password not in done.stderr


def test_registry_knows_its_passwords(login_registry: LoginRegistry) -> None:
    # Without this, a registry that turned everybody away would pass all tests of wrong passwords.
    assert status(login_registry.registry) == http.HTTPStatus.OK


def test_no_password(slurm_pyxis_cluster: Shell, guarded: Pushed) -> None:
    refused(slurm_pyxis_cluster, guarded.reference, credentials(slurm_pyxis_cluster))


def test_wrong_password(slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed) -> None:
    line = f"machine {login_registry.registry.name} login {login_registry.user} password wrong"
    refused(slurm_pyxis_cluster, guarded.reference, credentials(slurm_pyxis_cluster, line))


def test_credentials_with_a_port_match_nothing(
    slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed
) -> None:
    host = f"{login_registry.registry.name}:{REGISTRY_PORT}"
    line = f"machine {host} login {login_registry.user} password {login_registry.password}"
    refused(slurm_pyxis_cluster, guarded.reference, credentials(slurm_pyxis_cluster, line))


def test_credentials_of_another_host(
    slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed
) -> None:
    line = f"machine elsewhere.example login {login_registry.user} password {login_registry.password}"
    refused(slurm_pyxis_cluster, guarded.reference, credentials(slurm_pyxis_cluster, line))


def test_password_from_the_environment(
    slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    line = f"machine {login_registry.registry.name} login {login_registry.user} password $TEAM_PASSWORD"
    variables = {**credentials(slurm_pyxis_cluster, line), "TEAM_PASSWORD": login_registry.password}
    runs(slurm_pyxis_cluster, guarded.reference, marked.marker, variables)


def test_user_in_the_reference(
    slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    host, user, password = login_registry.registry.name, login_registry.second_user, login_registry.second_password
    known = credentials(slurm_pyxis_cluster, f"machine {host} login {user} password {password}")
    runs(slurm_pyxis_cluster, f"{user}@{guarded.reference}", marked.marker, known)
    refused(slurm_pyxis_cluster, f"{login_registry.user}@{guarded.reference}", known)


def test_user_in_the_reference_has_the_second_account(
    slurm_pyxis_cluster: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    host = login_registry.registry.name
    known = credentials(
        slurm_pyxis_cluster,
        f"machine {host} login {login_registry.user} password wrong",
        f"machine {host} login {login_registry.second_user} password {login_registry.second_password}",
    )
    runs(slurm_pyxis_cluster, f"{login_registry.second_user}@{guarded.reference}", marked.marker, known)


def test_passwords_that_are_not_bcrypt(
    slurm_pyxis_cluster: Shell, registries: ExitStack, engine: Engine, environment: EnvironmentFile
) -> None:
    # What `htpasswd` makes unless told otherwise; the registry passes over such lines, so nobody can enter.
    hashed = b64encode(hashlib.sha1(b"right", usedforsecurity=False).digest()).decode()
    own = start_registry(
        registries,
        engine,
        environment,
        name=new_name("sha"),
        settings=htpasswd_settings(),
        files={"/htpasswd": f"user:{{SHA}}{hashed}\n".encode()},
        authorization=basic("user", "right"),
    )
    # enroot 3.5 and later don't show why they were turned away, so it is the registry that is asked.
    assert status(own) == http.HTTPStatus.UNAUTHORIZED
    known = credentials(slurm_pyxis_cluster, f"machine {own.name} login user password right")
    refused(slurm_pyxis_cluster, f"{own.node_address}#team/img:1", known)


def test_token(slurm_pyxis_cluster: Shell, token_registry: OwnRegistry, marked: Marked) -> None:
    pushed = token_registry.push(TOKEN_REPOSITORY, marked.marker, marked.image)
    runs(slurm_pyxis_cluster, pushed.reference, marked.marker)


def test_token_for_another_repository(slurm_pyxis_cluster: Shell, token_registry: OwnRegistry, cell: Cell) -> None:
    said = refused(slurm_pyxis_cluster, f"{token_registry.node_address}#guarded/other:1")
    # Turned away, and not just without such an image.
    assert ("unauthorized" if differs(cell, "words of a registry that refuses") else "401") in said, said
