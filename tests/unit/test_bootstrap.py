"""What bootstrap plans for each kind of machine, and what it hands over to the command."""

import ast
from dataclasses import replace
import os
from pathlib import Path
from typing import TypeGuard

import pytest

from ci.engine.distribution import Distro
from ci.engine.finding import DEFAULT_SOCKET, FoundEngine
from ci.errors import BOOTSTRAP_VARIABLE, BootstrapError, DiskFullError, EngineError, EngineMissingError
from ci.machine import setup, steps, taking, venv
from ci.machine.setup import Machine, command_environment, prepare
from ci.machine.steps import Facts, SetupStep, StepKind
from ci.machine.venv import REQUIREMENTS, STAMP, fingerprint
from ci.terminal.processes import Completed

BOOTSTRAP = Path(__file__).resolve().parents[2] / "ci" / "bootstrap"
BOOKWORM = Distro(id="debian", release=12, name="Debian 12")
TRIXIE = Distro(id="debian", release=13, name="Debian 13")
UBUNTU = Distro(id="ubuntu", release=24, name="Ubuntu 24.04")
FEDORA = Distro(id="fedora", release=41, name="Fedora 41")
NOTHING = Distro(id="", release=0, name="this system")
MISSING = EngineMissingError("no container engine found on this machine")
DENIED = EngineError("no permission to talk to the container engine")
NO_CLIENT = EngineError("no docker or podman client on PATH can build images with BuildKit")
READY = Facts(
    platform="linux",
    distro=BOOKWORM,
    root=True,
    systemd=False,
    engine=None,
    client=None,
    client_kind="docker",
    dockerd="/usr/sbin/dockerd",
    mmdebstrap=True,
    debian_keyring=True,
    apparmor_parser_missing=False,
)
BARE = replace(READY, engine=MISSING, client=NO_CLIENT, dockerd=None, mmdebstrap=False)
MADE = venv.PythonFacts(
    distro=BOOKWORM,
    root=True,
    python="/usr/bin/python3",
    ensurepip=True,
    package="python3.11-venv",
    venv=Path("/repo/.venv"),
    ready=True,
    foreign=False,
)
TO_MAKE = replace(MADE, ready=False)


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("nox", False),
        ("nox -s tests", False),
        ("nox -s lint types tests", False),
        ("nox -s plan -- --group edges", False),
        ("/x/bin/nox --session lint -- -x pyxis_basic", False),
        ("nox -s report -- --open", False),
        ("nox -s page", False),
        ("nox -s tests component", True),
        ("nox -s pyxis_basic", True),
        ("nox -t smoke -s pyxis_basic", True),
        ("nox -l", True),
        ("python -m ci up x", True),
        ("", True),
    ],
)
def test_an_engine_is_supplied_only_for_what_may_start_something(words: str, *, needed: bool) -> None:
    assert steps.needs_engine(words.split()) is needed


def test_the_sessions_that_need_no_engine_are_those_of_plain_nox() -> None:
    tree = ast.parse((BOOTSTRAP.parents[1] / "noxfile.py").read_text(encoding="utf-8"))
    default = next(ast.literal_eval(it.value) for it in ast.walk(tree) if is_default_sessions(it))
    assert not steps.needs_engine(["nox", "-s", *default])


def is_default_sessions(node: ast.AST) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "nox.options.sessions"


def installed(planned: list[SetupStep]) -> list[str]:
    """Return the packages that the plan installs."""
    commands = [step.command for step in planned if "install" in step.command]
    return [word for command in commands if command[0] == "apt-get" for word in command[6:]]


def kinds(planned: list[SetupStep]) -> list[StepKind]:
    return [step.kind for step in planned]


def test_nothing_to_do_on_a_machine_that_has_all() -> None:
    assert steps.plan(READY) == []
    assert venv.plan(MADE) == []


@pytest.mark.parametrize(
    ("distro", "engine_packages"),
    [
        (BOOKWORM, ["docker.io"]),
        (TRIXIE, ["docker.io", "docker-cli", "docker-buildx"]),
        (UBUNTU, ["docker.io", "docker-buildx"]),
    ],
)
def test_bare_machine_gets_everything_in_order(distro: Distro, engine_packages: list[str]) -> None:
    planned = steps.plan(replace(BARE, distro=distro))
    assert kinds(planned) == [StepKind.TRY, StepKind.RUN, StepKind.DAEMON, StepKind.WAIT]
    assert installed(planned) == [*engine_packages, "ca-certificates", "mmdebstrap"]
    assert planned[0].command[-1] == "update"
    assert "--no-install-recommends" in planned[1].command
    assert planned[2].command == ("/usr/sbin/dockerd",)


def test_the_environment_is_made_with_what_the_noxfile_needs() -> None:
    make, fill = venv.plan(TO_MAKE)
    assert make.command == ("/usr/bin/python3", "-m", "venv", "/repo/.venv")
    assert fill.command[:4] == ("/repo/.venv/bin/python", "-m", "pip", "install")
    assert fill.command[-len(REQUIREMENTS) :] == REQUIREMENTS


