"""The pytest plugin for the repositories of others, with a double in the place of the program."""

import ast
from pathlib import Path
import sys
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ci.installed import cells, owner
from ci.record import reportlog
from ci.record.outcomes import Outcome
from ci.terminal import signals
from tests.support.held_cells import CLUSTER, EMBEDDED, REAL, Programs, Repository


@pytest.mark.parametrize("module", ["plugin", "cells", "owner"])
def test_it_imports_nothing_of_this_project_and_as_it_is_loaded_nothing_heavy(module: str) -> None:
    path = Path(owner.__file__).with_name(f"{module}.py")
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {it.name for node in nodes if isinstance(node, ast.Import) for it in node.names}
    froms = {(node.module or "", node.level) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {name for name, level in froms if not level}
    beside = {name for name, level in froms if level}
    assert beside <= {"", "cells", "owner"}
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert others <= {"pytest", "packaging", "asyncssh", "slurm"}
    top = [it for it in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(it, ast.Import | ast.ImportFrom)]
    at_once = {it.names[0].name if isinstance(it, ast.Import) else it.module for it in top}
    assert not at_once & {"asyncio", "asyncssh", "packaging.specifiers", "slurm", "difflib", "concurrent.futures"}
    assert module != "plugin" or "owner" not in at_once


def test_where_no_cell_is_asked_for_it_does_nothing_and_says_how_to_ask(
    repository: Repository, programs: Programs
) -> None:
    test = """
        import pytest

        @pytest.mark.pyxis(">=99")
        @pytest.mark.behaviour("none")
        def test_marked(request):
            assert not request.config.pluginmanager.has_plugin("pyxis_matrix_tests")

        def test_with(cluster): ...
    """
    result = repository.run(test)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*no cell was asked for: pytest --cell CELL*"])
    assert not programs.started


def test_no_cell_is_asked_for_by_those_who_leave_it_out(repository: Repository, programs: Programs) -> None:
    result = repository.run("def test(): ...", "-p", "no:ci.installed.plugin", settings=f"cell = {EMBEDDED}")
    result.assert_outcomes(passed=1)
    assert not programs.started


def test_a_test_runs_once_on_each_cell_and_one_without_a_cluster_once(
    repository: Repository, programs: Programs
) -> None:
    test = "def test_with(cluster): print('on', cluster)\ndef test_without(): ..."
    result = repository.run(test, f"--cell={EMBEDDED}", "--cell", REAL, "-s", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"*::test_with?{EMBEDDED}? on {EMBEDDED}", f"*::test_with?{REAL}? on {REAL}"])
    result.stdout.fnmatch_lines([f"cell: {REAL}: slurm 24.11.5, pyxis 0.24.0"])
    assert programs.outcome(EMBEDDED) == (Outcome.PASSED, [f"test_with[{EMBEDDED}]"])
    assert programs.outcome(REAL) == (Outcome.PASSED, [f"test_with[{REAL}]"])


def test_with_one_cell_tests_keep_their_names(repository: Repository, programs: Programs) -> None:
    result = repository.run("def test_with(cluster): ...", settings=f"cell =\n  {EMBEDDED}")
    result.assert_outcomes(passed=1)
    assert programs.outcome(EMBEDDED) == (Outcome.PASSED, ["test_with"])


def test_cells_on_the_command_line_take_the_place_of_those_in_the_settings(
    repository: Repository, programs: Programs
) -> None:
    repository.run("def test_with(cluster): ...", "--cell", REAL, settings=f"cell = {EMBEDDED}").assert_outcomes(
        passed=1
    )
    assert [*programs.started] == [REAL]


def test_a_failure_counts_for_its_cell_only_and_that_of_a_test_without_cluster_for_none(
    repository: Repository, programs: Programs
) -> None:
    test = f"def test_with(cluster): assert cluster == '{REAL}'\ndef test_without(): assert False"
    repository.run(test, "--cell", EMBEDDED, "--cell", REAL).assert_outcomes(passed=1, failed=2)
    assert programs.outcome(EMBEDDED)[0] is Outcome.FAILED
    assert programs.outcome(REAL)[0] is Outcome.PASSED


