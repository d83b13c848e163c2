"""What a suite of somebody's own asks of an environment: users, names, wheels; and how it gets to the login node."""

from collections.abc import Iterator
from dataclasses import replace
import io
from pathlib import Path, PurePosixPath
import tarfile
from typing import Any, cast

import pytest

from ci.environment import users
from ci.environment.cluster import Cluster
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.images.plan import JOB_PYTHON
from ci.images.subject import Wheelhouse
from ci.matrix import loading
from ci.matrix.model import SuiteEnvironment
from ci.options import Options
from ci.options.inputs import OwnSuite
from ci.options.values import RunsOn
from ci.session import on_login
from ci.session.handover import facts, login_facts
from tests.support.environments import environment, login

CELL = "slurm22.05-embedded-debian12-amd64"
PASSWORD = "s3cr3t"  # noqa: S105 - made up


def planned(**options: object) -> EnvironmentPlan:
    rows = loading.load()
    return plan_environment(rows.cell(CELL), rows, Options(**options))  # type: ignore[arg-type]


def test_the_user_of_the_image_needs_nothing_to_be_made() -> None:
    for options in (Options(), Options(user="tester", password_file=Path("/x"))):
        assert users.files(options, "x") == {}
        assert users.variables(options) == {}
        assert users.logins(options) == ("tester", "tester2")


def test_another_user_is_made_by_the_entry_scripts_own_hook_and_may_enter() -> None:
    asked = Options(user="alice")
    made = users.files(asked, "pass:word")
    assert users.variables(asked) == {"JOB_USER": "alice"}
    assert users.logins(asked) == ("tester", "tester2", "alice")
    secret = made["/etc/pyxis-matrix/job-user"]
    assert (secret.content, secret.mode) == (b"alice:pass:word\n", 0o600)
    assert made["/etc/ssh/sshd_config.d/06-job-user.conf"].content == b"AllowUsers alice\n"
    assert b"pass:word" not in made["/usr/local/lib/node-entrypoint.d/05-job-user.sh"].content
    assert "/etc/pyxis-matrix/job-user" not in users.files(asked, "")


def test_names_that_were_chosen_stand_in_the_plan() -> None:
    plain, chosen = planned(nodes=2), planned(nodes=2, container_name="theirs", registry_name="registry")
    assert chosen.names.nodes == ("theirs", plain.names.nodes[1].replace(plain.options.run, chosen.options.run))
    # On the nodes `registry` is their own loopback then, and the forwarder must not lead to itself.
    assert (plain.names.registry_hostname, chosen.names.registry_hostname) == ("registry", "image-registry")
    assert planned(registry_name="other").names.registry_hostname == "registry"


def test_nodes_hold_wheels_only_for_who_asks() -> None:
    assert planned().images.node_wheels is None
    assert planned(beside=("numpy",)).images.node_wheels is None  # installed on this machine
    login = planned(on=RunsOn.LOGIN, suite=Path("/theirs"), beside=("numpy",)).images.node_wheels
    assert login
    assert "numpy" in login.beside
    assert any(it.startswith("pytest>=") for it in login.beside)
    asked = planned(node_package=("numpy",)).images.node_wheels
    assert asked
    assert asked.beside == ("numpy", "pip", "setuptools", "wheel")


def test_base_images_hold_wheels_of_the_nodes_packages_for_their_own_python() -> None:
    assert planned(base_image=("python:3.11-slim",)).images.base_wheels is None
    assert planned(node_package=("numpy",)).images.base_wheels is None
    wheels = planned(base_image=("python:3.11-slim",), node_package=("numpy",)).images.base_wheels
    assert wheels
    assert (wheels.python, wheels.editable) == (JOB_PYTHON, False)
    assert wheels.beside == ("numpy", "pip", "setuptools", "wheel")


