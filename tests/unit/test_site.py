"""A cluster that exists (`ci.site`): what names it, what its jobs get, how its results stand apart."""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
from msgspec.structs import replace
import pytest
import requests

from ci import web
from ci.cli.main import main
from ci.engine.credentials import Password
from ci.environment import ssh
from ci.environment_file import Login
from ci.errors import MatrixError, SelectionError, SiteError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.options import Options
from ci.record.outcomes import TestOutcome, TestState
from ci.record.reportlog import ReportLog
from ci.record.store import CellRecord
from ci.report import contradictions, grid
from ci.report.model import Location, kind, parts_of
from ci.session.record import Record
from ci.site import registry, running
from ci.site.cleaning import clean
from ci.site.registry import PasswordLogin
from ci.site.target import SiteTarget
from tests.support.results import cell, result

AXES = {"slurm": "22.05.8", "enroot": "3.4.1", "pyxis": "0.19.0", "os": "rocky9.3", "arch": "amd64"}
RUN = "20261129-200000-abcd"


# -- what names it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ann@login.example.org", ("ann", "login.example.org", 0)),
        ("ann@login:2222", ("ann", "login", 2222)),
        ("alias", ("", "alias", 0)),
        ("ann@[fe80::1]:22", ("ann", "fe80::1", 22)),
    ],
)
def test_an_address(text: str, parts: tuple[str, str, int]) -> None:
    target = SiteTarget.of(text)
    assert (target.user, target.host, target.port) == parts


@pytest.mark.parametrize("text", ["ann@", "a b", "ann@host:99999", "gone.toml", "./site.toml", "ann@host:22:22", ""])
def test_what_is_neither_an_address_nor_a_file(text: str) -> None:
    with pytest.raises(SelectionError, match="neither an address nor a file"):
        SiteTarget.of(text)


def test_a_file_says_what_the_cluster_does_not(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('host = "login"\nport = 2222\nname = "blue"\npyxis = "0.19.0"\nqos = "short"\n', encoding="utf-8")
    target = SiteTarget.of(str(file))
    assert (target.host, target.port, target.name, target.pyxis, target.qos) == (
        "login",
        2222,
        "blue",
        "0.19.0",
        "short",
    )
    assert target.again == f"nox -s site -- {file}"


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        'hosst = "x"\npyxis = "new"\nname = "A B"\nregistry = "r"\nnodelist = "n[1-2]"\nport = -1\n',
        encoding="utf-8",
    )
    with pytest.raises(MatrixError) as caught:
        SiteTarget.of(str(file))
    said = str(caught.value)
    for words in (
        "'host' is missing",
        "hosst",
        "did you mean",
        "no version",
        "hyphens",
        "HOST:PORT",
        "one node",
        "at least 0",
    ):
        assert words in said, said


def test_a_name_tells_no_address_and_is_the_same_each_time() -> None:
    names = {
        SiteTarget.of(text).name for text in ("ann@login.example.org", "ann@login.example.org", "bob@login.example.org")
    }
    assert len(names) == 2
    assert not any("login" in name or "ann" in name for name in names)
    assert "login" not in SiteTarget.of("ann@login.example.org").again


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("localhost:5000", ""),
        ("registry.example.org", ""),
        ("registry.example.org/group/pyxis_tests", "group/pyxis_tests/"),
        ("registry:5000/group", "group/"),
    ],
)
def test_a_registry_of_the_command_line_may_have_a_folder(text: str, folder: str) -> None:
    assert SiteTarget.of("alias").with_registry(text).registry == text
    assert registry.folder_of(text) == folder


@pytest.mark.parametrize("text", ["https://registry.example.org", "group/pyxis", "registry.example.org/Group", "r:1/"])
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(SelectionError, match="is not HOST:PORT/FOLDER"):
        SiteTarget.of("alias").with_registry(text)


def challenged(url: str, realm: str) -> requests.Response:
    """Return an answer that wants a token."""
    answer = requests.Response()
    answer.status_code, answer.request = 401, requests.Request("GET", url).prepare()
    answer.headers["WWW-Authenticate"] = f'Bearer realm="{realm}",service="registry"'
    return answer


