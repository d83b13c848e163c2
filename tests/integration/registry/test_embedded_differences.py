"""Forms of credentials that the embedded runtime reads otherwise than enroot: the table in its README, tried."""

import http

import pytest

from ci.matrix.cells import Cell
from tests.integration.registry.support import LoginRegistry, Marked, asks_as, refused, runs, user_files
from tests.support.cluster import Shell
from tests.support.expectations import differs

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


def known(shell: Shell, content: str) -> dict[str, str]:
    """Write a file of credentials; return the variable with which a job uses it instead of the user's own."""
    return {"ENROOT_CONFIG_PATH": user_files(shell, {".credentials": content})}


@pytest.mark.parametrize("form", ["machine {0}\nlogin {1}\npassword {2}\n", "machine {0} password {2} login {1}\n"])
def test_credentials_on_several_lines_or_in_another_order(
    *, cluster_shell: Shell, login_registry: LoginRegistry, marked: Marked, cell: Cell, form: str
) -> None:
    pushed = login_registry.registry.push("team/img", marked.marker, marked.image)
    content = form.format(login_registry.registry.name, login_registry.user, login_registry.password)
    variables = known(cluster_shell, content)
    if differs(cell, "credentials on several lines, or with the password first"):
        runs(cluster_shell, pushed.reference, marked.marker, variables)
    else:
        refused(cluster_shell, pushed.reference, asks_as(cell), variables)
        assert login_registry.registry.statuses(pushed) == {http.HTTPStatus.UNAUTHORIZED}


def test_a_password_that_a_command_prints(
    cluster_shell: Shell, login_registry: LoginRegistry, marked: Marked, cell: Cell
) -> None:
    pushed = login_registry.registry.push("team/img", marked.marker, marked.image)
    line = f"machine {login_registry.registry.name} login {login_registry.user} "
    variables = known(cluster_shell, f"{line}password $(echo {login_registry.password})\n")
    if differs(cell, "`$(COMMAND)` as a password"):
        refused(cluster_shell, pushed.reference, asks_as(cell, login_registry.user), variables)
        assert login_registry.registry.wrong_passwords(pushed) == [login_registry.user]
    else:
        runs(cluster_shell, pushed.reference, marked.marker, variables)
