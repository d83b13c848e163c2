"""Boots a whole Debian machine and runs the README's commands in it: ``nox -s machine -- --os debian12``.

The machine has systemd, cgroup v2, AppArmor and no Python, under qemu: by KVM where the processor's own is there, else
emulated, which takes more than ten times as long. A clone of this checkout's commit is put into it, and there
``ci/bootstrap`` sets it up and runs ``pyxis_basic`` on embedded cells, and ``legacy_integration`` on legacy ones, of
the oldest and the newest Slurm of its operating system. Images are made by this machine's engine and carried over
(``--build-there``: they are made in it). Each step has its log; the summary has the seconds. Nothing of the machine is
left.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import re
import shutil
import sys
import tempfile
import time

from ci import paths
from ci.engine.connection import connect
from ci.environment.plan import plan_environment
from ci.images.building import Builder, sources_of
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.options import Options, Scope, add_to
from ci.options.values import whole
from ci.terminal import console
from ci.terminal.processes import Completed
from tests.machine.virtual import Size, Virtual, accelerator, check_programs
from tests.support.program import CheckFailedError, free_port, guarded, parser_of

SUITES = {Runtime.EMBEDDED: "pyxis_basic", Runtime.LEGACY: "legacy_integration"}
_COUNTS = re.compile(r"^=+ (.*\b(?:passed|failed|error).*) in [\d.]+s", re.MULTILINE)
_THERE, _MIRROR = "/root/pyxis-matrix", "/root/mirror"


@dataclass(kw_only=True)
class Steps:
    """The steps that were taken; each is a row of the summary."""

    folder: Path
    """Where their logs are."""
    rows: list[tuple[str, float, str]] = field(default_factory=list)

    def take(self, title: str, act: Callable[[Path], str | None]) -> bool:
        """Take a step: ``act`` gets its log and returns what is to be said of it. Tell whether it succeeded.

        A step that can't go on raises; it has its row all the same.
        """
        started, said = time.monotonic(), "interrupted"
        log = self.folder / f"{len(self.rows) + 1}-{re.sub(r'[^a-z0-9.]+', '-', title.lower())}.log"
        try:
            with console.step(title):
                said = act(log) or ""
        except CheckFailedError as error:
            console.fail(error)
            said = f"FAILED: {error.what}"
        except Exception as error:
            said = f"FAILED: {error}".splitlines()[0]
            raise
        finally:
            self.rows.append((title, time.monotonic() - started, said))
        return not said.startswith("FAILED")

    def summary(self) -> str:
        """Return the table."""
        width = max((len(title) for title, _, _ in self.rows), default=0)
        return "".join(f"{title:{width}}  {seconds:7.1f} s  {said}\n" for title, seconds, said in self.rows)


def chosen(matrix: Matrix, system: str) -> list[Cell]:
    """Return the embedded and the legacy cells of the oldest and the newest Slurm that a system has."""
    cells = [it for it in matrix.all_cells(Arch.host()) if it.os.name == system and it.arch is Arch.host()]
    found: list[Cell] = []
    for runtime in SUITES:
        of_kind = sorted((it for it in cells if it.runtime is runtime), key=lambda it: it.slurm.parsed)
        found += dict.fromkeys([*of_kind[:1], *of_kind[-1:]])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Boot a machine, take the steps, say what came; return an exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "what the machine's images asked of it")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("machine", __doc__)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="other embedded or legacy cells than those")
    systems = [it.name for it in loading.load().systems]
    parser.add_argument("--os", choices=systems, default=systems[0], help="what it runs (default: %(default)s)")
    number = whole(1, None, "a number")
    parser.add_argument("--cpus", type=number, default=2, metavar="N", help="its processors (default: 2)")
    parser.add_argument("--memory", type=number, default=4096, metavar="MB", help="its memory (default: 4096)")
    parser.add_argument("--disk", default="24G", metavar="SIZE", help="its disk, a sparse file (default: 24G)")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), metavar="DIR", help="where it is made")
    parser.add_argument("--build-there", action="store_true", help="carry no images over")
    add_to(parser, Scope.IMAGES, Scope.RESULT)
    return parser


def _run(asked: argparse.Namespace) -> int:
    check_programs()
    matrix = loading.load()
    cells = [matrix.cell(it, Arch.host()) for it in asked.cells] or chosen(matrix, asked.os)
    options = Options.of(asked)
    logs = paths.make_directory((options.results or paths.results_dir()) / options.run / f"machine-{asked.os}")
    steps = Steps(folder=logs)
    console.say(f"a machine of {asked.os} by {accelerator()}; logs: {logs}")
    with ExitStack() as stack:
        stack.callback(lambda: sys.stdout.write(f"\n{steps.summary()}"))
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pyxis-matrix-machine-", dir=asked.folder))
        )
        codename = next(it.codename for it in matrix.systems if it.name == asked.os)
        size = Size(cpus=asked.cpus, memory_mb=asked.memory, disk=asked.disk)
        machine = Virtual(suite=codename, size=size, folder=folder, port=free_port())
        archive, mirror, clone = folder / "images.tar", folder / "mirror", folder / "clone"
        mirror.mkdir()
        carries = not asked.build_there
        setup: list[tuple[str, Callable[[Path], str | None]]] = [
            *([("images", lambda log: _save(_built(cells, matrix, options, log), archive, mirror, log))] * carries),
            ("make", lambda _log: machine.make()),
            ("boot", lambda _log: stack.enter_context(machine.booted(*[archive] * carries))),
            ("clone", lambda log: _clone(machine, clone, mirror, log)),
            ("ci/bootstrap", partial(in_clone, machine, "ci/bootstrap true")),
            *([("load images", partial(in_clone, machine, "docker load --input /dev/vdb"))] * carries),
        ]
        commands = [f'ci/bootstrap nox -s "{SUITES[cell.runtime]}({cell.id})"' for cell in cells]
        good = all(steps.take(*step) for step in setup)  # up to the first that fails
        if good and False not in [steps.take(it, partial(in_clone, machine, it)) for it in commands]:
            return 0
    raise CheckFailedError("a step failed in the machine", where=str(logs), next_step="read the log of the step there")


def _built(cells: Sequence[Cell], matrix: Matrix, options: Options, log: Path) -> Builder:
    """Have this machine's engine make the images of all cells."""
    builder = Builder(connect(), sources_of(options), logs=log.parent)
    for cell in cells:
        builder.build(plan_environment(cell, matrix, options).images)
    return builder