@pytest.mark.parametrize(
    ("test", "outcome", "names"),
    [
        ("def test_a(cluster): ...\ndef test_b(cluster): assert 0", Outcome.FAILED, ["test_a", "test_b"]),
        ("import pytest\ndef test_a(cluster): pytest.skip('no')", Outcome.SKIPPED, ["test_a"]),
        ("def test_a(): ...", Outcome.FAILED, []),
        (
            "import pytest\ndef test_a(cluster): ...\ndef test_b(cluster): pytest.exit('s', 0)",
            Outcome.INTERRUPTED,
            None,
        ),
        ("def test_a(cluster): raise KeyboardInterrupt", Outcome.INTERRUPTED, ["test_a"]),
        ("import nowhere\ndef test_a(cluster): ...", Outcome.ERROR, None),
        ("def test_a(request): request.getfixturevalue('cluster')", Outcome.PASSED, ["test_a"]),
        ("def test_a(request): request.getfixturevalue('cluster'); assert 0", Outcome.FAILED, ["test_a"]),
    ],
    ids=["failed", "skipped", "no test", "stopped", "ctrl-c", "not read", "found as it ran", "found, and failed"],
)
def test_the_program_judges_what_was_run(
    repository: Repository, programs: Programs, test: str, outcome: Outcome, names: list[str] | None
) -> None:
    repository.run(test, "--cell", EMBEDDED)
    found, ran = programs.outcome(EMBEDDED)
    assert found is outcome, reportlog.read(programs.log(EMBEDDED))
    assert names is None or ran == names


@pytest.mark.parametrize(
    ("words", "part", "deselected"),
    [
        ([], (), 0),
        (["-k", "test_a"], (), 1),
        (["test_the.py"], (), 0),
        (["test_the.py::test_a"], ("test_the.py::test_a",), 0),
        (["test_the.py", "test_other.py"], ("test_the.py", "test_other.py"), 0),
    ],
)
def test_what_is_only_a_part_of_the_suite_is_told(
    repository: Repository, programs: Programs, words: list[str], part: tuple[str, ...], deselected: int
) -> None:
    both = "def test_a(cluster): ...\ndef test_b(cluster): ..."
    repository.pytester.makepyfile(test_the=both, test_other="def test_c(): ...")
    repository.run("", "--cell", EMBEDDED, *words)
    read = reportlog.read(programs.log(EMBEDDED))
    assert (read.part, read.deselected) == (part, deselected)


@pytest.mark.parametrize(
    ("words", "below", "part"),
    [
        (["linked/test_a.py"], "", ("linked/test_a.py",)),
        (["linked"], "", ("linked",)),
        ([".", "linked"], "", (".", "linked")),
        ([], "sub", ("sub",)),
        (["../linked"], "sub", ("../linked",)),
    ],
    ids=["through a link", "a link", "two paths", "below the project", "from below"],
)
def test_no_part_has_the_name_of_the_whole_project(
    repository: Repository, programs: Programs, tmp_path: Path, words: list[str], below: str, part: tuple[str, ...]
) -> None:
    """The red result of all tests stays what the project's name stands for."""
    root, elsewhere = repository.pytester.path, tmp_path / "elsewhere"
    for folder in (elsewhere, root / "sub"):
        folder.mkdir()
        (folder / "test_a.py").write_text("def test_a(cluster): ...", encoding="utf-8")
        (folder / "conftest.py").write_text(dedent(CLUSTER), encoding="utf-8")
    (root / "linked").symlink_to(elsewhere)
    repository.pytester.makeini("[pytest]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / below)
        repository.pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "-p", "ci.installed.plugin", "--cell", EMBEDDED, *words
        )
    name = programs.started[EMBEDDED].words[0]
    found = reportlog.read(programs.log(EMBEDDED))
    assert found.selected
    assert (name, found.part) == ((str(root), part) if part != ("sub",) else (str(root / "sub"), ()))


def test_the_program_is_told_what_was_asked(repository: Repository, programs: Programs) -> None:
    words = [
        "--cell",
        EMBEDDED,
        f"--cell={REAL}",
        "--cell-profile",
        "strict",
        "--cell-keep",
        "--cell-options=--nodes 2",
    ]
    repository.run("def test(cluster): ...", *words, settings="cell_options = --accounting")
    root = repository.pytester.path
    tests, cell, *options = programs.started[EMBEDDED].words
    own, again = options[: options.index("--")], options[options.index("--") + 1 :]
    assert (tests, cell) == (str(root), EMBEDDED)
    assert own == [f"--results={root / 'results'}", "--accounting", "--nodes", "2", "--profile=strict", "--keep"]
    assert again[0] == "pytest"
    assert again[-2:] == ["--cell", EMBEDDED]
    assert REAL not in again
    assert "--run=r1" in programs.started[REAL].words


