"""What ``ci/bootstrap`` does to a machine: gather the facts, take the planned steps, hand over to the command.

Only the standard library: this runs before anything is installed.
"""

from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import fcntl
import hashlib
import importlib.util
import os
from pathlib import Path
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from types import FrameType
from typing import NoReturn

from ci.engine.build_client import BuildClient, find_build_client
from ci.engine.distribution import Distro
from ci.engine.finding import DEFAULT_SOCKET, FoundEngine, find_engine, read_text
from ci.errors import BootstrapError, DiskFullError, EngineError, PyxisMatrixError, disk_is_full
from ci.machine.steps import REQUIREMENTS, Facts, Kind, Step, plan

ROOT = Path(__file__).resolve().parents[2]
STAMP = ".pyxis-matrix-bootstrap"
"""Written into a virtual environment that bootstrap made; its text tells whether that is complete and up to date."""

_DAEMON_LOG = Path("/var/log/pyxis-matrix-dockerd.log")
_DAEMON_PID = Path("/var/run/docker.pid")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_ENGINE_LIMIT_S = 90
_PID_LIMIT_S = 3
_POLL_S = 0.2
_STOP_LIMIT_S = 60
_LAST_LINES = 15
_INTERRUPTED, _TERMINATED, _NOT_EXECUTABLE, _NOT_FOUND = 130, 143, 126, 127

_EPILOG = """\
The engine is looked for in DOCKER_HOST, the docker context and the usual sockets of Docker and Podman. Where there is
none, and this is root on Debian or Ubuntu, the distribution's is installed and started; elsewhere the commands to run
are printed, and the exit status is 20.

environment:
  PYXIS_MATRIX_VENV    the virtual environment's folder (default: .venv beside this project's noxfile)
  DOCKER_HOST          the engine to use; then no other is looked for, and none is installed
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was found: the facts to plan with, and the engine and client where they are there already."""

    facts: Facts
    engine: FoundEngine | None
    client: BuildClient | None


