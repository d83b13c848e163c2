"""What "usable" notices on a real cluster: each of these was called usable as long as only root was asked."""

from collections.abc import Iterator

import pytest

from ci.engine.connection import Engine
from ci.environment import launching, usable
from ci.environment.launching import Environment
from ci.environment.plan import plan_environment
from ci.errors import LaunchError
from ci.images.building import Builder
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.conftest import SUITE, new_run
from tests.component.test_embedded_node import EMBEDDED

PLUGSTACK = "/etc/slurm/plugstack.conf.d/embedded.conf"


@pytest.fixture(scope="module")
def up(
    engine: Engine, builder: Builder, rows: Matrix, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Have two nodes with the embedded runtime up."""
    asked = Options(run=new_run(), name=SUITE, results=tmp_path_factory.mktemp("results"), nodes=2)
    plan = plan_environment(rows.cell(EMBEDDED), rows, asked)
    with launching.launch(engine, plan, builder.build(plan.images), timings=Timings()) as launched:
        yield launched


def check(engine: Engine, up: Environment) -> None:
    """Ask everything once."""
    for it in usable.checks(up.cluster, user=up.file.login.user, registry_port=None, plugin=True):
        usable.wait_for_check(engine, it, limit=0)


@pytest.mark.parametrize("number", [0, 1], ids=["login", "other"])
@pytest.mark.parametrize(
    ("breaks", "repairs", "said"),
    [
        # srun itself can't read the login node's file; with another node's, the job there finds no such option.
        (f"chmod 0600 {PLUGSTACK}", f"chmod 0644 {PLUGSTACK}", (f"Failed to open {PLUGSTACK}", "--container-image")),
        (
            f"sed -i 's/^required/optional/' {PLUGSTACK}; mv /usr/lib/embedded-runtime/spank_embedded.so /root/",
            f"mv /root/spank_embedded.so /usr/lib/embedded-runtime/; sed -i 's/^optional/required/' {PLUGSTACK}",
            ("--container-image",),
        ),
        ("mv /usr/bin/enroot /root/", "mv /root/enroot /usr/bin/", ("enroot",)),
    ],
    ids=["plugstack that users can't read", "optional plugin that is missing", "enroot that is gone"],
)
def test_what_would_fail_every_container_job_is_noticed(
    engine: Engine, up: Environment, number: int, breaks: str, repairs: str, said: tuple[str, ...]
) -> None:
    node = up.cluster.nodes[number]
    check(engine, up)
    assert engine.run_inside(node.container, ["sh", "-c", breaks]).status == 0
    try:
        with pytest.raises(LaunchError, match="job on every node") as caught:
            check(engine, up)
    finally:
        assert engine.run_inside(node.container, ["sh", "-c", repairs]).status == 0
    assert any(words in str(caught.value) for words in said), str(caught.value)
    assert node.hostname in str(caught.value)
