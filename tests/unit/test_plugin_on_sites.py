"""The pytest plugin on a cluster that exists (`pytest --cluster`), with a double in the place of the program."""

import pytest

from ci.record import reportlog
from ci.record.outcomes import Outcome, TestState
from tests.support.held_cells import EMBEDDED, GREEN, SITE, Programs, Repository

ADDRESS = "ann@login.example.org"
USES_IT = "def test_with(cluster): print('on', cluster)"


def states(programs: Programs) -> dict[str, tuple[TestState, str]]:
    """Return of each test what came of it, and why."""
    tests = reportlog.read(programs.log(SITE)).tests
    return {test.name.rpartition("::")[2]: (test.outcome, test.message) for test in tests}


def test_it_is_held_as_a_cell_is_and_known_by_the_id_that_the_program_saw(
    repository: Repository, programs: Programs
) -> None:
    result = repository.run(USES_IT, f"--cluster={ADDRESS}", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"cell: {SITE}: slurm 24.11.5, pyxis 0.24.0", f"*on {SITE}*"])
    assert programs.outcome(SITE) == (Outcome.PASSED, ["test_with"])
    assert programs.started[SITE].stdin.said == "0\n"


@pytest.mark.parametrize("settings", ["", f"cell = {EMBEDDED}\ncell_options = --nodes 2"])
def test_the_program_is_told_what_was_asked_and_its_result_not_the_address(
    repository: Repository, programs: Programs, settings: str
) -> None:
    repository.run(USES_IT, "--cluster", ADDRESS, "-v", settings=settings).assert_outcomes(passed=1)
    root = str(repository.pytester.path)
    words = programs.started[SITE].words
    asked, again = words[: words.index("--")], words[words.index("--") + 1 :]
    assert asked == [root, ADDRESS, f"--results={root}/results", "--cluster"]
    assert again[0] == "pytest"
    assert again[-1] == "-v"
    assert not {"--cluster", "--cell", ADDRESS, EMBEDDED} & {*again}
    assert [*programs.started] == [SITE]


def test_a_file_is_looked_for_where_pytest_was_started(repository: Repository, programs: Programs) -> None:
    repository.pytester.makeini("[pytest]")
    below = repository.pytester.mkdir("below")
    (below / "blue.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        words = ("-p", "no:cacheprovider", "-p", "ci.installed.plugin", "--cluster", "blue.toml")
        repository.pytester.runpytest_inprocess(*words)
    assert programs.started[SITE].words[1] == str(below / "blue.toml")


@pytest.mark.parametrize("words", [["--cell", EMBEDDED], ["--cell-group", "smoke"], ["--cell-keep"]])
def test_what_is_for_cells_is_refused_beside_it(repository: Repository, programs: Programs, words: list[str]) -> None:
    result = repository.run(USES_IT, "--cluster", ADDRESS, *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --cluster cannot be used with {words[0]}: *"])
    assert not programs.started


def test_one_that_can_not_be_used_is_one_error(repository: Repository, programs: Programs) -> None:
    programs.dead.add(SITE)
    result = repository.run("def test_a(cluster): ...\ndef test_b(cluster): ...", "--cluster", ADDRESS)
    assert result.ret == 11
    assert f"{ADDRESS} cannot be used, so no test was run" in result.stderr.str() + result.stdout.str()
    result.stdout.no_fnmatch_line("*collected*")


def test_on_several_a_test_runs_once_on_each_in_one_run(repository: Repository, programs: Programs) -> None:
    result = repository.run(USES_IT, "--cluster", ADDRESS, "--cluster", "green", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"*::test_with?{SITE}? *", f"*::test_with?{GREEN}? *"])
    assert [programs.outcome(cell)[0] for cell in (SITE, GREEN)] == [Outcome.PASSED] * 2
    assert "--run=r1" in programs.started[GREEN].words


def test_what_is_only_collected_asks_nobody(repository: Repository, programs: Programs) -> None:
    repository.run(USES_IT, "--cluster", ADDRESS, "--collect-only", "-q").stdout.fnmatch_lines(["*::test_with"])
    assert not programs.started


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ('pyxis(">=0.24")', ""),
        ('pyxis(">=0.25")', "its Pyxis is 0.24.0, and the test is for >=0.25"),
        ('slurm("<24.11.5")', "its Slurm is 24.11.5, and the test is for <24.11.5"),
        ('behaviour("mounts")', "mounts is hazard: the file is lost"),
    ],
)
def test_markers_take_the_versions_that_were_seen_there(
    repository: Repository, programs: Programs, marker: str, reason: str
) -> None:
    repository.run(f"import pytest\n@pytest.mark.{marker}\ndef test_with(): ...", "--cluster", ADDRESS)
    skipped = (TestState.SKIPPED, f"{SITE}: {reason}")
    assert states(programs) == {"test_with": skipped if reason else (TestState.PASSED, "")}