def test_root_gets_the_part_of_python_that_debian_packages_apart() -> None:
    planned = venv.plan(replace(TO_MAKE, ensurepip=False))
    assert kinds(planned) == [StepKind.TRY, StepKind.RUN, StepKind.RUN, StepKind.RUN]
    assert installed(planned) == ["python3.11-venv"]


def test_systemd_starts_the_engine_where_it_runs() -> None:
    planned = steps.plan(replace(READY, engine=MISSING, systemd=True))
    assert kinds(planned) == [StepKind.RUN, StepKind.WAIT]
    assert planned[0].command == ("systemctl", "start", "docker")


def test_installed_engine_is_only_started() -> None:
    planned = steps.plan(replace(READY, engine=MISSING))
    assert kinds(planned) == [StepKind.DAEMON, StepKind.WAIT]


def test_engine_without_a_client_that_builds_gets_the_client_only() -> None:
    planned = steps.plan(replace(READY, distro=TRIXIE, client=NO_CLIENT))
    assert installed(planned) == ["docker-cli", "docker-buildx"]
    assert kinds(planned) == [StepKind.TRY, StepKind.RUN]


def test_client_of_podman_for_an_engine_of_podman() -> None:
    assert installed(steps.plan(replace(READY, client=NO_CLIENT, client_kind="podman"))) == ["podman"]


def test_apparmor_parser_comes_with_the_engine_where_the_kernel_wants_it() -> None:
    assert "apparmor" in installed(steps.plan(replace(BARE, apparmor_parser_missing=True)))
    assert steps.plan(replace(READY, apparmor_parser_missing=True)) == []  # an engine that answers is left alone


def test_keyring_for_making_base_images_is_supplied() -> None:
    assert installed(steps.plan(replace(READY, distro=UBUNTU, debian_keyring=False))) == ["debian-archive-keyring"]


@pytest.mark.parametrize(
    "facts",
    [
        replace(BARE, root=False),
        replace(BARE, distro=FEDORA),
        replace(BARE, platform="darwin", distro=NOTHING),
    ],
)
def test_engine_is_not_installed_elsewhere(facts: Facts) -> None:
    with pytest.raises(EngineMissingError):
        steps.plan(facts)


def test_engine_that_the_user_named_is_never_replaced() -> None:
    with pytest.raises(EngineError, match="no permission"):
        steps.plan(replace(BARE, engine=DENIED))


def test_missing_client_without_the_right_to_install_it_is_an_error() -> None:
    with pytest.raises(EngineError, match="no docker or podman client"):
        steps.plan(replace(READY, root=False, client=NO_CLIENT))


def test_ordinary_user_with_an_engine_needs_no_packages() -> None:
    assert steps.plan(replace(READY, root=False, mmdebstrap=False, debian_keyring=False)) == []
    assert len(venv.plan(replace(TO_MAKE, root=False))) == 2


def test_missing_venv_module_for_an_ordinary_user_says_which_package() -> None:
    with pytest.raises(BootstrapError) as caught:
        venv.plan(replace(TO_MAKE, root=False, ensurepip=False))
    assert "apt-get install --no-install-recommends python3.11-venv" in caught.value.next_step


def test_missing_venv_module_of_another_python_can_not_be_installed() -> None:
    with pytest.raises(BootstrapError, match="can't make a virtual environment") as caught:
        venv.plan(replace(TO_MAKE, ensurepip=False, package=None))
    assert "complete Python" in caught.value.next_step


def test_folder_of_somebody_else_is_left_alone() -> None:
    with pytest.raises(BootstrapError) as caught:
        venv.plan(replace(TO_MAKE, foreign=True))
    assert caught.value.where == "/repo/.venv"


def test_announcement_shows_the_commands_as_they_can_be_pasted() -> None:
    assert str(SetupStep(kind=StepKind.RUN, title="do it", command=("a", "b c"))) == "do it\n    $ a 'b c'"
    assert str(SetupStep(kind=StepKind.WAIT, title="wait")) == "wait"


def test_command_finds_the_environment_first_and_keeps_the_default_engine() -> None:
    engine = FoundEngine(url=DEFAULT_SOCKET, version="28.0.0", kind="docker")
    env = command_environment({"PATH": "/bin"}, Path("/v"), engine)
    assert env == {"PATH": "/v/bin:/bin", "VIRTUAL_ENV": "/v", BOOTSTRAP_VARIABLE: "1"}


def test_command_is_told_whether_messages_can_name_plain_nox(tmp_path: Path) -> None:
    """After bootstrap nobody's shell has nox: `up` printed commands that ended with "command not found"."""
    nox = tmp_path / "nox"
    nox.touch(mode=0o755)
    assert BOOTSTRAP_VARIABLE not in command_environment({"PATH": str(tmp_path)}, Path("/v"), None)
    assert BOOTSTRAP_VARIABLE in command_environment({"PATH": "/nowhere"}, Path("/v"), None)


def test_the_systems_folders_are_searched_as_well() -> None:
    assert venv.environment({"PATH": "/sbin:/bin", "PYTHONHOME": "/x"}) == {
        "PATH": "/sbin:/bin:/usr/local/sbin:/usr/sbin"
    }


