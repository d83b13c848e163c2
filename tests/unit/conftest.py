"""Unit tests touch nothing outside the process; this file sees to it, and holds what several of them share."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
import os
from pathlib import Path
import socket
import subprocess
import sys
from typing import NoReturn

import asyncssh
import pytest

from ci import errors, paths
from ci.artefacts import checkout
from ci.matrix.loading import Matrix, load
from ci.record.store import Result
from ci.report import writing
from ci.report.merging import ReportRequest
from ci.report.model import Compat, Merged
from tests.support import results as made
from tests.support import rows as of_matrix
from tests.support.compared import compare, known
from tests.support.heeding import signals_are_heeded
from tests.support.held_cells import Programs, Repository
from tests.support.profiles import MakeProfile

# The first is only loaded: it starts ldconfig then, which no test may.
__all__ = ["asyncssh", "compare", "known", "signals_are_heeded"]
SECTIONS = {
    "head": 'schema = 1\narch = ["amd64", "arm64"]',
    "os": '[[os]]\nname = "debian12"\ncodename = "bookworm"\n[[os]]\nname = "debian13"\ncodename = "trixie"',
    "slurm": '[[slurm]]\nversion = "22.05"\nfrom = "packages"\nrequires-os = "debian12"\n'
    '[[slurm]]\nversion = "24.11"\nfrom = "packages"\nrequires-os = "debian13"',
    "enroot": '[[enroot]]\nversion = "3.4.1"\n[[enroot]]\nversion = "4.1.2"',
    "pyxis": '[[pyxis]]\nversion = "0.19.0"\n[[pyxis]]\nversion = "0.24.0"',
    "embedded": "[embedded]",
    "extra": "",
    "groups": '[groups.smoke]\ncells = [{ slurm = "oldest", arch = "host" }]\n[groups.full]\ncells = "all"',
    "subject": '[subject]\nrequirement = "slurm-sdk==0.4.6"',
    "defaults": '[defaults]\ngroup = "smoke"',
}
"""A small, correct matrix.toml, in pieces that a test can replace."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `project_matrix` twice: with the repository's matrix.toml, and with that and more rows."""
    if metafunc.definition.get_closest_marker("project_matrix"):
        metafunc.parametrize("matrix_file", ["as it is", "with more rows"], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def matrix_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Put a fixed sample in the place of matrix.toml, so that no test of logic changes its answer with a new row."""
    kind = getattr(request, "param", "sample")
    file = of_matrix.PROJECT if kind == "as it is" else of_matrix.SAMPLE
    if kind == "with more rows":
        file = tmp_path_factory.mktemp("grown") / "matrix.toml"
        file.write_text(of_matrix.grown(of_matrix.PROJECT.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "MATRIX_FILE", file)
        yield file


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a unit test that starts a program or talks to a socket. A test may put a double in the same place."""

    def refuse(name: str) -> Callable[..., NoReturn]:
        def refused(*_arguments: object, **_options: object) -> NoReturn:
            # pytest's own exception is no Exception, so no handler in the code under test swallows it
            pytest.fail(f"a unit test may not use {name}; replace it, or make this a component test")

        return refused

    # Each plan of a session asks git for this checkout's commit.
    monkeypatch.setattr(checkout, "state_of", lambda _folder: "")
    monkeypatch.delenv(errors.BOOTSTRAP_VARIABLE, raising=False)  # these tests may run behind ci/bootstrap
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse("subprocess"))
    for name in ("system", "posix_spawn", "posix_spawnp", "execv", "execve"):
        monkeypatch.setattr(os, name, refuse(f"os.{name}"))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(f"socket.{name}"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("socket.getaddrinfo"))
    if docker := sys.modules.get("docker"):  # imported later, it still meets the sockets above
        monkeypatch.setattr(docker.APIClient, "__init__", refuse("docker"))


MatrixWriter = Callable[..., Path]
MatrixLoader = Callable[..., Matrix]
Merge = Callable[..., Compat]


@pytest.fixture
def write_matrix(tmp_path: Path) -> MatrixWriter:
    """Write a matrix.toml from `SECTIONS`, with some of them replaced."""

    def write(**replaced: str) -> Path:
        unknown = replaced.keys() - SECTIONS.keys()
        assert not unknown, f"no such section: {unknown}"
        path = tmp_path / "matrix.toml"
        path.write_text("\n".join((SECTIONS | replaced).values()) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def load_matrix(write_matrix: MatrixWriter) -> MatrixLoader:
    """Load a matrix made from `SECTIONS`, with some of them replaced."""
    return lambda **replaced: load(write_matrix(**replaced))


@pytest.fixture
def merge_all(tmp_path: Path) -> Callable[..., Merged]:
    """Return a function that writes results and merges them."""

    def merge(*of: Result, previous: Compat | None = None, rows: Matrix | None = None, length: int = 20) -> Merged:
        made.write(tmp_path / "results", *of)
        asked = ReportRequest(
            roots=(tmp_path / "results",), base=tmp_path / "report", previous=previous, rows=rows, length=length
        )
        return writing.merge(asked, now=lambda: datetime(2026, 12, 1, tzinfo=UTC))

    return merge


@pytest.fixture
def merge(merge_all: Callable[..., Merged]) -> Merge:
    """Return a function that writes results and returns their report."""
    return lambda *of, **more: merge_all(*of, **more).compat


@pytest.fixture
def merged(tmp_path: Path) -> Callable[..., Merged]:
    """Return a function that merges results of several machines; each has a folder of its own."""

    def merge(*machines: list[Result], order: list[int] | None = None, before: Compat | None = None) -> Merged:
        roots = [tmp_path / f"machine-{number}" for number in range(len(machines))]
        for root, of in zip(roots, machines, strict=True):
            made.write(root, *of)
        asked = ReportRequest(
            roots=[roots[it] for it in order or range(len(roots))], base=tmp_path / "report", previous=before
        )
        return writing.merge(asked, now=lambda: datetime(2026, 12, 1, tzinfo=UTC))

    return merge


@pytest.fixture
def make_profile(tmp_path: Path) -> MakeProfile:
    """Return what writes a profile called ``mine``, and returns its path."""

    def write(files: Mapping[str, str]) -> str:
        for name, content in files.items():
            file = tmp_path / "mine" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        return str(tmp_path / "mine")

    return write


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Have doubles of the program that the pytest plugin starts, and no results of elsewhere."""
    found = Programs.of(tmp_path / "program")
    monkeypatch.setattr("subprocess.Popen", found.start)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("PYXIS_MATRIX_RESULTS", raising=False)
    return found


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Repository:
    """Return a repository of others, in which the plugin is loaded."""
    return Repository(pytester)
