"""The `enroot`-compatible command line."""

import argparse
from collections.abc import Callable, Sequence
import os
from pathlib import Path
import signal
import sys
import time

from . import VERSION, containers, fetch, mounts, reference, squashfs, step, store
from .failure import Failure
from .settings import load
from .start import Start, enter, execute
from .system import join_namespaces


def _import(arguments: argparse.Namespace) -> None:
    settings = load()
    target = Path(arguments.output or reference.parse(arguments.uri).file_name).absolute()
    _overwrite(target, force=arguments.force or settings.force)
    squashfs.pack(settings, containers.stored_image(settings, arguments.uri, arguments.arch), target)


def _overwrite(target: Path, *, force: bool) -> None:
    if target.exists() and not (force and target.is_file()):
        raise Failure(f"File already exists: {target}")


def _create(arguments: argparse.Namespace) -> None:
    settings = load()
    image = Path(arguments.image).absolute()
    squashfs.check(image)
    name = arguments.name or image.name.removesuffix(".sqsh")
    target = store.rootfs(settings, name)
    if target.exists():
        if not (arguments.force or settings.force):
            raise Failure(f"File already exists: {target}")
        store.remove_tree(target)
    containers.create_from_squashfs(settings, name, image)


def _load(arguments: argparse.Namespace) -> None:
    settings = load()
    name = arguments.name or reference.parse(arguments.uri).file_name.removesuffix(".sqsh")
    target = store.rootfs(settings, name)
    if target.exists():
        if not (arguments.force or settings.force):
            raise Failure(f"File already exists: {target}")
        store.remove_tree(target)
    containers.create_from_image(settings, name, arguments.uri)


def _start(arguments: argparse.Namespace) -> None:
    environment = dict(os.environ)
    for name, wanted in (("ENROOT_REMAP_ROOT", arguments.root), ("ENROOT_ROOTFS_WRITABLE", arguments.rw)):
        if wanted:
            environment[name] = "yes"
    settings = load(environment)
    variables = {}
    for entry in arguments.env:
        name, separator, value = entry.partition("=")
        if not name.isidentifier():
            raise Failure(f"Invalid argument: {entry}")
        variables[name] = value if separator else os.environ.get(name, "")
    wanted = [_mount(entry) for entry in arguments.mount]
    image = Path(arguments.container)
    if image.is_file():
        _start_file(arguments, image.absolute(), variables, wanted)
        return
    name = arguments.container
    rootfs = store.existing(settings, name)
    start = Start(rootfs=rootfs, name=name, command=arguments.command, mounts=wanted, environment=variables)
    # Two starts of one container must not write its files at the same time.
    with store.locked(settings, name):
        variables = enter(settings, start)
    execute(settings, start, variables)


def _start_file(
    arguments: argparse.Namespace,
    image: Path,
    variables: dict[str, str],
    wanted: list[mounts.Entry],
) -> None:
    """Run a squashfs file without a name: unpack, run, remove."""
    settings = load()
    with store.scratch(settings.temporary) as work:
        rootfs = work / "rootfs"
        squashfs.unpack(image, rootfs)
        start = Start(rootfs=rootfs, name=image.name, command=arguments.command, mounts=wanted, environment=variables)
        child = os.fork()
        if child == 0:
            _guard(lambda: execute(settings, start, enter(settings, start)))
            os._exit(1)
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) % 256)


def _mount(text: str) -> mounts.Entry:
    """SRC[:DST[:FSTYPE][:OPTIONS]], as enroot's --mount takes it."""
    source, *rest = text.split(":")
    target = rest[0] if rest else source
    if not source or not target or " " in text:
        raise Failure(f"Invalid argument: {text}")
    return mounts.requested(source, target, rest[-1] if len(rest) > 1 else "")


def _exec(arguments: argparse.Namespace) -> None:
    pid = arguments.pid
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
        directory = os.open(f"/proc/{pid}/cwd", os.O_PATH)
        join_namespaces(pid)
    except OSError as error:
        raise Failure(f"Process not found: {pid} ({error.strerror})") from error
    variables = dict(entry.split("=", 1) for entry in raw.decode(errors="surrogateescape").split("\0") if "=" in entry)
    for entry in arguments.env:
        name, separator, value = entry.partition("=")
        variables[name] = value if separator else os.environ.get(name, "")
    os.fchdir(directory)
    command = arguments.command or [variables.get("SHELL", "/bin/sh")]
    try:
        os.execvpe(command[0], command, variables)  # noqa: S606 - the user's own command
    except OSError as error:
        raise Failure(f"failed to execute: {command[0]}: {error.strerror}") from error


def _export(arguments: argparse.Namespace) -> None:
    settings = load()
    target = Path(arguments.output or f"{arguments.name}.sqsh").absolute()
    _overwrite(target, force=arguments.force or settings.force)
    containers.export(settings, arguments.name, target)


def _remove(arguments: argparse.Namespace) -> None:
    settings = load()
    for name in arguments.names:
        rootfs = store.existing(settings, name)
        if not (arguments.force or settings.force):
            answer = input(f"Do you really want to delete {rootfs}? [y/N] ") if sys.stdin.isatty() else "n"
            if answer.lower() != "y":
                continue
        store.remove_tree(rootfs)


