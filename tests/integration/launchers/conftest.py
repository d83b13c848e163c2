"""Fixtures of the suite `launchers`: a launcher, installed on the login node, and the image of its jobs."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import io
import json
from pathlib import Path
import shlex
import tarfile
from typing import Any
import uuid

from packaging.requirements import Requirement
import pytest

from ci.environment_file import EnvironmentFile
from ci.errors import suite_session
from ci.images.subject import wheelhouse
from ci.images.wheels import Target
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from tests.support.behaviours import Ask, Asked, marked_by
from tests.support.cluster import Node, Shell
from tests.support.launchers import asking
from tests.support.launchers.each_launcher import ADAPTERS, requirements
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import push
from tests.support.oci.layers import Layer, Symlink
from tests.support.oci.tiny import TinyImage, new_marker
from tests.support.proof import without_marker
from tests.support.registry_client import RegistryClient

_INSTALL_S = 600.0
_ASK_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a launcher said of one command, and what is in its folder then."""

    folder: str
    said: Mapping[str, Any]
    in_image: bool
    """Whether the command ran in the image, by what only that has."""

    @property
    def failure(self) -> str:
        """How it failed, in the launcher's words; empty where it did not."""
        return str(self.said.get("failure", ""))

    @property
    def lines(self) -> list[str]:
        """What the command wrote, as the launcher hands it on; fails if it has not succeeded in the image."""
        assert self.said.get("status") == 0, f"it failed: {self.said}"
        assert self.in_image, f"it did not run in the image: {self.said}"
        return str(self.said["output"]).splitlines()


@dataclass(frozen=True, kw_only=True)
class LauncherOnNode:
    """A launcher, as it is asked on the login node."""

    name: str
    python: str
    prefix: str
    """The folder of its installation; empty where there is none."""
    shell: Shell
    image: TinyImage
    place: str
    earlier: dict[str, list[Answer]]
    """What was asked before: the same is not asked again."""

    def asked(self, *scripts: str, mounts: tuple[str, ...] = (), **fields: Any) -> list[Answer]:  # noqa: ANN401
        """Have it run scripts, a job's command each, by the image's ``sh``; return what it said of each.

        Each script first leaves a proof of where it ran in its folder, which the answers are told by.

        :param fields: those of `asking.Request` that are not as usual.
        """
        key = repr((self.name, scripts, mounts, fields))
        if key not in self.earlier:
            self.earlier[key] = self._asked(scripts, mounts, fields)
        return self.earlier[key]

    def _asked(self, scripts: Sequence[str], mounts: Sequence[str], fields: Mapping[str, Any]) -> list[Answer]:
        folder = f"{self.place}/{self.name}-{uuid.uuid4().hex[:12]}"
        proven = [f"cat {IMAGE_MARKER} > {folder}/proof-{number}; {it}" for number, it in enumerate(scripts)]
        request = {
            "folder": folder,
            "name": self.name,
            "image": self.image.reference,
            "mounts": [
                "/usr:/usr:ro",
                *(f"{it}:{it}" for it in (folder, self.prefix) if it),
                *(it.format(folder) for it in mounts),
            ],
            "workdir": "",
            "environment": {},
            "commands": [["sh", "-c", it.replace("FOLDER", folder)] for it in proven],
            "cancel": False,
            **fields,
        }
        self.shell.run(f"mkdir -p {folder}/data && cat > {folder}/{asking.REQUEST}", stdin=json.dumps(request))
        words = [self.python, f"{self.place}/asking.py", f"{self.place}/adapters/{ADAPTERS[self.name].name}", folder]
        done = self.shell.run_unchecked(
            f"export PATH={self.prefix}/bin:$PATH; {shlex.join(words)} > {folder}/log 2>&1; cat {folder}/log; "
            f"cat {folder}/{asking.ANSWER}",
            limit=_ASK_S,
        )
        assert done.status == 0, f"the adapter failed: {done}"
        said = json.loads(done.stdout.splitlines()[-1])
        looked = self.shell.run(f"cd {folder}; for n in $(seq 0 {len(scripts) - 1}); do echo $(cat proof-$n); done")
        proofs = looked.stdout.splitlines()
        return [
            Answer(folder=folder, said=it, in_image=proof == self.image.marker)
            for it, proof in zip(said, proofs[: len(said)], strict=True)
        ]


