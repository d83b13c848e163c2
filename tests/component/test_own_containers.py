"""What a suite of somebody's own asks of a container cell: base images, another name of the registry."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import secrets
import subprocess

import pytest

from ci.engine.connection import Engine
from ci.environment import launching
from ci.environment.launching import Environment
from ci.environment.plan import plan_environment
from ci.errors import SelectionError
from ci.images.building import Builder
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.model import Matrix
from ci.options import Options
from ci.options.inputs import check_registry_name
from ci.terminal.console import Timings
from tests.component.conftest import SUITE, new_run
from tests.component.weather import left_behind
from tests.support.cluster import shell
from tests.support.enroot import enroot_form

Docker = Callable[..., subprocess.CompletedProcess[str]]

_BASE = f"theirs-{secrets.token_hex(4)}:3.11-slim"
_HOSTS = Path("/etc/hosts")


def second_name() -> str:
    """Return a name that leads to this machine's loopback already, as nobody may make one; empty if there is none."""
    lines = [line.partition("#")[0].split() for line in _HOSTS.read_text(encoding="utf-8").splitlines()]
    for name in [name for words in lines for name in words[1:] if name != "localhost"]:
        try:
            check_registry_name(name)
        except SelectionError:
            continue
        return name
    return ""


@pytest.fixture(scope="module")
def up(
    engine: Engine, builder: Builder, rows: Matrix, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Return a container cell of two nodes with all that can be asked for; nothing may be left of it."""
    folder, run = tmp_path_factory.mktemp("run"), new_run()
    options = Options(
        run=run,
        name=SUITE,
        results=folder,
        nodes=2,
        base_image=(_BASE,),
        node_package=("iniconfig",),
        registry_name=second_name(),
    )
    cell = next(cell for cell in rows.cells("smoke", Arch.host()) if cell.runtime is Runtime.EMBEDDED)
    plan = plan_environment(cell, rows, options)
    with launching.launch(engine, plan, builder.build(plan.images), timings=Timings()) as launched:
        yield launched
    assert left_behind(engine.api, run) == []
    assert not engine.image_exists(_BASE)
    if options.registry_name:
        assert engine.names_below(f"{options.registry_name}:") == []


@pytest.fixture
def docker(up: Environment) -> Docker:
    """Return a function that runs the client which suites have first on PATH."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [up.file.engine_client, *words],
            env={**os.environ, **up.file.engine_environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def test_an_image_built_from_a_base_image_gets_the_nodes_packages_and_asks_no_index(
    up: Environment, docker: Docker, tmp_path: Path
) -> None:
    reference = f"{up.file.registry}/theirs/{tmp_path.name}:1"
    tests = "pip install --no-compile iniconfig slurm-sdk && ! pip install six"
    (tmp_path / "Dockerfile").write_text(f"FROM {_BASE}\nRUN {tests}\nRUN useradd somebody\n", encoding="utf-8")
    built = docker("build", "--progress=plain", "--tag", reference, str(tmp_path))
    assert built.returncode == 0, built.stdout
    assert "No matching distribution found for six" in built.stdout
    pushed = docker("push", reference)
    assert pushed.returncode == 0, pushed.stdout
    # In a job, too, and for who is not root.
    job = "python -c 'import iniconfig, slurm' && pip install --target /tmp/t iniconfig && echo has it"
    with shell(up.file) as login:
        done = login.srun("--nodes=2", "sh", "-c", job, image=enroot_form(reference))
    assert done.stdout.splitlines().count("has it") == 2, str(done)


def test_the_registrys_second_name_holds_on_this_machine_and_on_every_node(
    up: Environment, docker: Docker, tmp_path: Path
) -> None:
    if not up.file.registry_name:
        pytest.skip("no second name leads to 127.0.0.1 here: have a line '127.0.0.1 registry' in /etc/hosts")
    assert up.file.job_image
    assert up.file.registry_name.startswith(f"{second_name()}:")
    reference = f"{up.file.registry_name}/theirs/{tmp_path.name}:1"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {up.file.job_image}\nRUN echo {tmp_path.name} > /theirs\n", encoding="utf-8"
    )
    for words in (("build", "--tag", reference, str(tmp_path)), ("push", reference)):
        done = docker(*words)
        assert done.returncode == 0, done.stdout
    with shell(up.file) as login:
        seen = login.srun("--nodes=2", "cat", "/theirs", image=enroot_form(reference))
    assert seen.stdout.splitlines() == [tmp_path.name] * 2, str(seen)