def test_a_cell_that_does_not_start_is_one_error_and_ends_the_others(
    repository: Repository, programs: Programs
) -> None:
    programs.dead.add(REAL)
    result = repository.run("def test_with(cluster): ...", "--cell", EMBEDDED, "--cell", REAL)
    assert result.ret == 11
    assert f"{REAL} was not started, so no test was run" in result.stderr.str() + result.stdout.str()
    result.stdout.no_fnmatch_line("*collected*")
    assert programs.started[EMBEDDED].stopped


def test_what_goes_wrong_at_the_end_is_the_sessions_exit_code(repository: Repository, programs: Programs) -> None:
    programs.codes[EMBEDDED] = 33
    assert repository.run("def test_with(cluster): ...", "--cell", EMBEDDED).ret == 33


def test_what_is_only_collected_starts_nothing(repository: Repository, programs: Programs) -> None:
    test = "import pytest\n@pytest.mark.pyxis('>=1')\ndef test_with(cluster): ..."
    result = repository.run(test, "--cell", EMBEDDED, "--cell", REAL, "--collect-only", "-q")
    result.stdout.fnmatch_lines([f"*test_with?{EMBEDDED}?", f"*test_with?{REAL}?"])
    assert not programs.started


@pytest.mark.parametrize(
    ("marker", "cell", "reason"),
    [
        ('pyxis(">=0.24")', REAL, ""),
        ('pyxis(">=0.25")', REAL, "its Pyxis is 0.24.0, and the test is for >=0.25"),
        ('pyxis(">=0.19")', EMBEDDED, "it has no Pyxis, and the test is for >=0.19"),
        ('slurm(">=22.05.8", "<23")', EMBEDDED, ""),
        ('slurm("<22.05.8")', EMBEDDED, "its Slurm is 22.05.8, and the test is for <22.05.8"),
        ('enroot("<4")', REAL, "its enroot is 4.1.2, and the test is for <4"),
        ('behaviour("exit-code")', REAL, ""),
        ('behaviour("exit-code", "mounts")', REAL, "mounts is hazard: the file is lost"),
        ("slurm", REAL, ""),
    ],
)
@pytest.mark.parametrize("arguments", ["cluster", ""])
def test_a_marker_skips_what_is_not_for_the_cell(
    repository: Repository, programs: Programs, marker: str, cell: str, reason: str, arguments: str
) -> None:
    test = f"import pytest\n@pytest.mark.{marker}\ndef test_with({arguments}): ..."
    result = repository.run(test, "--cell", cell)
    result.assert_outcomes(passed=not reason, skipped=bool(reason))
    if reason:
        result.stdout.fnmatch_lines([f"SKIPPED * {cell}: {reason}"])
    if "(" in marker:  # it uses the cell, by whatever means
        assert programs.outcome(cell)[1] == ["test_with"]


@pytest.mark.parametrize(
    ("test", "words", "settings", "code"),
    [
        ("import pytest\n@pytest.mark.slurm('==22.05')\ndef test(cluster): ...", [EMBEDDED], "", 1),
        ("import pytest\n@pytest.mark.slurm('==22.05')\ndef test(cluster): ...", [], f"cell = {EMBEDDED}", 1),
        ("import pytest\n@pytest.mark.pyxis('>=0.1')\ndef test(cluster): ...", [EMBEDDED, REAL], "", 1),
        ("def test(): ...", [EMBEDDED], "", 5),
        ("def test(): ...", [], f"cell = {EMBEDDED}", 0),
        ("def test(cluster): ...", [EMBEDDED], "", 0),
    ],
    ids=["skipped", "skipped, by settings", "skipped on one", "not used", "not used, by settings", "passed"],
)
def test_a_cell_on_which_nothing_was_proved_is_no_success(
    repository: Repository, programs: Programs, test: str, words: list[str], settings: str, code: int
) -> None:
    """By itself pytest ends with 0: a specifier that no version ever meets would be green on every cell."""
    named = [word for cell in words for word in ("--cell", cell)]
    result = repository.run(test, *named, settings=settings)
    assert programs.started
    assert result.ret == code
    told = [line for line in result.outlines if "is no success" in line]
    assert told == ([f"the result of {EMBEDDED} is no success (see above), so the exit code is {code}"] if code else [])