@pytest.mark.parametrize("cell", [CELL, "slurm24.11-embedded-debian13-amd64"])
def test_a_job_image_of_the_nodes_system_has_its_python(cell: str) -> None:
    """What pickles by value fails where job image and node have other Pythons, and that is no fault of a subject's."""
    rows = loading.load()
    plain, same = (plan_environment(rows.cell(cell), rows, Options(job_image=it)).images for it in ("debian12", "node"))
    assert plain.job
    assert plain.job.wheels
    assert (plain.job.variant, plain.job.wheels.python) == ("debian12-amd64", JOB_PYTHON)
    assert same.job
    assert same.node.wheels
    assert same.job.variant == f"{cell.split('-')[-2]}-amd64"
    assert same.job.parents["BASE_IMAGE"] == same.slurm.parents["BASE_IMAGE"]
    assert same.job.wheels == replace(same.node.wheels, editable=False)
    assert same.registry == plain.registry


def test_a_job_image_has_the_packages_that_were_asked_for() -> None:
    plain, more = (
        planned().images,
        planned(image_package=("cloudpickle",), base_image=("a:b",), node_package=("six",)).images,
    )
    assert plain.job
    assert plain.job.wheels
    assert more.job == replace(plain.job, wheels=replace(plain.job.wheels, beside=("cloudpickle",)))
    assert more.node == plain.node
    assert more.base_wheels
    assert {"cloudpickle", "six"} <= set(more.base_wheels.beside)


@pytest.mark.parametrize(
    ("enroot", "told"),
    [("3.4.1", "localhost:5000#a/job:1"), ("4.0.0", "localhost:5000/a/job:1"), (None, "localhost:5000/a/job:1")],
)
def test_the_job_image_is_told_in_the_form_that_the_cells_enroot_takes(
    launched: Environment, enroot: str | None, told: str
) -> None:
    """Enroot 3 refuses HOST:PORT/NAME, so that an unchanged suite was red on each of its cells."""
    reference = "localhost:5000/a/job:1"
    file = replace(launched.file, enroot=enroot, job_reference=reference)
    found = loading.load().suite_environment.render(facts(replace(launched, file=file)))
    assert (found["JOB_IMAGE"], found["JOB_IMAGE_DOCKER"]) == (told, reference)


def test_a_checkout_is_installed_on_the_login_node_from_its_editable_wheel(tmp_path: Path) -> None:
    plan = planned(on=RunsOn.LOGIN, suite=Path("/theirs"))
    house = Wheelhouse(path=tmp_path, requirements=(), fingerprint="", wheels=())
    assert on_login._requirements(plan, house)[0] == "slurm-sdk==0.4.6"  # noqa: SLF001
    editable = replace(house, editable=tmp_path / "editable/x.whl")
    assert on_login._requirements(plan, editable)[0] == "/home/.wheels/editable/x.whl"  # noqa: SLF001


