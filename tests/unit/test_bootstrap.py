"""What bootstrap plans for each kind of machine, and what it hands over to the command."""

import ast
from dataclasses import replace
import os
from pathlib import Path
import signal

import pytest

from ci.engine.distribution import Distro
from ci.engine.finding import DEFAULT_SOCKET, FoundEngine
from ci.errors import BootstrapError, EngineError, EngineMissingError
from ci.machine import setup
from ci.machine.setup import STAMP, Machine, command_environment, fingerprint, prepare
from ci.machine.steps import REQUIREMENTS, Facts, Kind, Step, plan

BOOTSTRAP = Path(__file__).resolve().parents[2] / "ci" / "bootstrap"
BOOKWORM = Distro(id="debian", release=12, name="Debian 12")
TRIXIE = Distro(id="debian", release=13, name="Debian 13")
UBUNTU = Distro(id="ubuntu", release=24, name="Ubuntu 24.04")
FEDORA = Distro(id="fedora", release=41, name="Fedora 41")
MISSING = EngineMissingError("no container engine found on this machine")
DENIED = EngineError("no permission to talk to the container engine")
NO_CLIENT = EngineError("no docker or podman client on PATH can build images with BuildKit")
READY = Facts(
    platform="linux",
    distro=BOOKWORM,
    root=True,
    systemd=False,
    python="/usr/bin/python3",
    ensurepip=True,
    venv_package="python3.11-venv",
    venv=Path("/repo/.venv"),
    venv_ready=True,
    venv_foreign=False,
    engine=None,
    client=None,
    client_kind="docker",
    dockerd="/usr/sbin/dockerd",
    mmdebstrap=True,
    debian_keyring=True,
    apparmor_parser_missing=False,
)
BARE = replace(
    READY,
    ensurepip=False,
    venv_ready=False,
    engine=MISSING,
    client=NO_CLIENT,
    dockerd=None,
    mmdebstrap=False,
)


def installed(steps: list[Step]) -> list[str]:
    """Return the packages that the plan installs."""
    commands = [command for step in steps for command in step.commands if "install" in command]
    return [word for command in commands if command[0] == "apt-get" for word in command[6:]]


def kinds(steps: list[Step]) -> list[Kind]:
    return [step.kind for step in steps]


def test_nothing_to_do_on_a_machine_that_has_all() -> None:
    assert plan(READY) == []


@pytest.mark.parametrize(
    ("distro", "engine_packages"),
    [
        (BOOKWORM, ["docker.io"]),
        (TRIXIE, ["docker.io", "docker-cli", "docker-buildx"]),
        (UBUNTU, ["docker.io", "docker-buildx"]),
    ],
)
def test_bare_machine_gets_everything_in_order(distro: Distro, engine_packages: list[str]) -> None:
    steps = plan(replace(BARE, distro=distro))
    assert kinds(steps) == [Kind.TRY, Kind.RUN, Kind.ENVIRONMENT, Kind.DAEMON, Kind.WAIT]
    assert installed(steps) == ["python3.11-venv", *engine_packages, "ca-certificates", "mmdebstrap"]
    assert steps[0].commands[0][-1] == "update"
    assert "--no-install-recommends" in steps[1].commands[0]
    assert steps[2].commands[0] == ("/usr/bin/python3", "-m", "venv", "/repo/.venv")
    assert steps[2].commands[1][-len(REQUIREMENTS) :] == REQUIREMENTS
    assert steps[3].commands == (("/usr/sbin/dockerd",),)


def test_systemd_starts_the_engine_where_it_runs() -> None:
    steps = plan(replace(READY, engine=MISSING, systemd=True))
    assert kinds(steps) == [Kind.RUN, Kind.WAIT]
    assert steps[0].commands == (("systemctl", "start", "docker"),)


def test_installed_engine_is_only_started() -> None:
    steps = plan(replace(READY, engine=MISSING))
    assert kinds(steps) == [Kind.DAEMON, Kind.WAIT]


def test_engine_without_a_client_that_builds_gets_the_client_only() -> None:
    steps = plan(replace(READY, distro=TRIXIE, client=NO_CLIENT))
    assert installed(steps) == ["docker-cli", "docker-buildx"]
    assert kinds(steps) == [Kind.TRY, Kind.RUN]


def test_client_of_podman_for_an_engine_of_podman() -> None:
    assert installed(plan(replace(READY, client=NO_CLIENT, client_kind="podman"))) == ["podman"]


def test_apparmor_parser_comes_with_the_engine_where_the_kernel_wants_it() -> None:
    assert "apparmor" in installed(plan(replace(BARE, apparmor_parser_missing=True)))
    assert plan(replace(READY, apparmor_parser_missing=True)) == []  # an engine that answers is left alone


def test_keyring_for_making_base_images_is_supplied() -> None:
    assert installed(plan(replace(READY, distro=UBUNTU, debian_keyring=False))) == ["debian-archive-keyring"]


@pytest.mark.parametrize(
    "facts",
    [
        replace(BARE, root=False),
        replace(BARE, distro=FEDORA),
        replace(BARE, platform="darwin", distro=Distro.parse(None)),
    ],
)
def test_engine_is_not_installed_elsewhere(facts: Facts) -> None:
    with pytest.raises(EngineMissingError):
        plan(facts)


def test_engine_that_the_user_named_is_never_replaced() -> None:
    with pytest.raises(EngineError, match="no permission"):
        plan(replace(BARE, engine=DENIED))


