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
    asks_as,
    htpasswd_settings,
    imported,
    new_name,
    refused,
    runs,
    srun_unchecked,
    user_files,
)
from tests.support.behaviours import Ask
from tests.support.cluster import Shell
from tests.support.expectations import differs
from tests.support.known_failures import Control
from tests.support.oci.images import Pushed
from tests.support.proof import behind

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


def turned_away(shell: Shell, own: OwnRegistry, image: Pushed, says: str, variables: dict[str, str]) -> list[str]:
    """Expect that the registry was asked and has turned the job away; return the users with a wrong password.

    From 3.5 on enroot does not show why the registry did so: the registry's own log has it.
    """
    refused(shell, image.reference, says, variables)
    assert own.statuses(image) == {http.HTTPStatus.UNAUTHORIZED}
    return own.wrong_passwords(image)


def test_no_password(cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, cell: Cell) -> None:
    known = credentials(cluster_shell)
    assert turned_away(cluster_shell, login_registry.registry, guarded, asks_as(cell), known) == []


def test_wrong_password(cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, cell: Cell) -> None:
    own, user = login_registry.registry, login_registry.user
    known = credentials(cluster_shell, f"machine {own.name} login {user} password wrong")
    assert turned_away(cluster_shell, own, guarded, asks_as(cell, user), known) == [user]


def test_credentials_with_a_port_match_nothing(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, cell: Cell
) -> None:
    host = f"{login_registry.registry.name}:{REGISTRY_PORT}"
    known = credentials(cluster_shell, f"machine {host} login {login_registry.user} password {login_registry.password}")
    assert turned_away(cluster_shell, login_registry.registry, guarded, asks_as(cell), known) == []


def test_credentials_of_another_host(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, cell: Cell
) -> None:
    line = f"machine elsewhere.example login {login_registry.user} password {login_registry.password}"
    known = credentials(cluster_shell, line)
    assert turned_away(cluster_shell, login_registry.registry, guarded, asks_as(cell), known) == []


@pytest.mark.behaviour("indented-credentials")
def test_an_indented_line(
    *,
    cluster_shell: Shell,
    login_registry: LoginRegistry,
    guarded: Pushed,
    marked: Marked,
    cell: Cell,
    behaviour: Ask,
) -> None:
    own, user = login_registry.registry, login_registry.user
    known = credentials(cluster_shell, f"  machine {own.name} login {user} password {login_registry.password}")
    done = srun_unchecked(cluster_shell, guarded.reference, known)
    if imported(done):
        assert behind(done, marked.marker) == []
        behaviour("indented-credentials").saw("used", done)
    else:
        assert asks_as(cell, user) in done.stderr, str(done)
        assert own.statuses(guarded) == {http.HTTPStatus.UNAUTHORIZED}
        assert own.wrong_passwords(guarded) == [user]
        behaviour("indented-credentials").saw("without its password", done)


def test_password_from_the_environment(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked
) -> None:
    line = f"machine {login_registry.registry.name} login {login_registry.user} password $TEAM_PASSWORD"
    variables = {**credentials(cluster_shell, line), "TEAM_PASSWORD": login_registry.password}
    runs(cluster_shell, guarded.reference, marked.marker, variables)


def test_user_in_the_reference(
    cluster_shell: Shell, login_registry: LoginRegistry, guarded: Pushed, marked: Marked, cell: Cell
) -> None:
    host, user, password = login_registry.registry.name, login_registry.second_user, login_registry.second_password
    known = credentials(cluster_shell, f"machine {host} login {user} password {password}")
    runs(cluster_shell, f"{user}@{guarded.reference}", marked.marker, known)
    other = f"{login_registry.user}@{guarded.reference}"
    refused(cluster_shell, other, asks_as(cell, login_registry.user), known)


@pytest.mark.behaviour("account-in-the-reference")
def test_user_in_the_reference_has_the_second_account(
    *,
    cluster_shell: Shell,
    login_registry: LoginRegistry,
    guarded: Pushed,
    marked: Marked,
    control: Control,
    behaviour: Ask,
) -> None:
    asked = behaviour("account-in-the-reference")
    host, reference = login_registry.registry.name, f"{login_registry.second_user}@{guarded.reference}"
    second = f"machine {host} login {login_registry.second_user} password {login_registry.second_password}"
    with control("with the second account alone it runs"):
        runs(cluster_shell, reference, marked.marker, credentials(cluster_shell, second))
    first = f"machine {host} login {login_registry.user} password wrong"
    done = srun_unchecked(cluster_shell, reference, credentials(cluster_shell, first, second))
    shown = login_registry.registry.wrong_passwords(guarded)
    if not imported(done) and shown == [login_registry.user]:
        asked.saw("the first account", done)
        pytest.fail(f"the registry was shown the account of {login_registry.user}: {done}")
    assert (done.status, done.stdout) == (0, f"{marked.marker}\n"), f"wrong passwords of {shown}: {done}"
    asked.saw("the named account", done)


def test_passwords_that_are_not_bcrypt(cluster_shell: Shell, registries: Registries, cell: Cell) -> None:
    # What `htpasswd` makes unless told otherwise; the registry passes over such lines, so nobody can enter.
    hashed = b64encode(hashlib.sha1(b"right", usedforsecurity=False).digest()).decode()
    own = registries.start(
        new_name("sha"),
        settings=htpasswd_settings(),
        files={"/htpasswd": f"user:{{SHA}}{hashed}\n".encode()},
        auth=("user", "right"),
    )
    assert own.client.ping() == http.HTTPStatus.UNAUTHORIZED
    known = credentials(cluster_shell, f"machine {own.name} login user password right")
    image = Pushed(address=own.node_address, repository="team/img", tag="1", digest="", media_type="")
    assert turned_away(cluster_shell, own, image, asks_as(cell, "user"), known) == ["user"]


def test_token(cluster_shell: Shell, token_registry: OwnRegistry, marked: Marked) -> None:
    pushed = token_registry.push(TOKEN_REPOSITORY, marked.marker, marked.image)
    runs(cluster_shell, pushed.reference, marked.marker)


def test_token_for_another_repository(cluster_shell: Shell, token_registry: OwnRegistry, cell: Cell) -> None:
    # Turned away, and not just without such an image.
    embedded = differs(cell, "words of a registry that refuses")
    says = "the registry turned the account away" if embedded else "error code: 401 Unauthorized"
    refused(cluster_shell, f"{token_registry.node_address}#guarded/other:1", says)
