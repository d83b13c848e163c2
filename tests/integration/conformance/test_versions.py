"""Versions: what every node has is what the cell is called after, so that a result is of no other version."""

from collections.abc import Sequence

import pytest

from ci.matrix.cells import Cell
from tests.support.cluster import Node, Shell

pytestmark = [pytest.mark.container_packaging, pytest.mark.starts_no_container]

# slurmd loads the plugin as it starts, and Pyxis says so there: the last line is of the one that is loaded.
_PYXIS = r"sed -n 's/.*pyxis: version v//p' /var/log/slurm/slurmd.log | tail -n 1"


def _of_each(nodes: Sequence[Node], command: str) -> set[str]:
    return {node.run(command, user=node.user).stdout.strip() for node in nodes}


def test_slurm_is_of_the_cells_series(cluster_shell: Shell, every_node: list[Node], cell: Cell) -> None:
    (controller,) = (
        line.split()[-1]
        for line in cluster_shell.run("scontrol show config").stdout.splitlines()
        if line.startswith("SLURM_VERSION")
    )
    wanted = cell.slurm.release
    assert controller == wanted or controller.startswith((f"{wanted}.", f"{wanted}-"))  # 26.11.0-0rc1 is a 26.11.0
    # Debian's says "slurm-wlm".
    for program in ("slurmd", "srun"):
        assert {said.split()[-1] for said in _of_each(every_node, f"PATH=$PATH:/usr/sbin {program} -V")} == {
            controller
        }, program


def test_enroot_and_pyxis_are_the_cells(every_node: list[Node], cell: Cell) -> None:
    if cell.enroot is None:
        pytest.skip("the embedded runtime has no version of enroot or Pyxis: run it on a real cell")
    assert _of_each(every_node, "enroot version") == {cell.release("enroot")}, "another enroot than the cell's id says"
    assert {node.run(_PYXIS).stdout.strip() for node in every_node} == {cell.release("pyxis")}, (
        "another Pyxis than the cell's id says"
    )
