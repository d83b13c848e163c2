"""The embedded runtime on its node image, with Debian's own skopeo and squashfs-tools: many things at once."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import shlex
from typing import TYPE_CHECKING

import pytest

from ci.engine.connection import Engine
from ci.engine.labels import labels
from ci.environment.plan import plan_environment
from ci.images.building import Builder
from ci.matrix.arch import Arch
from ci.matrix.model import Matrix
from ci.options import Options

if TYPE_CHECKING:
    from docker.models.containers import Container

DATA = Path(__file__).parent / "data/embedded"
EMBEDDED = f"slurm22.05-embedded-debian12-{Arch.host()}"
ROUNDS = int(os.environ.get("PYXIS_MATRIX_IMPORT_ROUNDS", "4"))
"""Sixteen imports each; a larger number is for looking harder than a gate has time for."""

RunScript = Callable[..., list[str]]


@pytest.fixture
def node(engine: Engine, builder: Builder, rows: Matrix, run: str) -> Iterator["Container"]:
    """Return a container of the node image in which no daemon runs."""
    images = builder.build(plan_environment(rows.cell(EMBEDDED), rows, Options(run=run)).images)
    container = engine.api.containers.run(
        images.node.tag,
        ["infinity"],
        entrypoint="sleep",
        init=True,
        detach=True,
        labels=labels(run, EMBEDDED, "component"),
        cap_add=["SYS_ADMIN"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs={"/var/lib/enroot-data": "exec", "/run": "exec"},
    )
    try:
        done = container.exec_run(["sh", "/usr/local/lib/node-entrypoint.d/embedded.sh"])
        assert done.exit_code == 0, str(done.output)
        yield container
    finally:
        container.remove(force=True)


@pytest.fixture
def run_script(node: "Container") -> RunScript:
    """Return a function that runs a script of the data folder as a job's user and returns its lines."""

    def run_script(name: str, *words: str) -> list[str]:
        command = ["python3", "-c", (DATA / name).read_text(encoding="utf-8"), *words]
        done = node.exec_run(command, user="tester", workdir="/tmp")
        assert isinstance(done.output, bytes)
        output = done.output.decode()
        assert done.exit_code == 0, f"{shlex.join([name, *words])}: status {done.exit_code}\n{output}"
        return output.splitlines()

    return run_script


def test_imports_at_once_never_read_what_another_writes(run_script: RunScript) -> None:
    assert run_script("imports.py", str(ROUNDS))[-1] == f"{16 * ROUNDS} imports, 0 failed, 0 files written anew"


def test_steps_of_one_name_at_once_share_one_container(run_script: RunScript) -> None:
    assert run_script("starts.py", "5") == ["8 started in 1"] * 5
