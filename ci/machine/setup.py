"""``ci/bootstrap``: make the virtual environment, install an engine and a client that builds, then start the command.

Only the standard library is used: ``--dry-run`` lists the steps on a machine that has no packages yet.
"""

from argparse import REMAINDER, SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import time

from ci.engine.build_client import BuildClient, find_build_client
from ci.engine.distribution import Distro
from ci.engine.emulation import check, obstacle
from ci.engine.finding import DEFAULT_SOCKET, FoundEngine, find_engine, read_text
from ci.errors import BOOTSTRAP_VARIABLE, INSTALLED, EngineError, set_up, suite_session
from ci.machine import emulation, taking, venv
from ci.machine.steps import Facts, SetupStep, StepKind, needs_browser, needs_engine, plan, plan_browser
from ci.machine.taking import one_at_a_time, reported, say, take_all
from ci.matrix.arch import Arch

_DAEMON_LOG = Path("/var/log/pyxis-matrix-dockerd.log")
_DAEMON_PID = Path("/var/run/docker.pid")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ENGINE_LIMIT_S = 90
_PID_LIMIT_S = 3
_POLL_S = 0.2
_LAST_LINES = 15
# As a shell ends for a command that it can't start.
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


_EPILOG = """\
The engine is looked for in DOCKER_HOST, the docker context and the usual
sockets of Docker and Podman. Where there is none, and this is root on Debian
or Ubuntu, the distribution's is installed and started; elsewhere the commands
to run are printed, and the exit status is 20.

environment:
  PYXIS_MATRIX_VENV    the virtual environment's folder (default: .venv beside
                       this project's noxfile)
  DOCKER_HOST          the engine to use; then no other is looked for, and none
                       is installed
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as it was found: the facts to plan with, and the engine and client if there are any."""

    facts: Facts
    engine: FoundEngine | None
    client: BuildClient | None


def run(arguments: list[str]) -> int:
    """Return an exit status; does not return if a command was given and could be started."""
    options = parse(arguments)
    command, env, dry_run = options.command, venv.environment(os.environ), options.dry_run
    engine: FoundEngine | None = None
    # The lock is let go before the command starts: another bootstrap need not wait hours for that.
    with reported(), one_at_a_time(waiting=not dry_run):
        if not options.without_venv:
            venv.prepare(env, dry_run=dry_run)
        if needs_engine(command):
            engine = prepare(env, dry_run=dry_run).engine
        if needs_browser(command):
            browser = plan_browser(Distro.of_this_machine(), root=os.geteuid() == 0, path=env["PATH"])
            take_all(browser, env, dry_run=dry_run, take=_take)
        if options.emulate:
            _emulate(env, dry_run=dry_run)
    if dry_run:
        if command:
            say(f"would run: {shlex.join(command)}")
        return 0
    folder = venv.place(env)
    if not command:
        plain = "" if options.without_venv else f", or for plain nox: export PATH={folder / 'bin'}:$PATH"
        say(f"set up; next: {'' if INSTALLED else 'ci/bootstrap '}{suite_session('pyxis_basic')}{plain}")
        return 0
    return _hand_over(command, command_environment(env, folder, engine))


def parse(arguments: list[str]) -> Namespace:
    """Return the options of ``ci/bootstrap``: ``dry_run``, ``emulate``, and ``command`` as a list."""
    parser = ArgumentParser(
        prog=set_up(),
        description="Set this machine up (virtual environment with nox, container\nengine), then run COMMAND in it.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,  # ci/bootstrap knows --dry-run by its whole name, too
    )
    parser.add_argument(
        "--emulate", action="store_true", help="also set up an emulator (qemu) for images of the other architecture"
    )
    parser.add_argument("--without-venv", action="store_true", help=SUPPRESS)  # an installed program has one
    parser.add_argument("--dry-run", action="store_true", help="only list the steps")
    parser.add_argument(
        "command", nargs=REMAINDER, metavar="COMMAND ...", help=f"for example: {suite_session('pyxis_basic')}"
    )
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        options.command = options.command[1:]
    return options


def prepare(env: Mapping[str, str], *, dry_run: bool) -> Machine:
    """Install and start what commands need, and return the machine as it is then.

    Raises the error of what can't be installed, if possible before anything was changed.
    """
    machine = look(env)
    steps = plan(machine.facts)
    take_all(steps, env, dry_run=dry_run, take=_take)
    if steps and not dry_run:
        machine = look(env)
        if missing := machine.facts.engine or machine.facts.client:
            raise missing
    if machine.engine and machine.client:
        say(f"engine: {machine.engine.kind} {machine.engine.version} at {machine.engine.url}")
        say(f"client that builds: {machine.client.path} ({machine.client.kind} {machine.client.version})")
    return machine