def test_no_password_of_a_registry_behind_https_goes_to_a_service_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Session, "get", lambda *_asked, **_how: pytest.fail("the password was sent"))
    login = PasswordLogin("https://registry.example.org/v2/", Password("ann", "secret"))
    sent = login(requests.Request("GET", "https://registry.example.org/v2/").prepare())
    (log_in,) = sent.hooks["response"]
    with pytest.raises(web.WebError, match="would get the password in plain text"):
        log_in(challenged("https://registry.example.org/v2/", "http://auth.example.org/token"))
    assert "secret" not in repr(login)


def test_every_job_gets_what_it_has_to_have(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('host = "h"\npartition = "a b"\naccount = "x"\ntime_limit = "5"\n', encoding="utf-8")
    said = SiteTarget.of(str(file)).prelude(RUN)
    for prefix in ("SBATCH", "SLURM"):
        for words in ("PARTITION='a b'", "ACCOUNT=x", "TIMELIMIT=5", f"JOB_NAME=pyxis-matrix-{RUN}"):
            assert f"{prefix}_{words}" in said
        assert f"{prefix}_QOS" not in said


# -- logging in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "known", "words"),
    [
        (asyncssh.HostKeyNotVerifiable("no"), False, "not known, and an unknown key is never accepted"),
        (asyncssh.HostKeyNotVerifiable("no"), True, "has changed, or another machine answers"),
        (asyncssh.PermissionDenied("no"), False, "the login was refused"),
        (ConnectionRefusedError("no"), False, "was not reached"),
    ],
)
def test_why_a_login_failed(
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    known: bool,
    words: str,
) -> None:
    async def refuses(*_: object, **options: object) -> None:
        assert "known_hosts" not in options
        raise error

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text("", encoding="utf-8")
    monkeypatch.setattr(asyncssh, "match_known_hosts", lambda *_: (["a key"] if known else [], [], []))
    monkeypatch.setattr(asyncssh, "connect", refuses)
    login = Login(
        host="login", port=2222, user="ann", password="", private_key="", known_hosts="", home=str(tmp_path), own=True
    )
    with pytest.raises(SiteError, match=words) as caught, ssh.connect(login):
        pass
    assert caught.value.exit_code == SiteError.exit_code
    assert "ssh -p 2222 ann@login" in caught.value.next_step


# -- results --------------------------------------------------------------------------------------------------------


def record_of(target: SiteTarget, axes: Mapping[str, str | None] = AXES) -> Record:
    site = SimpleNamespace(target=target, seen=SimpleNamespace(cell=Cell.of_site("blue", axes, {}), nodes=("node7",)))
    plan = running.plan_site(site, loading.load(), Options(name="pyxis_basic"))  # type: ignore[arg-type]
    return Record(plan=plan, command=("pytest",))


def test_a_result_has_no_address_and_no_name_of_a_node() -> None:
    record = record_of(SiteTarget.of("ann@login.example.org"))
    record.environment = SimpleNamespace(  # type: ignore[assignment]
        file=SimpleNamespace(nodes=("node7",), site="blue", observed={"slurm": "22.05.8"}), ready={}
    )
    found = record.begun()
    assert found.nodes == ()
    assert found.again == "nox -s site -- USER@HOST --suite pyxis_basic"
    assert found.cell.site == "blue"
    assert contradictions.found_in(found, Path(found.cell_id, "pyxis_basic")) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"site": ""}, "its site is none"), ({"site": "red"}, "its site is red"), ({"profile": "p"}, "its profile is p")],
)
def test_a_site_that_is_not_that_of_the_id_is_a_contradiction(changes: dict[str, str], words: str) -> None:
    of = replace(CellRecord.of(Cell.of_site("blue", AXES, {})), **changes)
    found = contradictions.found_in(result(of), Path(of.id, "pyxis_basic"))
    assert any(words in it for it in found), found