def run(arguments: list[str]) -> int:
    """Run ``ci/bootstrap``. Returns an exit status; does not return where a command was given and could be started."""
    parser = ArgumentParser(
        prog="ci/bootstrap",
        description="Set this machine up (virtual environment with nox, container engine), then run COMMAND in it.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("command", nargs=REMAINDER, metavar="COMMAND ...", help="for example: nox -s pyxis_basic")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    env = {**os.environ, "PATH": _search_path(os.environ)}
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        with _one_at_a_time(waiting=not options.dry_run):
            machine = prepare(env, dry_run=options.dry_run)
    except PyxisMatrixError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    if options.dry_run:
        if command:
            say(f"would run: {shlex.join(command)}")
        return 0
    if not command:
        say(f"set up; next: ci/bootstrap nox -s pyxis_basic, or put {_venv(env) / 'bin'} on PATH")
        return 0
    return _hand_over(command, command_environment(env, _venv(env), machine.engine))


def prepare(env: Mapping[str, str], *, dry_run: bool) -> Machine:
    """Bring the machine to where commands can run, and return what it has then.

    Raises the error of what can't be supplied, before anything was changed where that could be known.
    """
    machine = look(env)
    steps = plan(machine.facts)
    for step in steps:
        say(f"{'would ' if dry_run else ''}{step}")
        if not dry_run:
            _take(step, env)
    if steps and not dry_run:
        machine = look(env)
        if missing := machine.facts.engine or machine.facts.client:
            raise missing
    if machine.engine and machine.client:
        say(f"engine: {machine.engine.kind} {machine.engine.version} at {machine.engine.url}")
        say(f"client that builds: {machine.client.path} ({machine.client.kind} {machine.client.version})")
    return machine


def look(env: Mapping[str, str]) -> Machine:
    """Gather the facts. Nothing is changed; a second or two at most."""
    engine: FoundEngine | None = None
    client: BuildClient | None = None
    engine_error: EngineError | None = None
    client_error: EngineError | None = None
    try:
        engine = find_engine(env)
    except EngineError as error:
        engine_error = error
    try:
        client = find_build_client(env, engine=engine, kind="docker")
    except EngineError as error:
        client_error = error
    distro = Distro.parse(read_text(Path("/etc/os-release")))
    venv = _venv(env)
    has_parser = shutil.which("apparmor_parser", path=env["PATH"]) is not None
    apparmor = (read_text(Path("/sys/module/apparmor/parameters/enabled")) or "").strip() == "Y"
    facts = Facts(
        platform=sys.platform,
        distro=distro,
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        python=_python(),
        ensurepip=importlib.util.find_spec("ensurepip") is not None,
        venv_package=_venv_package(distro),
        venv=venv,
        venv_ready=read_text(venv / STAMP) == fingerprint() and os.access(venv / "bin/nox", os.X_OK),
        venv_foreign=venv.exists() and not (venv / STAMP).is_file() and (not venv.is_dir() or any(venv.iterdir())),
        engine=engine_error,
        client=client_error,
        client_kind=engine.kind if engine else "docker",
        dockerd=shutil.which("dockerd", path=env["PATH"]),
        mmdebstrap=shutil.which("mmdebstrap", path=env["PATH"]) is not None,
        debian_keyring=_KEYRING.is_file(),
        apparmor_parser_missing=apparmor and not has_parser,
    )
    return Machine(facts=facts, engine=engine, client=client)


def fingerprint() -> str:
    """Return what the stamp of an up-to-date virtual environment reads."""
    parts = [*REQUIREMENTS, sys.base_prefix, f"{sys.version_info[0]}.{sys.version_info[1]}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def command_environment(env: Mapping[str, str], venv: Path, engine: FoundEngine | None) -> dict[str, str]:
    """Return the environment of the given command: the virtual environment first, and the engine that was found."""
    result = {key: value for key, value in env.items() if key != "PYTHONHOME"}
    result["VIRTUAL_ENV"] = str(venv)
    result["PATH"] = f"{venv / 'bin'}{os.pathsep}{env['PATH']}"
    if engine and engine.url != DEFAULT_SOCKET:
        result |= engine.environment
    return result


def say(text: str) -> None:
    """Say something to the person at the terminal; standard output belongs to the command."""
    first, *rest = text.splitlines() or [""]
    sys.stderr.write("\n".join([f"bootstrap: {first}", *rest]) + "\n")
    sys.stderr.flush()


def _take(step: Step, env: Mapping[str, str]) -> None:
    started = time.monotonic()
    match step.kind:
        case Kind.RUN | Kind.TRY:
            for command in step.commands:
                _call(command, env, step.title, must=step.kind is Kind.RUN)
        case Kind.ENVIRONMENT:
            _make_environment(step, env)
        case Kind.DAEMON:
            _start_daemon(step.commands[0], env)
        case Kind.WAIT:
            _wait_for_engine(env)
    say(f"  done in {time.monotonic() - started:.1f} s")


def _make_environment(step: Step, env: Mapping[str, str]) -> None:
    venv = _venv(env)
    try:
        if venv.exists():
            shutil.rmtree(venv)
        venv.mkdir(parents=True)
        # Marked before it is filled: what an interruption leaves behind is recognised as ours, and incomplete.
        (venv / STAMP).write_text("incomplete\n", encoding="utf-8")
        for command in step.commands:
            _call(command, env, step.title, must=True)
        (venv / STAMP).write_text(fingerprint(), encoding="utf-8")
    except OSError as error:
        raise BootstrapError(
            "the virtual environment can't be made",
            where=str(venv),
            why=error.strerror or str(error),
            next_step="set PYXIS_MATRIX_VENV to a folder that you can write to",
        ) from error


def _call(command: tuple[str, ...], env: Mapping[str, str], title: str, *, must: bool) -> None:
    """Run a step's command; its output is kept back and its last lines are shown if it fails."""
    with tempfile.TemporaryFile() as output:
        status = _status(command, {**env, "DEBIAN_FRONTEND": "noninteractive"}, output.fileno())
        if status == 0:
            return
        output.seek(0)
        last = output.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
    why = "\n    ".join([f"exit status {status}; its last lines:", *last])
    if not must:
        say(f"  went on without: {why}")
        return
    kind = DiskFullError if disk_is_full("\n".join(last)) else BootstrapError
    raise kind(
        f"could not {title}",
        where=shlex.join(command),
        why=why,
        next_step="mend what the lines above complain about, and run ci/bootstrap again; it goes on where it stopped",
    )


def _status(command: tuple[str, ...], env: Mapping[str, str], output: int) -> int:
    try:
        # A group of its own, so that an interruption also ends what the command itself started.
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
    except OSError as error:
        os.write(output, f"{command[0]}: {error.strerror}\n".encode())
        return _NOT_FOUND
    try:
        return process.wait()
    except BaseException:
        # Killing apt-get outright would leave dpkg half-way; it is asked to stop, and given time to.
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_STOP_LIMIT_S)
        raise


def _start_daemon(command: tuple[str, ...], env: Mapping[str, str]) -> None:
    if _answers(env) or _daemon_alive():  # installing the package may have started it
        return
    with _DAEMON_LOG.open("ab") as log:
        # A session of its own: Ctrl-C here and the end of this terminal are none of its business.
        subprocess.Popen(
            command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    say(f"  its log: {_DAEMON_LOG}")


def _wait_for_engine(env: Mapping[str, str]) -> None:
    started = time.monotonic()
    while not _answers(env):
        waited = time.monotonic() - started
        # A daemon writes its pid first of all; where there is still none, it died.
        died = waited > _PID_LIMIT_S and not _daemon_alive()
        if died or waited > _ENGINE_LIMIT_S:
            lines = (read_text(_DAEMON_LOG) or "").splitlines()
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
    return pid.isdigit() and (read_text(Path(f"/proc/{pid}/comm")) or "").startswith("dockerd")


def _venv(env: Mapping[str, str]) -> Path:
    return Path(env.get("PYXIS_MATRIX_VENV") or ROOT / ".venv").absolute()


def _python() -> str:
    """Return the Python to make the environment with: never that of an environment, which may be about to go."""
    if sys.prefix == sys.base_prefix:
        return sys.executable
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return str(base) if base.exists() else sys.executable


def _venv_package(distro: Distro) -> str | None:
    if distro.installable and sys.base_prefix == "/usr":
        return f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    return None


def _search_path(env: Mapping[str, str]) -> str:
    """Return PATH with the system's folders, which ``su`` leaves out and apt, dockerd and mmdebstrap need."""
    folders = env.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*folders, *(folder for folder in _SYSTEM_FOLDERS if folder not in folders)])


def _on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)


@contextmanager
def _one_at_a_time(*, waiting: bool) -> Iterator[None]:
    """Keep two bootstraps of one checkout from making the same environment at the same time."""
    lock = os.open(ROOT / "ci", os.O_RDONLY)
    try:
        if waiting:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another ci/bootstrap in this checkout")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


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