def test_command_is_told_of_an_engine_elsewhere() -> None:
    engine = FoundEngine(url="unix:///run/podman/podman.sock", version="4.3.1", kind="podman")
    assert command_environment({"PATH": "/bin"}, Path("/v"), engine)["DOCKER_HOST"] == engine.url


def test_dry_run_takes_no_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(setup, "look", lambda _env: Machine(facts=BARE, engine=None, client=None))
    monkeypatch.setattr(setup, "_take", lambda *_arguments: pytest.fail("a step was taken"))
    prepare({"PATH": "/bin"}, dry_run=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("bootstrap: would ") == len(steps.plan(BARE))


def test_steps_are_announced_before_they_are_taken_and_the_machine_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = [Machine(facts=BARE, engine=None, client=None), Machine(facts=replace(BARE, engine=None), engine=None,
             client=None)]  # fmt: skip
    announced: list[bool] = []

    def take(step: SetupStep, _env: object) -> None:
        announced.append(step.title in capsys.readouterr().err)

    monkeypatch.setattr(setup, "look", lambda _env: looks.pop(0))
    monkeypatch.setattr(setup, "_take", take)
    with pytest.raises(EngineError, match="no docker or podman client"):  # the second look still lacks one
        prepare({"PATH": "/bin"}, dry_run=False)
    assert announced == [True] * len(steps.plan(BARE))
    assert looks == []


def test_error_becomes_a_message_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = replace(BARE, root=False)
    monkeypatch.setattr(venv, "look", lambda _env: MADE)
    monkeypatch.setattr(setup, "look", lambda _env: Machine(facts=facts, engine=None, client=None))
    with pytest.raises(SystemExit) as ended:
        setup.run(["nox", "-s", "pyxis_basic"])
    assert ended.value.code == 20
    assert "bootstrap: error: no container engine found" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nox", "-s", "x"], ["--", "nox", "-s", "x"]])
def test_command_replaces_the_process(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    started: list[tuple[str, list[str], str]] = []
    machine = Machine(facts=READY, engine=None, client=None)
    monkeypatch.setattr(venv, "look", lambda _env: MADE)
    monkeypatch.setattr(setup, "look", lambda _env: machine)
    monkeypatch.setenv("PYXIS_MATRIX_VENV", "/v")
    monkeypatch.setattr(os, "execvpe", lambda file, args, env: started.append((file, args, env["PATH"].split(":")[0])))
    setup.run(arguments)
    assert started == [("nox", ["nox", "-s", "x"], "/v/bin")]


def test_an_environment_counts_only_once_it_is_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = replace(TO_MAKE, venv=tmp_path / "venv")
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(venv, "look", lambda _env: facts)
    monkeypatch.setattr(
        taking, "run", lambda step, _env: seen.append((step.title, (facts.venv / STAMP).read_text(encoding="utf-8")))
    )
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/leftover").touch()
    venv.prepare({}, dry_run=False)
    assert [stamp for _, stamp in seen] == ["incomplete\n"] * 2
    assert seen[0][0] == "make the virtual environment"
    assert (facts.venv / STAMP).read_text(encoding="utf-8") == fingerprint()
    assert not (facts.venv / "leftover").exists()


def test_a_place_that_is_not_writable_is_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(venv, "look", lambda _env: replace(TO_MAKE, venv=tmp_path / "file/venv"))
    with pytest.raises(SystemExit) as ended:
        setup.run(["nox"])
    assert ended.value.code == 26
    assert "set PYXIS_MATRIX_VENV to a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stamp", "foreign", "ready"), [("incomplete", False, False), ("", True, False), ("ok", False, True)]
)
def test_environment_is_judged_by_its_stamp(
    tmp_path: Path,
    stamp: str,
    foreign: bool,  # noqa: FBT001
    ready: bool,  # noqa: FBT001
) -> None:
    nox = tmp_path / "bin" / "nox"
    nox.parent.mkdir()
    nox.write_text("", encoding="utf-8")
    nox.chmod(0o755)
    if stamp:
        (tmp_path / STAMP).write_text(fingerprint() if stamp == "ok" else stamp, encoding="utf-8")
    facts = venv.look({"PATH": "/bin", "PYXIS_MATRIX_VENV": str(tmp_path)})
    assert (facts.foreign, facts.ready) == (foreign, ready)


@pytest.mark.parametrize(
    ("output", "error"), [("E: the reason", BootstrapError), ("E: No space left on device", DiskFullError)]
)
def test_a_step_that_fails_shows_what_its_command_said_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, error: type[Exception]
) -> None:
    done = Completed(command=("apt-get", "update"), exit_code=100, output=output)
    monkeypatch.setattr(taking, "run_logged", lambda *_arguments, **_options: done)
    with pytest.raises(error) as caught:
        taking.run(SetupStep(kind=StepKind.RUN, title="refresh", command=done.command), {})
    assert "failed to refresh" in str(caught.value)
    assert output in str(caught.value)
    taking.run(SetupStep(kind=StepKind.TRY, title="refresh", command=done.command), {})
    assert output in capsys.readouterr().err
