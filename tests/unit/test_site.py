"""A cluster that exists (`ci.site`): what names it, what it tells, what its jobs get, how its results stand apart."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import asyncssh
from msgspec.structs import replace
from packaging.version import Version
import pytest

from ci.cli.main import main
from ci.environment import ssh
from ci.environment.ssh import RemoteAnswer
from ci.environment_file import Login
from ci.errors import MatrixError, SelectionError, SiteError, VersionMismatchError
from ci.matrix import loading
from ci.matrix.behaviours import version_of
from ci.matrix.cells import Cell, Runtime
from ci.options import Options
from ci.record.outcomes import TestOutcome, TestState
from ci.record.reportlog import ReportLog
from ci.record.store import CellRecord
from ci.report import contradictions, grid
from ci.report.model import Location, kind, parts_of
from ci.session.record import Record
from ci.site import running
from ci.site.observing import SiteFacts, choose, observe
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


def test_a_registry_of_the_command_line_is_an_address() -> None:
    assert SiteTarget.of("alias").with_registry("localhost:5000").registry == "localhost:5000"
    with pytest.raises(SelectionError, match="no HOST:PORT"):
        SiteTarget.of("alias").with_registry("https://registry")


def test_every_job_gets_what_it_has_to_have_and_the_users_own_forms_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('host = "h"\npartition = "a b"\naccount = "x"\ntime_limit = "5"\n', encoding="utf-8")
    said = SiteTarget.of(str(file)).prelude(RUN)
    for prefix in ("SBATCH", "SLURM"):
        for words in ("PARTITION='a b'", "ACCOUNT=x", "TIMELIMIT=5", f"JOB_NAME=pyxis-matrix-{RUN}"):
            assert f"{prefix}_{words}" in said
        assert f"{prefix}_QOS" not in said
    assert "SQUEUE_FORMAT" in said.partition("\n")[0]
    assert said.startswith("unset ")


# -- what it tells --------------------------------------------------------------------------------------------------


class Told:
    """A connection to a cluster that answers as it is told to."""

    def __init__(self, **others: str) -> None:
        """Take what differs from a cluster with everything."""
        job = "arch=x86_64\nkernel=6.1\nos=Rocky Linux 9.3\nsystem=rocky9.3\nenroot=3.4.1\nhome=shared\ndata=/d\n"
        versions = "pyxis=0.19.0\nslurm=slurm-wlm 22.05.8\n"
        self.answers: dict[str, str] = {
            "id -un": "ann\n/home/ann\nlogin1\n",
            "scontrol show config\n": "SLURM_VERSION = 22.05.8\nMinJobAge = 300 sec\nJobRequeue = 1\n",
            "srun --help": "--container-image\n",
            "sinfo": "n1 idle debug*\nn2 idle debug*\n",
            "srun --nodelist=n1": versions + job,
            "srun --nodelist": versions + job,
            "spank_pyxis": versions,
        }
        self.answers |= {name.replace("_", " "): text for name, text in others.items()}
        self.asked: list[str] = []
        self.failing: list[str] = []

    def run(self, command: str, **_: object) -> RemoteAnswer:
        """Answer by the first words that the command has."""
        self.asked.append(command)
        if any(words in command for words in self.failing):
            return RemoteAnswer(command=command, status=1, stdout="", stderr="no room")
        text = next(text for words, text in self.answers.items() if words in f"{command}\n")
        return RemoteAnswer(command=command, status=0, stdout=text, stderr="")


def seen(told: Told, **target: str) -> SiteFacts:
    return observe(told, SiteTarget(host="login", name="blue", **target), RUN)  # type: ignore[arg-type]


def test_what_a_cluster_tells_is_its_cell() -> None:
    found = seen(Told())
    assert found.cell.axes == AXES
    assert found.cell.id == "slurm22.05.8-enroot3.4.1-pyxis0.19.0-rocky9.3-amd64@blue"
    assert dict(found.cell.settings)["jobrequeue"] == "1"
    assert dict(found.cell.settings)["minjobage"] == "300"
    assert (found.nodes, found.logs_in_elsewhere) == (("n1", "n2"), True)
    assert found.work == f"/home/ann/pyxis-matrix/{RUN}"
    assert version_of(found.cell, "pyxis") == Version("0.19.0")


@pytest.mark.parametrize("plugin", ["", "0.18.0 0.19.0"])
@pytest.mark.parametrize("where", ["srun --nodelist=n1", "srun --nodelist"], ids=["first node", "second node"])
def test_a_version_that_a_node_does_not_tell_is_asked_for_and_is_no_observed_one(where: str, plugin: str) -> None:
    told = Told()
    told.answers[where] = told.answers[where].replace("pyxis=0.19.0", f"pyxis={plugin}")
    with pytest.raises(SiteError, match="does not tell its version of pyxis") as caught:
        seen(told)
    assert 'pyxis = "…"' in caught.value.next_step
    found = seen(told, pyxis="0.20.0")
    assert found.cell.axes["pyxis"] == "0.20.0"
    assert found.versions == {
        "arch": "x86_64",
        "kernel": "6.1",
        "os": "Rocky Linux 9.3",
        "slurm": "22.05.8",
        "enroot": "3.4.1",
    }


@pytest.mark.parametrize(
    ("command", "one", "other", "words"),
    [
        ("srun --nodelist", "22.05.8", "22.05.11", "Slurm.*node n2: 22.05.11"),
        ("srun --nodelist=n1", "22.05.8", "22.05.11", "Slurm.*controller: 22.05.8.*node n1: 22.05.11"),
        ("spank_pyxis", "22.05.8", "23.02.1", "Slurm.*login node: 23.02.1"),
        ("srun --nodelist", "0.19.0", "0.20.0", "Pyxis.*node n2: 0.20.0"),
        ("spank_pyxis", "0.19.0", "0.20.0", "Pyxis.*login node: 0.20.0"),
        ("srun --nodelist", "3.4.1", "3.5.0", "enroot.*node n2: 3.5.0"),
        ("srun --nodelist", "rocky9.3", "rocky9.4", "operating system.*node n2: rocky9.4"),
        ("srun --nodelist", "x86_64", "aarch64", "architecture.*node n2: aarch64"),
    ],
)
def test_a_cluster_of_two_versions_is_refused(command: str, one: str, other: str, words: str) -> None:
    told = Told()
    told.answers[command] = told.answers[command].replace(one, other)
    with pytest.raises(SiteError, match=rf"(?s)more than one {words}") as caught:
        seen(told)
    assert "nodelist" in caught.value.next_step


def test_a_second_node_that_runs_no_job_is_not_used() -> None:
    told = Told()
    del told.answers["srun --nodelist"]
    told.failing.append("srun --nodelist=n2")
    assert seen(told).nodes == ("n1",)


def test_a_file_that_says_another_version_than_the_cluster_is_refused() -> None:
    with pytest.raises(VersionMismatchError, match=r"pyxis is 0\.19\.0, not 0\.20\.0"):
        seen(Told(), pyxis="0.20.0")


def test_the_embedded_runtime_has_no_versions_of_enroot_and_pyxis() -> None:
    told = Told()
    for it in ("srun --nodelist=n1", "srun --nodelist"):
        told.answers[it] = told.answers[it].replace("enroot=3.4.1", "enroot=embedded-0.1")
    found = seen(told).cell
    assert found.runtime is Runtime.EMBEDDED
    assert found.id == "slurm22.05.8-embedded-rocky9.3-amd64@blue"


@pytest.mark.parametrize(
    ("command", "answer", "words"),
    [
        ("srun --help", "", "no option --container-image"),
        ("scontrol show config\n", "", "Slurm did not answer"),
        ("sinfo", "", "no node is up"),
        ("srun --nodelist=n1", "arch=x86_64\nhome=\n", "does not have the folder"),
    ],
)
def test_what_is_missing_there(command: str, answer: str, words: str) -> None:
    told = Told()
    told.answers[command] = answer
    with pytest.raises(SiteError, match=words):
        seen(told)


@pytest.mark.parametrize(
    ("listed", "anywhere", "chosen"),
    [
        ("n1 idle a*\nn2 idle a*\nn3 idle a*", False, ("n2", "n1")),
        ("n1 down a*\nn3 mixed a*\nn4 idle* a*\nn5 drained a*", False, ("n3",)),
        ("n1 idle b\nn3 idle a*", False, ("n3",)),
        ("n1 idle b\nn3 down b", True, ("n1",)),
    ],
)
def test_jobs_go_to_nodes_that_are_up_that_of_the_login_first(
    *,
    listed: str,
    anywhere: bool,
    chosen: tuple[str, ...],
) -> None:
    assert choose(listed, "n2", anywhere=anywhere) == chosen


def test_a_node_that_is_named_is_the_only_one() -> None:
    assert seen(Told(), nodelist="n7").nodes == ("n7",)


# -- logging in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "known", "words"),
    [
        (asyncssh.HostKeyNotVerifiable("no"), False, "not known, and none is accepted unseen"),
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
    assert contradictions.of(found, Path(found.cell_id, "pyxis_basic")) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"site": ""}, "its site is none"), ({"site": "red"}, "its site is red"), ({"profile": "p"}, "its profile is p")],
)
def test_a_site_that_is_not_that_of_the_id_is_a_contradiction(changes: dict[str, str], words: str) -> None:
    of = replace(CellRecord.of(Cell.of_site("blue", AXES, {})), **changes)
    found = contradictions.of(result(of), Path(of.id, "pyxis_basic"))
    assert any(words in it for it in found), found


def test_a_site_has_a_table_of_its_own_and_is_counted_apart() -> None:
    plain = cell("22.05", "debian12", "3.4.1", "0.19.0")
    of = CellRecord.of(Cell.of_site("blue", AXES, {}))
    kinds = [kind(it.runtime, Location.of(it), it.apart) for it in (plain, of)]
    assert kinds == ["nvidia", "nvidia, site blue"]
    assert parts_of(kinds[1]) == ("nvidia", "site blue")
    assert grid.in_order([*reversed(kinds), "nvidia, profile strict"]) == ["nvidia", "nvidia, profile strict", kinds[1]]
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
    assert log.reason(0) == "2 of 3 tests were not asked, for they need: 2 root on a node"
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