NEEDS = {
    "registry": "a registry",
    "local_registry": "a registry",
    "job_image": "a registry",
    "slurm_pyxis_cluster_config": "a registry",
    "slurm_pyxis_cluster": "a registry",
    "sdk_on_pyxis_cluster": "the subject on the nodes",
}


def test_what_needs_more_than_it_gives_is_not_asked_and_makes_nothing_green(
    repository: Repository, programs: Programs
) -> None:
    tests = [f"def test_{name}({name}): ..." for name in NEEDS]
    assert repository.run("\n".join(tests), "--cluster", ADDRESS).ret == 1
    assert states(programs) == {f"test_{name}": (TestState.NOT_ASKED, f"needs {it}") for name, it in NEEDS.items()}
    assert programs.outcome(SITE)[0] is Outcome.SKIPPED
    programs.log(SITE).unlink()
    assert repository.run("\n".join([*tests, USES_IT]), "--cluster", ADDRESS).ret == 0
    assert programs.outcome(SITE)[0] is Outcome.PARTLY


@pytest.mark.parametrize(
    ("beyond", "why"), [("qos", "jobs of slurm-sdk with qos"), ("", "")], ids=["more than it can say", "nothing more"]
)
def test_with_a_registry_slurm_sdk_is_connected_without_being_on_the_nodes(
    repository: Repository, programs: Programs, monkeypatch: pytest.MonkeyPatch, beyond: str, why: str
) -> None:
    programs.of_a_site |= {"registry": "registry:5000"}
    programs.beyond_the_sdk = beyond
    sdk = repository.pytester.makepyfile(
        slurm="""
        from types import SimpleNamespace
        class Cluster:
            def __init__(self, **told):
                self.told, self.backend = told, SimpleNamespace(close=lambda: None)
    """
    )
    monkeypatch.syspath_prepend(sdk.parent)
    test = """
        def test_it(slurm_pyxis_cluster):
            told = slurm_pyxis_cluster.told
            assert told["job_base_dir"].startswith("/home/ann/pyxis-matrix/r1/sdk-")
            assert (told["hostname"], told["port"], told["username"]) == ("login", 22, "ann")
            assert told["default_packaging_registry"] == "registry:5000/test/"

        def test_image(job_image): ...
    """
    repository.run(test, "--cluster", ADDRESS)
    no_image = (TestState.NOT_ASKED, "needs an engine here that builds for it")
    expected = (TestState.NOT_ASKED, f"needs {why}") if why else (TestState.PASSED, "")
    assert states(programs) == {"test_it": expected, "test_image": no_image}


def test_what_the_other_fixtures_say(repository: Repository, programs: Programs) -> None:
    test = """
        def test(login_node, cluster_shell, pyxis_container, pyxis_matrix_cell):
            assert (login_node.host, login_node.port, login_node.user, login_node.key) == ("login", 0, "ann", "")
            assert cluster_shell.before == "FORGET\\ncd /home/ann/pyxis-matrix/r1 || exit 255\\n"
            assert pyxis_matrix_cell.version("slurm") == "24.11.5"
            base = pyxis_container.pop("job_base_dir")
            assert base.startswith("/home/ann/pyxis-matrix/r1/sdk-")
            assert pyxis_container == {"name": "n7", "hostname": "login", "port": 22, "username": "ann"}
    """
    repository.run(test, "--cluster", ADDRESS).assert_outcomes(passed=1)
    assert programs.started