def _emulate(env: Mapping[str, str], *, dry_run: bool) -> None:
    """Let this machine run code of the other architecture."""
    arch = next(arch for arch in Arch if arch is not Arch.host())
    take_all(emulation.plan(look(env).facts, arch) if obstacle(arch) else (), env, dry_run=dry_run, take=_take)
    if not dry_run:
        check(arch)
        say(f"code of {arch}: emulated")


def look(env: Mapping[str, str]) -> Machine:
    """Gather the facts. Nothing is changed; it takes two seconds at most."""
    engine: FoundEngine | None = None
    client: BuildClient | None = None
    engine_error: EngineError | None = None
    client_error: EngineError | None = None
    try:
        engine = find_engine(env)
    except EngineError as error:
        engine_error = error
    try:
        # Docker, because that is what is installed where no engine answers.
        client = find_build_client(env, engine=engine, kind="docker")
    except EngineError as error:
        client_error = error
    has_parser = shutil.which("apparmor_parser", path=env["PATH"]) is not None
    apparmor = (read_text(Path("/sys/module/apparmor/parameters/enabled")) or "").strip() == "Y"
    facts = Facts(
        platform=sys.platform,
        distro=Distro.of_this_machine(),
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        engine=engine_error,
        client=client_error,
        client_kind=engine.kind if engine else "docker",
        dockerd=shutil.which("dockerd", path=env["PATH"]),
        mmdebstrap=shutil.which("mmdebstrap", path=env["PATH"]) is not None,
        debian_keyring=_KEYRING.is_file(),
        apparmor_parser_missing=apparmor and not has_parser,
    )
    return Machine(facts=facts, engine=engine, client=client)


def command_environment(env: Mapping[str, str], folder: Path, engine: FoundEngine | None) -> dict[str, str]:
    """Return the environment of the given command: the virtual environment first, and the engine that was found."""
    # PATH as it was before: the command's own has nox in any case.
    own = {} if shutil.which("nox", path=env["PATH"]) else {BOOTSTRAP_VARIABLE: "1"}
    result = {**env, **own, "VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{env['PATH']}"}
    # Every client finds the default by itself.
    if engine and engine.url != DEFAULT_SOCKET:
        result |= engine.environment
    return result


def _take(step: SetupStep, env: Mapping[str, str]) -> None:
    match step.kind:
        case StepKind.RUN | StepKind.TRY:
            taking.run(step, env)
        case StepKind.DAEMON:
            _start_daemon(step.command, env)
        case StepKind.WAIT:
            _wait_for_engine(env)


def _start_daemon(command: tuple[str, ...], env: Mapping[str, str]) -> None:
    if _answers(env) or _daemon_alive():  # installing the package may have started it
        return
    with _DAEMON_LOG.open("ab") as log:
        # In a session of its own, so that neither Ctrl-C nor the end of this terminal ends the daemon.
        subprocess.Popen(
            command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    say(f"  its log: {_DAEMON_LOG}")


def _wait_for_engine(env: Mapping[str, str]) -> None:
    started = time.monotonic()
    while not _answers(env):
        waited = time.monotonic() - started
        # A daemon writes its pid file first; if there is none after `_PID_LIMIT_S`, it has ended.
        died = waited > _PID_LIMIT_S and not _daemon_alive()
        if died or waited > _ENGINE_LIMIT_S:
            lines = (read_text(_DAEMON_LOG) or "").splitlines()
            # Without the notes of a start that goes well: what it died of has another level.
            last = [line for line in lines if "level=info" not in line][-_LAST_LINES:]
            raise EngineError(
                "the engine was started, but "
                + ("ended at once" if died else f"did not answer in {_ENGINE_LIMIT_S} s"),
                where=DEFAULT_SOCKET,
                why="\n    ".join(["the last lines of its log:", *last]) if last else "",
                next_step=f"see {_DAEMON_LOG}, or journalctl -u docker where systemd runs it",
            )
        time.sleep(_POLL_S)


def _answers(env: Mapping[str, str]) -> bool:
    try:
        find_engine(env)
    except EngineError:
        return False
    return True


def _daemon_alive() -> bool:
    pid = (read_text(_DAEMON_PID) or "").strip()
    # The file outlives a daemon that was killed, and its number may be another process's.
    return pid.isdigit() and (read_text(Path(f"/proc/{pid}/comm")) or "").startswith("dockerd")


def _hand_over(command: list[str], env: dict[str, str]) -> int:
    say(f"$ {shlex.join(command)}")
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 -- the command takes this process's place, and its signals
    except FileNotFoundError:
        say(f"error: {command[0]}: command not found")
        return _NOT_FOUND
    except OSError as error:
        say(f"error: {command[0]}: {error.strerror}")
        return _NOT_EXECUTABLE
