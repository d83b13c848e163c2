"""A registry that asks who is there: passwords, where they are looked up, and tokens."""

from base64 import b64encode
import hashlib
import http

import pytest

from ci.environment.registry import PORT as REGISTRY_PORT
from ci.matrix.cells import Cell
from tests.integration.registry.support import (
    TOKEN_REPOSITORY,
    LoginRegistry,
    Marked,
    OwnRegistry,
    Registries,
    htpasswd_settings,
    new_name,
    refused,
    runs,
    user_files,
)
from tests.support.cluster import Shell
from tests.support.expectations import differs
from tests.support.oci.images import Pushed

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


@pytest.fixture
def guarded(login_registry: LoginRegistry, marked: Marked) -> Pushed:
    """Return the test's image behind a password."""
    return login_registry.registry.push("team/img", marked.marker, marked.image)


def credentials(shell: Shell, *lines: str) -> dict[str, str]:
    """Write a file of credentials; return the variable with which a job uses it instead of the user's own."""
    return {"ENROOT_CONFIG_PATH": user_files(shell, {".credentials": "".join(f"{line}\n" for line in lines)})}


def test_password(cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked) -> None:
    # The file knows hosts only; the reference has a port (NVIDIA/enroot#99).
    line = f"machine {login_registry.registry.name} login {login_registry.user} password {login_registry.password}"
    done = runs(cluster_shell, guarded.reference, marked.marker, credentials(cluster_shell, line))
    assert login_registry.password not in done.stderr


def test_registry_knows_its_passwords(login_registry: LoginRegistry) -> None:
    # Without this, a registry that turned everybody away would pass all tests of wrong passwords.
    assert login_registry.registry.client.ping() == http.HTTPStatus.OK


def test_no_password(cluster_shell: Shell, guarded: Pushed) -> None:
    refused(cluster_shell, guarded.reference, credentials(cluster_shell))


def test_wrong_password(cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed) -> None:
    line = f"machine {login_registry.registry.name} login {login_registry.user} password wrong"
    refused(cluster_shell, guarded.reference, credentials(cluster_shell, line))


def test_credentials_with_a_port_match_nothing(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed
) -> None:
    host = f"{login_registry.registry.name}:{REGISTRY_PORT}"
    line = f"machine {host} login {login_registry.user} password {login_registry.password}"
    refused(cluster_shell, guarded.reference, credentials(cluster_shell, line))


def test_credentials_of_another_host(cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed) -> None:
    line = f"machine elsewhere.example login {login_registry.user} password {login_registry.password}"
    refused(cluster_shell, guarded.reference, credentials(cluster_shell, line))


def test_password_from_the_environment(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    line = f"machine {login_registry.registry.name} login {login_registry.user} password $TEAM_PASSWORD"
    variables = {**credentials(cluster_shell, line), "TEAM_PASSWORD": login_registry.password}
    runs(cluster_shell, guarded.reference, marked.marker, variables)


def test_user_in_the_reference(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    host, user, password = login_registry.registry.name, login_registry.second_user, login_registry.second_password
    known = credentials(cluster_shell, f"machine {host} login {user} password {password}")
    runs(cluster_shell, f"{user}@{guarded.reference}", marked.marker, known)
    refused(cluster_shell, f"{login_registry.user}@{guarded.reference}", known)


def test_user_in_the_reference_has_the_second_account(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    host = login_registry.registry.name
    known = credentials(
        cluster_shell,
        f"machine {host} login {login_registry.user} password wrong",
        f"machine {host} login {login_registry.second_user} password {login_registry.second_password}",
    )
    runs(cluster_shell, f"{login_registry.second_user}@{guarded.reference}", marked.marker, known)


def test_passwords_that_are_not_bcrypt(cluster_shell: Shell, registries: Registries) -> None:
    # What `htpasswd` makes unless told otherwise; the registry passes over such lines, so nobody can enter.
    hashed = b64encode(hashlib.sha1(b"right", usedforsecurity=False).digest()).decode()
    own = registries.start(
        new_name("sha"),
        settings=htpasswd_settings(),
        files={"/htpasswd": f"user:{{SHA}}{hashed}\n".encode()},
        auth=("user", "right"),
    )
    # enroot 3.5 and later don't show why they were turned away, so it is the registry that is asked.
    assert own.client.ping() == http.HTTPStatus.UNAUTHORIZED
    known = credentials(cluster_shell, f"machine {own.name} login user password right")
    refused(cluster_shell, f"{own.node_address}#team/img:1", known)


def test_token(cluster_shell: Shell, token_registry: OwnRegistry, marked: Marked) -> None:
    pushed = token_registry.push(TOKEN_REPOSITORY, marked.marker, marked.image)
    runs(cluster_shell, pushed.reference, marked.marker)


def test_token_for_another_repository(cluster_shell: Shell, token_registry: OwnRegistry, cell: Cell) -> None:
    said = refused(cluster_shell, f"{token_registry.node_address}#guarded/other:1")
    # Turned away, and not just without such an image.
    assert ("unauthorized" if differs(cell, "words of a registry that refuses") else "401") in said, said