@pytest.mark.parametrize(
    ("marker", "why"),
    [
        ('pyxis("0.21 or so")', "Invalid specifier*"),
        ("slurm(23)", "its arguments have to be text"),
        ('behaviour("exit-cod")', "there is no behaviour 'exit-cod'; did you mean 'exit-code'?"),
    ],
)
def test_a_marker_that_means_nothing_is_wrong_usage_that_names_the_test(
    repository: Repository, programs: Programs, marker: str, why: str
) -> None:
    result = repository.run(f"import pytest\n\n@pytest.mark.{marker}\ndef test_with(cluster): ...", "--cell", REAL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = marker.partition("(")[0]
    result.stderr.fnmatch_lines([f"ERROR: *.py:3: @pytest.mark.{name}(*): {why}"])
    assert programs.started[REAL].stdin.said == "4\n"


def test_a_worker_runs_nothing_behind_such_a_marker_and_has_the_main_process_say_it(
    repository: Repository, programs: Programs
) -> None:
    conftest = f"""{CLUSTER}
    def pytest_configure(config):
        config.workeroutput = {{}}

    def pytest_unconfigure(config):
        print("to the main process:", config.workeroutput)
    """
    test = "import pytest\n@pytest.mark.pyxis('x')\ndef test_with(cluster): ..."
    result = repository.run(test, "--cell", REAL, conftest=conftest)
    result.assert_outcomes()
    assert programs.started
    result.stdout.fnmatch_lines(["to the main process:*@pytest.mark.pyxis('x'): Invalid specifier*"])

    config = cast("Any", SimpleNamespace())
    node = SimpleNamespace(workeroutput={cells.KEY: [{}, {}, "it is wrong"]})
    with pytest.raises(pytest.UsageError, match="it is wrong"):
        owner.Owner(config, cells.Tests([]), {}).pytest_testnodedown(node)


def test_a_marker_alone_has_a_test_run_on_each_of_several_cells(repository: Repository, programs: Programs) -> None:
    test = "import pytest\n@pytest.mark.pyxis('>=0.1')\ndef test_with(): ..."
    repository.run(test, "--cell", EMBEDDED, "--cell", REAL).assert_outcomes(passed=1, skipped=1)
    assert programs.outcome(EMBEDDED) == (Outcome.SKIPPED, [f"test_with[{EMBEDDED}]"])
    assert programs.outcome(REAL) == (Outcome.PASSED, [f"test_with[{REAL}]"])


def test_what_slurm_sdk_is_connected_with_is_what_the_program_says(repository: Repository, programs: Programs) -> None:
    test = """
        def test(slurm_pyxis_cluster_config):
            told = slurm_pyxis_cluster_config
            assert told.pop("job_base_dir").startswith("/home/tester/sdk-")
            assert told == {
                "host_key_policy": "reject",
                "hostname": "127.0.0.1",
                "port": 4711,
                "username": "tester",
                "default_packaging_registry": "localhost:5/test/",
            }
    """
    repository.run(test, "--cell", REAL).assert_outcomes(passed=1)
    assert programs.started


@pytest.mark.parametrize("name", ["cluster_shell", "login_node", "registry", "job_image", "slurm_pyxis_cluster"])
def test_the_repositorys_own_fixtures_win(repository: Repository, programs: Programs, name: str) -> None:
    conftest = f"import pytest\n@pytest.fixture\ndef {name}(): return 'ours'"
    result = repository.run(f"def test({name}): assert {name} == 'ours'", "--cell", EMBEDDED, conftest=conftest)
    result.assert_outcomes(passed=1)
    assert programs.outcome(EMBEDDED) == (Outcome.FAILED, [])  # no test of it used the cell


def test_what_the_fixtures_say(repository: Repository, programs: Programs) -> None:
    test = """
        def test(login_node, registry, local_registry, job_image, cluster_shell):
            assert (login_node.host, login_node.port, login_node.user) == ("127.0.0.1", 4711, "tester")
            assert (login_node.key, login_node.known_hosts) == ("/k", "/h")
            assert registry == local_registry == "localhost:5"
            assert job_image == "localhost:5#job:1"
            assert cluster_shell.login == login_node
    """
    repository.run(test, "--cell", EMBEDDED).assert_outcomes(passed=1)
    assert programs.outcome(EMBEDDED)[0] is Outcome.PASSED


def test_with_several_cells_a_fixture_that_is_found_as_the_test_runs_is_refused(
    repository: Repository, programs: Programs
) -> None:
    test = "def test(request): request.getfixturevalue('cluster')"
    result = repository.run(test, "--cell", EMBEDDED, "--cell", REAL)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*has to have the fixtures of its cluster as arguments*"])
    assert len(programs.started) == 2


def test_a_child_ends_with_pytest_and_has_none_of_the_repositorys_packages() -> None:
    command, environ = owner.program("hold")
    assert command[1:] == ["-P", "-m", "ci", "hold"]
    assert environ[signals.PARENT_VARIABLE]
    assert environ["PYTHONPATH"].split(":")[0] == str(Path(owner.__file__).parents[2])
