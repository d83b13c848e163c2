"""Sessions on a cluster that exists, by a real bash there: what one has is not another's, and what was killed goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import signal

import msgspec
import pytest

from ci.cli.main import main
from ci.engine import labels
from ci.environment import ssh
from ci.errors import SelectionError, SiteError, TeardownError
from ci.options import Options
from ci.record import store
from ci.record.outcomes import Outcome
from ci.site import observing, running
from ci.site.running import Site, reached, take_down
from ci.site.target import SiteTarget
from ci.terminal import signals
from ci.terminal.processes import Completed
from tests.support import results as made
from tests.support.login_node import ENROOT, PYXIS, SLURM, LoginNode

RUN, SUITE = "ci-77", "pyxis_conformance"
PHASES = ("setup", "call", "teardown")
BLUE = SiteTarget(host="h", name="blue")
OPTIONS = Options(run=RUN)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoginNode:
    """Return the login node that all hosts are, and have a cache of the test's own."""
    node = LoginNode(tmp_path / "there")

    @contextmanager
    def connect(login: object) -> Iterator[LoginNode]:
        if getattr(login, "host", "") == "dead":
            raise SiteError("the login node was not reached")
        yield node

    monkeypatch.setattr(ssh, "connect", connect)
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("PYXIS_MATRIX_RUN", raising=False)
    return node


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes all that follows another machine's."""
    return lambda: monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "another cache"))


def folder(there: LoginNode) -> Path:
    return there.home / "pyxis-matrix" / RUN


def begun(target: SiteTarget = BLUE) -> Site:
    """Begin a session, which nothing ends: as one that was killed, it leaves all that it has but its lock."""
    with reached(target, OPTIONS, ()) as site:
        site.taking_down.pop_all()
    return site


def refused(target: SiteTarget = BLUE) -> SelectionError:
    with pytest.raises(SelectionError) as caught, reached(target, OPTIONS, ()):
        pass
    return caught.value


def test_what_is_seen_is_told_by_the_nodes_own_programs_and_files(there: LoginNode) -> None:
    with reached(BLUE, OPTIONS, ()) as site:
        assert {axis: site.seen.versions[axis] for axis in ("slurm", "enroot", "pyxis")} == {
            "slurm": SLURM,
            "enroot": ENROOT,
            "pyxis": PYXIS,
        }
        assert folder(there).is_dir()
    assert not folder(there).exists()


def test_containers_are_looked_for_on_every_node_that_is_used(there: LoginNode) -> None:
    (there.home / "bin/sinfo").write_text("#!/bin/sh\nprintf '%s idle all*\\n' n1 n2\n", encoding="utf-8")
    with reached(BLUE, OPTIONS, ()) as site:
        assert site.seen.nodes == ("n1", "n2")
        assert (folder(there) / ".nodes").read_text(encoding="utf-8") == "n1 n2\n"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b"v0.19.0\0", "0.19.0"),
        (b"v0.19.0\0GCC 10.2.1 12.0.4", "0.19.0"),
        (b"v10.2.1", ""),
        (b"v0.2.1.4", ""),
        (b"v0.2.100", ""),
        (b"v0.19.0\0v0.20.0", ""),
        (b"v0.19.0v0.20.0", ""),
        (b"nothing", ""),
    ],
)
def test_a_plugins_version_is_a_whole_number_and_the_only_one(there: LoginNode, text: bytes, version: str) -> None:
    (there.home / "spank_pyxis.so").write_bytes(text)
    said = there.run(observing._VERSIONS).stdout  # noqa: SLF001 - its own language
    assert observing._pairs(said)["pyxis"] == version  # noqa: SLF001


def test_a_run_that_is_in_progress_from_elsewhere_is_left_alone(
    there: LoginNode, elsewhere: Callable[[], None]
) -> None:
    with reached(BLUE, OPTIONS, ()):
        (folder(there) / "of the first").touch()
        (there.home / "jobs").write_text(f"1|pyxis-matrix-{RUN}|(null)|/\n", encoding="utf-8")
        elsewhere()
        for _ in range(2):
            error = refused()
            assert error.what == f"run {RUN} is already in progress on the cluster"
            assert f"made by {labels.owner()}, 20" in error.where
            assert f"--down {RUN}" in error.next_step
        assert (folder(there) / "of the first").exists()
        assert not (there.home / "cancelled").exists()
    assert not folder(there).exists()
    assert (there.home / "cancelled").read_text() == "1\n"
    with reached(BLUE, OPTIONS, ()):
        pass