def _list(arguments: argparse.Namespace) -> None:
    settings = load()
    names = store.names(settings)
    if not arguments.fancy:
        sys.stdout.writelines(f"{name}\n" for name in names)
        return
    running = store.running(settings)
    rows = [["NAME", "PID", "COMM", "STATE", "STARTED", "TIME", "MNTNS", "USERNS", "COMMAND"]]
    for name in names:
        described = [row for process in running.get(name, []) if (row := _process(process))]
        rows += [[name if number == 0 else "", *row] for number, row in enumerate(described)] or [[name]]
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False))
        sys.stdout.write(line.rstrip() + "\n")


def _process(process: int) -> list[str]:
    """One process' columns of `list -f`; empty when it is gone."""
    folder = Path(f"/proc/{process}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        age = uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        started = time.strftime("%H:%M", time.localtime(time.time() - age))
        elapsed = f"{int(age) // 60:02}:{int(age) % 60:02}"
        namespaces = [str((folder / "ns" / kind).readlink()).split("[")[1].rstrip("]") for kind in ("mnt", "user")]
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        comm = (folder / "comm").read_text().strip()
    except (OSError, IndexError):
        return []
    return [str(process), comm, fields[0], started, elapsed, *namespaces, command]


def _digest(arguments: argparse.Namespace) -> None:
    settings = load()
    wanted = fetch.architecture(arguments.arch)
    with store.scratch(settings.temporary) as work:
        sys.stdout.write(f"{fetch.digest(settings, reference.parse(arguments.uri), wanted, work)}\n")


def _info(_: argparse.Namespace) -> None:
    settings = load()
    folders = {"CACHE": settings.cache, "DATA": settings.data, "TEMP": settings.temporary}
    lines = {name: value for name, value in settings.environment.items() if name.startswith("ENROOT_")}
    lines.update({f"ENROOT_{name}_PATH": str(path) for name, path in folders.items()})
    lines["ENROOT_CONFIG_PATH"] = str(settings.configuration)
    lines["ENROOT_VERSION"] = VERSION
    sys.stdout.writelines(f"{name}={value}\n" for name, value in sorted(lines.items()))


def _version(_: argparse.Namespace) -> None:
    sys.stdout.write(f"{VERSION}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="enroot", description="The embedded runtime's stand-in for enroot.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, work: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(work=work)
        return added

    fetched = command("import", _import, "write a registry's image to a squashfs file")
    fetched.add_argument("-a", "--arch", help="architecture as uname names it")
    fetched.add_argument("-o", "--output")
    fetched.add_argument("-f", "--force", action="store_true")
    fetched.add_argument("uri", metavar="docker://IMAGE")
    loaded = command("load", _load, "make a container of a registry's image")
    loaded.add_argument("-n", "--name")
    loaded.add_argument("-f", "--force", action="store_true")
    loaded.add_argument("uri", metavar="docker://IMAGE")
    created = command("create", _create, "make a container of a squashfs file")
    created.add_argument("-n", "--name")
    created.add_argument("-f", "--force", action="store_true")
    created.add_argument("image")
    started = command("start", _start, "run a command in a container")
    started.add_argument("-w", "--rw", action="store_true", help="make the file system writable")
    started.add_argument("-r", "--root", action="store_true", help="be root inside")
    started.add_argument("-m", "--mount", action="append", default=[])
    started.add_argument("-e", "--env", action="append", default=[])
    started.add_argument("container")
    started.add_argument("command", nargs=argparse.REMAINDER)
    executed = command("exec", _exec, "run a command in a running container")
    executed.add_argument("-e", "--env", action="append", default=[])
    executed.add_argument("pid", type=int)
    executed.add_argument("command", nargs=argparse.REMAINDER)
    exported = command("export", _export, "write a container to a squashfs file")
    exported.add_argument("-o", "--output")
    exported.add_argument("-f", "--force", action="store_true")
    exported.add_argument("name")
    listed = command("list", _list, "list containers")
    listed.add_argument("-f", "--fancy", action="store_true", help="and the processes that run in them")
    removed = command("remove", _remove, "delete containers")
    removed.add_argument("-f", "--force", action="store_true", help="without asking")
    removed.add_argument("names", nargs="+")
    digested = command("digest", _digest, "print the digest of a registry's image")
    digested.add_argument("-a", "--arch", help="architecture as uname names it")
    digested.add_argument("uri", metavar="docker://IMAGE")
    command("info", _info, "print the settings in force")
    command("version", _version, "print the version")
    return parser


def _guard(work: Callable[[], None]) -> int:
    """Run it; a user's mistake becomes a line, not a traceback."""
    try:
        work()
    except Failure as failure:
        for number, line in enumerate((str(failure), *failure.details)):
            sys.stderr.write(f"[ERROR] {'' if number == 0 else '  '}{line}\n")
        return 1
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"[ERROR] {error}\n")
        return 1
    return 0


def _step(words: Sequence[str]) -> int:
    try:
        step.run(words)
    except Failure as failure:
        step.say(f"error: {str(failure).removeprefix('error: ')}")
        for line in failure.details:
            step.say(f"    {line}")
        return 1
    except OSError as error:
        step.say(f"error: {error}")
        return 1
    return 0


def _interrupt(number: int, _: object) -> None:
    """Leave through every `finally`, so that nothing half-made stays behind."""
    sys.exit(128 + number)


def main(words: Sequence[str]) -> int:
    """Run one command; returns its exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    if words and words[0] == "step":
        return _step(words[1:])
    arguments = _parser().parse_args(words)
    return _guard(lambda: arguments.work(arguments))