def test_missing_client_without_the_right_to_install_it_is_an_error() -> None:
    with pytest.raises(EngineError, match="no docker or podman client"):
        plan(replace(READY, root=False, client=NO_CLIENT))


def test_ordinary_user_with_an_engine_needs_no_packages() -> None:
    facts = replace(READY, root=False, venv_ready=False, mmdebstrap=False, debian_keyring=False)
    assert kinds(plan(facts)) == [Kind.ENVIRONMENT]


def test_missing_venv_module_for_an_ordinary_user_says_which_package() -> None:
    with pytest.raises(BootstrapError) as caught:
        plan(replace(READY, root=False, venv_ready=False, ensurepip=False))
    assert "apt-get install --no-install-recommends python3.11-venv" in caught.value.next_step


def test_missing_venv_module_of_another_python_can_not_be_installed() -> None:
    with pytest.raises(BootstrapError, match="can't make a virtual environment"):
        plan(replace(READY, venv_ready=False, ensurepip=False, venv_package=None))


def test_folder_of_somebody_else_is_left_alone() -> None:
    with pytest.raises(BootstrapError) as caught:
        plan(replace(READY, venv_ready=False, venv_foreign=True))
    assert caught.value.where == "/repo/.venv"


def test_announcement_shows_the_commands_as_they_can_be_pasted() -> None:
    step = Step(kind=Kind.RUN, title="do it", commands=(("a", "b c"), ("d",)))
    assert str(step) == "do it\n    $ a 'b c'\n    $ d"


def test_command_finds_the_environment_first_and_keeps_the_default_engine() -> None:
    engine = FoundEngine(url=DEFAULT_SOCKET, source="", version="28.0.0", kind="docker")
    env = command_environment({"PATH": "/bin", "PYTHONHOME": "/x"}, Path("/v"), engine)
    assert env == {"PATH": "/v/bin:/bin", "VIRTUAL_ENV": "/v"}


def test_command_is_told_of_an_engine_elsewhere() -> None:
    engine = FoundEngine(url="unix:///run/podman/podman.sock", source="", version="4.3.1", kind="podman")
    assert command_environment({"PATH": "/bin"}, Path("/v"), engine)["DOCKER_HOST"] == engine.url


def test_dry_run_takes_no_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(setup, "look", lambda _env: Machine(facts=BARE, engine=None, client=None))
    monkeypatch.setattr(setup, "_take", lambda *_arguments: pytest.fail("a step was taken"))
    prepare({"PATH": "/bin"}, dry_run=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("bootstrap: would ") == len(plan(BARE))


def test_steps_are_announced_before_they_are_taken_and_the_machine_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = [Machine(facts=BARE, engine=None, client=None), Machine(facts=replace(BARE, engine=None), engine=None,
             client=None)]  # fmt: skip
    announced: list[bool] = []

    def take(step: Step, _env: object) -> None:
        announced.append(step.title in capsys.readouterr().err)

    monkeypatch.setattr(setup, "look", lambda _env: looks.pop(0))
    monkeypatch.setattr(setup, "_take", take)
    with pytest.raises(EngineError, match="no docker or podman client"):  # the second look still lacks one
        prepare({"PATH": "/bin"}, dry_run=False)
    assert announced == [True] * len(plan(BARE))
    assert looks == []


def test_error_becomes_a_message_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = replace(BARE, root=False)
    monkeypatch.setattr(setup, "look", lambda _env: Machine(facts=facts, engine=None, client=None))
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)
    assert setup.run(["nox"]) == 20
    assert "bootstrap: error: no container engine found" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nox", "-s", "x"], ["--", "nox", "-s", "x"]])
def test_command_replaces_the_process(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    started: list[tuple[str, list[str], str]] = []
    machine = Machine(facts=READY, engine=None, client=None)
    monkeypatch.setattr(setup, "look", lambda _env: machine)
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)
    monkeypatch.setenv("PYXIS_MATRIX_VENV", "/v")
    monkeypatch.setattr(os, "execvpe", lambda file, args, env: started.append((file, args, env["PATH"].split(":")[0])))
    setup.run(arguments)
    assert started == [("nox", ["nox", "-s", "x"], "/v/bin")]


@pytest.mark.parametrize(
    ("stamp", "foreign", "ready"), [("incomplete", False, False), ("", True, False), ("ok", False, True)]
)
def test_environment_is_judged_by_its_stamp(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stamp: str,
    foreign: bool,  # noqa: FBT001
    ready: bool,  # noqa: FBT001
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise MISSING

    monkeypatch.setattr(setup, "find_engine", refuse)
    monkeypatch.setattr(setup, "find_build_client", refuse)
    nox = tmp_path / "bin" / "nox"
    nox.parent.mkdir()
    nox.write_text("", encoding="utf-8")
    nox.chmod(0o755)
    if stamp:
        (tmp_path / STAMP).write_text(fingerprint() if stamp == "ok" else stamp, encoding="utf-8")
    facts = setup.look({"PATH": "/bin", "PYXIS_MATRIX_VENV": str(tmp_path)}).facts
    assert (facts.venv_foreign, facts.venv_ready) == (foreign, ready)


def test_bootstrap_can_be_parsed_by_old_pythons_and_started() -> None:
    ast.parse(BOOTSTRAP.read_text(encoding="utf-8"), feature_version=(3, 4))
    assert 'f"' not in BOOTSTRAP.read_text(encoding="utf-8")
    assert os.access(BOOTSTRAP, os.X_OK)