def _save(builder: Builder, archive: Path, mirror: Path, log: Path) -> str:
    """Put images into one archive, and the release files by which they are known into a mirror."""
    for it in builder.fetched:
        (mirror / it.served).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(it.path, mirror / it.served)
    tags = sorted({it.tag for it in builder.done})
    _checked(console.call(["docker", "save", "--output", archive, *tags], log=log))
    return f"{len(tags)}, {archive.stat().st_size / 1e6:.0f} MB; {len(builder.fetched)} release files"


def _clone(machine: Virtual, folder: Path, mirror: Path, log: Path) -> str:
    """Put a clone of this checkout's commit there; what is not committed is not in it. Return what the machine is."""
    _checked(console.call(["git", "clone", "--quiet", "--no-local", paths.REPOSITORY, folder], log=log))
    machine.put(folder, _THERE)
    machine.put(mirror, _MIRROR)
    said = _checked(machine.run(f"git -C {_THERE} rev-parse --short HEAD; uname -r; stat -fc %T /sys/fs/cgroup", log))
    return ", ".join(said.split())


def in_clone(machine: Virtual, command: str, log: Path) -> str:
    """Run a command in the clone; return what its suites counted."""
    output = _checked(machine.run(f"cd {_THERE} && PYXIS_MATRIX_MIRROR={_MIRROR} {command}", log))
    return ", ".join(_COUNTS.findall(output))


def _checked(done: Completed) -> str:
    if done.ok:
        return done.output
    counts = "".join(f"; {it}" for it in _COUNTS.findall(done.output))
    raise CheckFailedError(f"exit code {done.exit_code}{counts}", where=str(done.log), why=done.tail())


if __name__ == "__main__":
    sys.exit(main())