def test_the_suites_files_belong_to_the_job_user(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "tests/test_x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["pyproject.toml", "tests/test_x.py", "tests/was-removed.py"]
    packed = on_login._archive(tmp_path, names, PurePosixPath("/home/alice/suite/theirs"), (1002, 1003))  # noqa: SLF001
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        entries = archive.getmembers()
    root = "home/alice/suite"
    folders = [root, f"{root}/theirs", f"{root}/theirs/tests"]
    assert [entry.name for entry in entries if entry.isdir()] == folders
    files = {entry.name for entry in entries if entry.isfile()}
    assert files == {f"{root}/theirs/pyproject.toml", f"{root}/theirs/tests/test_x.py"}
    assert {(entry.uid, entry.gid) for entry in entries} == {(1002, 1003)}


def archive_of(*entries: tuple[str, int, int]) -> bytes:
    """Return an archive as the engine gives it: name, age and size of each file, below a top folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, when, size in entries:
            entry = tarfile.TarInfo(f"theirs/{name}")
            entry.mtime, entry.size = when, size
            archive.addfile(entry, io.BytesIO(b"x" * size))
    return buffer.getvalue()


def test_what_the_suite_wrote_comes_back_and_its_own_files_do_not(tmp_path: Path) -> None:
    packed = archive_of(
        ("test_x.py", 100, 1),
        ("slurm-1.out", 200, 1),
        ("sub/log.txt", 201, 1),
        ("core", 200, 11 * 1024**2),
        ("__pycache__/x.pyc", 200, 1),
    )
    left_out = on_login._unpack(iter([packed[:700], packed[700:]]), tmp_path, 200.5)  # noqa: SLF001
    assert left_out == "core (11 MB) left out as too large"
    assert sorted(it.relative_to(tmp_path).as_posix() for it in tmp_path.rglob("*") if it.is_file()) == [
        "slurm-1.out",
        "sub/log.txt",
    ]


class Endless:
    """An archive without an end, of one file that has only zeros; it counts what is read of it."""

    def __init__(self, head: bytes) -> None:
        """Have what comes first."""
        self.read = 0
        self._head = head

    def chunks(self) -> Iterator[bytes]:
        """Yield it."""
        yield self._head
        while True:
            self.read += 65536
            yield bytes(65536)


@pytest.mark.parametrize("since", [0, 200], ids=["results", "the suite's folder"])
def test_a_file_without_an_end_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: int) -> None:
    """Red before: all of the archive was written to a temporary file first."""
    monkeypatch.setattr(on_login, "_MOST_READ", 10 * 1024**2)
    monkeypatch.setattr(on_login, "_MOST_KEPT", 1024**2)
    entry = tarfile.TarInfo("theirs/core")
    entry.mtime, entry.size = 200, 1024**5
    first = archive_of(("slurm-1.out", 200, 1))[:1024]
    endless = Endless(first + entry.tobuf(tarfile.GNU_FORMAT))
    told = on_login._unpack(endless.chunks(), tmp_path, since)  # noqa: SLF001
    assert "the rest is left out" in told
    assert endless.read < 11 * 1024**2
    assert [it.name for it in tmp_path.iterdir()] == ["slurm-1.out"]


@pytest.mark.parametrize(
    ("limits", "kept", "told"),
    [
        ({"_MOST_FILES": 2}, ["a", "b"], "more than 2 files; c and what follows"),
        ({"_MOST_KEPT": 25}, ["a", "b", "d"], "c (0 MB) left out as too large"),
        ({}, ["a", "b", "c", "d"], ""),
    ],
    ids=["files", "bytes", "none"],
)
def test_what_is_too_much_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], kept: list[str], told: str
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(on_login, name, value)
    packed = archive_of(("a", 200, 10), ("b", 200, 10), ("c", 200, 10), ("d", 200, 5))
    assert told in on_login._unpack(iter([packed]), tmp_path, 0)  # noqa: SLF001
    assert sorted(it.name for it in tmp_path.iterdir()) == kept


def test_an_archive_can_not_write_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "results"
    target.mkdir()
    with pytest.raises(tarfile.FilterError):
        on_login._unpack(iter([archive_of(("../../out", 1, 1))]), target, 0)  # noqa: SLF001
    assert list(tmp_path.iterdir()) == [target]


@pytest.fixture
def launched(tmp_path: Path) -> Environment:
    file = environment(
        CELL,
        run="r",
        suite="theirs",
        containers=("theirs",),
        login=login(host="127.0.0.1", port=4711, user="alice", password=PASSWORD, home="/s/home"),
        registry="localhost:5000",
        registry_name="registry:5000",
        results=str(tmp_path),
    )
    return Environment(plan=planned(), file=file, path=tmp_path / "environment.json", cluster=Cluster(nodes=()))


def test_the_suites_password_is_in_no_command_line_on_the_login_node(launched: Environment) -> None:
    suite = OwnSuite(path=Path("/theirs"), project=Path("/theirs"))
    run = on_login.LoginRun(cast("Any", None), launched, suite)
    assert PASSWORD in run._exports()  # noqa: SLF001
    assert PASSWORD not in run._command(["pytest"])  # noqa: SLF001


def test_the_facts_of_the_host_that_do_not_hold_on_the_login_node_are_not_told(
    launched: Environment, tmp_path: Path
) -> None:
    here, there = facts(launched), login_facts(launched, PurePosixPath("/home/alice/.suite-results"))
    assert here.keys() == there.keys() == set(SuiteEnvironment.FACTS)
    assert (here["container"], here["registry-name"], here["results"]) == ("theirs", "registry:5000", str(tmp_path))
    assert {name for name, value in there.items() if value is None and here[name]} == {
        *("private-key", "known-hosts", "container", "environment-file")
    }
    assert (there["host"], there["port"], there["home"]) == ("n1", "22", "/home/alice")
    assert there["results"] == "/home/alice/.suite-results"