@pytest.fixture(scope="session")
def place(cluster_shell: Shell, environment: EnvironmentFile) -> Iterator[str]:
    """Return a folder on the cluster with the adapters, what asks them, and the launchers' environments."""
    if not environment.accounting:
        pytest.skip(f"launchers ask sacct: {suite_session('launchers', environment.cell, '--accounting')}")
    without_marker(Node.of(environment))
    folder = f"{environment.work}/launchers-{uuid.uuid4().hex[:12]}"
    _copy(cluster_shell, folder, [Path(asking.__file__)])
    # In a folder of their own: Python must not find them in the place of their launchers.
    _copy(cluster_shell, f"{folder}/adapters", [*ADAPTERS.values()])
    yield folder
    cluster_shell.run(f"rm -rf {folder}")


@pytest.fixture(scope="session")
def image(tiny_image: TinyImage, registry_client: RegistryClient) -> TinyImage:
    """Return an image in which the node's own Python runs, and what is installed with it, once ``/usr`` is mounted."""
    marker = new_marker()
    links = {"/lib": Symlink("usr/lib"), "/lib64": Symlink("usr/lib64"), "/bin/bash": Symlink("/usr/bin/bash")}
    image = tiny_image.image.plus(Layer.of({IMAGE_MARKER: f"{marker}\n", **links}))
    pushed = push(registry_client, f"launchers/{marker}", "1", image)
    return TinyImage(reference=pushed.reference, marker=marker, pushed=pushed, image=image)


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    """Return the interpreters that have a launcher, by its name; filled as they are asked for."""
    return {}


@pytest.fixture(scope="session")
def earlier() -> dict[str, list[Answer]]:
    """Return what was asked so far."""
    return {}


@pytest.fixture
def launcher(  # noqa: PLR0913, PLR0917 - fixtures
    request: pytest.FixtureRequest,
    cluster_shell: Shell,
    cell: Cell,
    pythons: dict[str, str],
    image: TinyImage,
    place: str,
    earlier: dict[str, list[Answer]],
) -> LauncherOnNode:
    """Return the launcher that is asked, installed on the login node."""
    name: str = request.param
    if name not in pythons:
        pythons[name] = _installed(name, cluster_shell, cell, place)
    python = pythons[name]
    return LauncherOnNode(
        name=name,
        python=python,
        prefix=python.rpartition("/bin/python")[0],
        shell=cluster_shell,
        image=image,
        place=place,
        earlier=earlier,
    )


@pytest.fixture
def question(request: pytest.FixtureRequest, behaviour: Ask) -> Asked:
    """Return the one question that the test asks."""
    (name,) = marked_by(request.node)
    return behaviour(name)


def _installed(name: str, shell: Shell, cell: Cell, place: str) -> str:
    """Return the interpreter that has a launcher: the subject's, where it is the subject, else one of its own."""
    requires = requirements(ADAPTERS[name])
    if not requires:
        return "python3"
    subject = shell.environment.subject_python
    found = f"import importlib.metadata; print(importlib.metadata.version({Requirement(requires[0]).name!r}))"
    if shell.run_unchecked(f"{subject} -c {shlex.quote(found)}").status == 0:
        return subject
    venv = f"{place}/venv-{name}"
    # By the pip that is there already: to make one takes a minute on a busy machine.
    shell.run(f"python3 -m venv {'--without-pip' if subject else ''} {venv}", limit=_INSTALL_S)
    pip = f"{subject} -m pip --python {venv}/bin/python" if subject else f"{venv}/bin/python -m pip"
    python = shell.run("python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'").stdout.strip()
    target = Target(python=python, arch=Arch(shell.environment.arch), glibc=cell.os.glibc)
    house = wheelhouse(requires, target=target)
    _copy(shell, f"{venv}/wheels", [house.path / it for it in house.wheels])
    pip += " install --quiet --disable-pip-version-check --no-index --no-compile"
    shell.run(f"{pip} --find-links {venv}/wheels {shlex.join(requires)} && rm -r {venv}/wheels", limit=_INSTALL_S)
    return f"{venv}/bin/python"


def _copy(shell: Shell, folder: str, files: list[Path]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for it in files:
            archive.add(it, it.name)
    text = base64.b64encode(buffer.getvalue()).decode()
    shell.run(f"mkdir -p {folder} && base64 --decode | tar --extract --directory {folder}", stdin=text, secret=True)
