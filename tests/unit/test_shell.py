"""Where what tests ask a login node for is run (`tests.support.cluster`): by itself, or on the node of the jobs."""

import pytest

from ci.environment.ssh import RemoteAnswer
from tests.support.cluster import Shell
from tests.support.environments import environment


class Login:
    """A connection that keeps what it is told to run."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.asked: list[str] = []

    def run(self, command: str, **_: object) -> RemoteAnswer:
        """Succeed."""
        self.asked.append(command)
        return RemoteAnswer(command=command, status=0, stdout="", stderr="")


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(
    ("command", "of_the_node"),
    [
        ("ls ~", False),
        ("enroot list", True),
        ("chmod 000 /raid/people/ann/box/etc", True),
        ("srun enroot list", False),
        ("srun cat /raid/people/ann/box/etc", False),
    ],
)
def test_what_only_a_node_of_jobs_has_is_asked_there(*, command: str, of_the_node: bool, elsewhere: bool) -> None:
    login = Login()
    of = environment("site", site="blue", enroot_data="/raid/people/ann", logs_in_elsewhere=elsewhere)
    shell = Shell(connection=login, environment=of)  # type: ignore[arg-type]
    shell.run(command)
    shell.on_the_node("ls /tmp")
    there = "srun --nodelist=n1 --ntasks=1 bash -c '{}'" if elsewhere else "{}"
    assert login.asked == [(there if of_the_node else "{}").format(command), there.format("ls /tmp")]