def test_a_site_has_a_table_of_its_own_and_is_counted_apart() -> None:
    plain = cell("22.05", "debian12", "3.4.1", "0.19.0")
    of = CellRecord.of(Cell.of_site("blue", AXES, {}))
    kinds = [kind(it.runtime, Location.of(it), it.apart) for it in (plain, of)]
    assert kinds == ["nvidia", "nvidia, site blue"]
    assert parts_of(kinds[1]) == ("nvidia", "site blue")
    ordered = grid.kinds_in_order([*reversed(kinds), "nvidia, profile strict"])
    assert ordered == ["nvidia", "nvidia, profile strict", kinds[1]]
    table = grid.GridTable(kind=kinds[1], arch="amd64", heads=(), columns=())
    assert table.title == "Real enroot and Pyxis, site blue"
    assert "a cluster that exists, not counted with cells" in table.remark


def test_tests_that_a_site_does_not_allow_are_counted_and_never_make_it_green() -> None:
    tests = (
        TestOutcome(name="a", outcome=TestState.PASSED),
        TestOutcome(name="b", outcome=TestState.NOT_ASKED, message="needs root on a node"),
        TestOutcome(name="c", outcome=TestState.NOT_ASKED, message="needs root on a node"),
    )
    log = ReportLog(tests=tests, selected=("a", "b", "c"))
    assert log.outcome(0) == "partly run"
    assert log.reason(0) == "2 of 3 tests were not asked because they need: 2 root on a node"
    assert ReportLog(tests=tests[1:], selected=("b", "c")).outcome(0) == "skipped"


def test_a_dry_run_lists_what_a_run_does() -> None:
    said = running.rehearsal(SiteTarget.of("ann@login"), ("pyxis_basic",), Options(run=RUN))
    for words in ("log in to login", f"pyxis-matrix/{RUN}", "mksquashfs", "cancel", "SBATCH_JOB_NAME"):
        assert words in said
    assert "push images to r:1" in running.rehearsal(SiteTarget(host="h", registry="r:1"), ("x",), Options(run=RUN))


def test_a_dry_run_takes_nothing_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(running, "take_down", lambda *_: pytest.fail("it removes something"))
    with pytest.raises(SystemExit):
        main(["site", "ann@login", "--down", RUN, "--dry-run"])
    assert "not allowed with" in capsys.readouterr().err


# -- what is taken away at the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "left"),
    [
        (0, "", "", ""),
        (0, "jobs: 1\n", "", "jobs: 1"),
        (1, "", "cd: no home\n", "cd: no home"),
        (-9, "", "", "not known: the shell there ended with status -9"),
    ],
)
def test_a_cluster_is_clean_only_if_it_says_so(status: int, stdout: str, stderr: str, left: str) -> None:
    answer = ssh.RemoteAnswer(command="", status=status, stdout=stdout, stderr=stderr)
    assert clean(SimpleNamespace(run=lambda *_, **__: answer), RUN, "mine") == left  # type: ignore[arg-type]


def test_images_that_the_user_had_of_the_registry_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[object] = []
    engine: Any = SimpleNamespace(
        arch=Arch.AMD64,
        names_below=lambda prefix: [f"{prefix}mine:1"],
        untag=lambda *asked: removed.append(asked),
        tag=lambda *_: None,
        push=lambda _: None,
        build_client=SimpleNamespace(link_into=lambda folder: folder / "docker", environment={}),
    )
    builder = SimpleNamespace(ensure=lambda _: SimpleNamespace(tag="pyxis-matrix/job:1"))
    monkeypatch.setattr(running, "Builder", lambda *_, **__: builder)
    monkeypatch.setattr(running, "sources_of", lambda _: None)
    record = record_of(target := SiteTarget(host="login", registry="r:1"))
    record.plan = dataclasses.replace(record.plan, options=Options(name="pyxis_basic", results=tmp_path))
    seen: Any = SimpleNamespace(
        cell=record.plan.cell, nodes=("n7",), work="/w", versions={}, enroot_data="/d", logs_in_elsewhere=True
    )
    site = running.Site(target=target, seen=seen, login=target.login, state=tmp_path)
    with running.environment_of(site, lambda: engine)(record):
        assert removed == []
    assert removed == [("r:1/", ["r:1/mine:1"])]