def test_what_was_killed_here_goes_by_itself(there: LoginNode) -> None:
    begun()
    assert folder(there).is_dir()
    with reached(BLUE, Options(run="next"), ()):
        assert not folder(there).exists()
    begun()
    with reached(BLUE, OPTIONS, ()):
        assert folder(there).is_dir()
    assert not folder(there).exists()


def test_what_was_killed_elsewhere_goes_when_it_is_asked_for(there: LoginNode, elsewhere: Callable[[], None]) -> None:
    begun()
    elsewhere()
    refused()
    assert main(["site", "ann@h", "--down", RUN]) == 0
    assert not folder(there).exists()
    with reached(BLUE, OPTIONS, ()):
        pass


def test_what_is_in_progress_here_is_not_taken_down(there: LoginNode) -> None:
    with reached(BLUE, OPTIONS, ()):
        with pytest.raises(SelectionError, match="already in progress"):
            take_down(BLUE, RUN)
        assert folder(there).is_dir()


def test_what_was_refused_and_killed_removes_nothing_of_the_other(
    there: LoginNode, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached(BLUE, OPTIONS, ()):
        elsewhere()
        with monkeypatch.context() as patch:
            patch.setattr(running, "claim", lambda *_: None)  # it was killed before it was told
            begun()
        with reached(BLUE, Options(run="next"), ()):
            pass
        assert folder(there).is_dir()
        refused()
        assert folder(there).is_dir()


def test_a_name_is_that_of_one_cluster(there: LoginNode, tmp_path: Path) -> None:
    begun()
    green = tmp_path / "green.toml"
    green.write_text('host = "green"\nname = "blue"\n', encoding="utf-8")
    error = refused(SiteTarget.of(str(green)))
    assert "the name of another cluster" in error.what
    assert error.where == str(green)
    assert folder(there).is_dir(), "it was not looked for there"
    with reached(BLUE, OPTIONS, ()):
        pass


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def passed(tmp_path: Path) -> Path:
    """Return the file of a result that passed in an earlier attempt of the run."""
    of = made.cell(SLURM, "debian12", ENROOT, PYXIS)
    of = msgspec.structs.replace(of, id=f"{of.id}@blue", site="blue")
    (place,) = made.write(tmp_path / "results", made.result(of, SUITE, run=RUN))
    return place / store.RESULT_FILE


def site(tmp_path: Path, host: str, *more: str) -> int:
    file = tmp_path / "blue.toml"
    file.write_text(f'host = "{host}"\nname = "blue"\n', encoding="utf-8")
    return main(["site", str(file), "--suite", SUITE, "--run", RUN, *more])


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("more", [("dead",), ("h", "--registry", "localhost:1")], ids=["cluster", "registry"])
def test_what_passed_before_does_not_stay_where_the_cluster_is_not_reached(
    passed: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    beside = passed.parents[1] / "pyxis_basic" / store.RESULT_FILE
    beside.parent.mkdir()
    beside.touch()
    assert site(tmp_path, *more) == SiteError.exit_code
    assert not passed.exists()
    assert beside.exists(), "it was not asked for again"


def test_what_can_not_be_removed_is_told_of_the_last_suite(
    there: LoginNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attach(command: list[str], **_: object) -> Completed:
        log = Path(next(it for it in command if it.startswith("--report-log=")).partition("=")[2])
        test = [{"$report_type": "TestReport", "nodeid": "a", "when": it, "outcome": "passed"} for it in PHASES]
        lines = [{"$report_type": "SessionStart"}, *test, {"$report_type": "Selection", "selected": ["a"]}]
        log.write_bytes(b"\n".join(map(msgspec.json.encode, [*lines, {"$report_type": "SessionFinish"}])) + b"\n")
        (there.home / "containers").write_text(f"pyxis_conformance-{RUN}-0a1b2c3d4e5f\n", encoding="utf-8")
        enroot = there.home / "bin" / "enroot"
        enroot.write_text(enroot.read_text().replace("remove)", "never)"), encoding="utf-8")
        return Completed(command=tuple(command), exit_code=0, output="")

    monkeypatch.setattr("ci.terminal.console.attach", attach)
    assert site(tmp_path, "h") == TeardownError.exit_code
    (path,) = (tmp_path / "results").rglob(store.RESULT_FILE)
    kept = store.load(path)
    assert (kept.outcome, kept.exit_code) == (Outcome.ERROR, TeardownError.exit_code)
    assert f"containers: pyxis_conformance-{RUN}-0a1b2c3d4e5f" in kept.reason
    assert [it.outcome for it in kept.tests] == ["passed"]
    assert "! error" in capsys.readouterr().err, "the summary is shown"


_CALLED = {
    "id": """case $1 in -un) echo anna;; *) echo anna blue-lab;; esac""",
    "hostname": """case $1 in -f) echo head03.blue.example.org;; *) echo head03;; esac""",
    "sinfo": """case "$*" in *NODE*) echo NODE n7 n7.ib; echo NODE n1 10.1.2.3;; *%R*) echo long-q;;
*) echo n1 idle all*;; esac""",
    "sacctmgr": """case "$*" in *=ACCOUNT*) echo stf007;; *) echo quick9,normal;; esac""",
}
"""Programs that say what the site is called."""
_NAMES = (
    "anna",
    "head03",
    "blue.example.org",
    "n7",
    "n7.ib",
    "n1",
    "10.1.2.3",
    "long-q",
    "stf007",
    "quick9",
    "blue-lab",
)
_SAID = f"\n{', '.join(_NAMES)} of normal channel n12, an annal\n"


@pytest.mark.parametrize("end", ["failed", "interrupted", "error"])
def test_what_is_kept_has_no_names_however_it_ends(
    there: LoginNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    for name, text in _CALLED.items():
        (there.home / "bin" / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (there.home / "bin" / name).chmod(0o755)

    def attach(command: list[str], **_: object) -> Completed:
        log = Path(next(it for it in command if it.startswith("--report-log=")).partition("=")[2])
        message = f"{_SAID}{there.home}/pyxis-matrix"
        test = {"$report_type": "TestReport", "nodeid": "a", "when": "call", "outcome": "failed", "longrepr": message}
        lines = [{"$report_type": "SessionStart"}, test, {"$report_type": "Selection", "selected": ["a"]}]
        log.write_bytes(b"\n".join(map(msgspec.json.encode, [*lines, {"$report_type": "SessionFinish"}])) + b"\n")
        (log.parent / "logs").mkdir()
        (log.parent / "logs" / "of a test.log").write_text(message, encoding="utf-8")
        if end == "interrupted":
            raise signals.Interrupted(signal.SIGTERM)
        if end == "error":
            raise SiteError(message)
        return Completed(command=tuple(command), exit_code=1, output="")

    monkeypatch.setattr("ci.terminal.console.attach", attach)
    site(tmp_path, "h", "--redact")
    texts = {path.name: path.read_text() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    assert {"result.json", "reportlog.jsonl", "progress.jsonl", "of a test.log"} == texts.keys()
    words = "USER, HOST, DOMAIN, NODE2, NODE2, NODE1, ADDRESS, PARTITION, ACCOUNT, QOS, GROUP"
    words += " of normal channel n12, an annal"
    assert texts["of a test.log"] == f"\n{words}\n/HOME/pyxis-matrix"
    assert f"\\n{words}\\n/HOME/pyxis-matrix" in texts["reportlog.jsonl"]
    for text in texts.values():
        rest = text.replace("annal", "").replace("n12", "")
        assert not [name for name in (*_NAMES, str(tmp_path)) if name in rest]
    (path,) = (tmp_path / "results").rglob(store.RESULT_FILE)
    kept = store.load(path)
    assert kept.outcome == end
    assert [it.name for it in kept.tests] == ["a"]
    assert kept.again.startswith("nox -s site -- FILE --redact --suite")


@pytest.mark.usefixtures("there")
def test_names_that_the_cluster_does_not_tell_are_told_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attach(command: list[str], **_: object) -> Completed:
        return Completed(command=tuple(command), exit_code=1, output="")

    monkeypatch.setattr("ci.terminal.console.attach", attach)
    site(tmp_path, "h", "--redact")
    assert "did not say all of its names; results may have some: NODE" in capsys.readouterr().err
