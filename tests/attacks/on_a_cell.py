"""Attacks on a cell that is started for them."""

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import socket
import sys

from ci.engine.connection import connect
from ci.engine.labels import LABEL_ROLE, LABEL_RUN
from ci.errors import TeardownError
from ci.terminal.processes import Completed
from tests.attacks.attack import Attacks, Seen
from tests.attacks.ground import TWO_TESTS, Ground, believed, last_line
from tests.support import copies, engine_proxy

attack = Attacks(cell=True)
_PARTS = "abc"
"""What the runs of an attack that has several end in."""


@contextmanager
def swept(run: str) -> Iterator[list[str]]:
    """Remove in the end what is left on the engine of a run, and of those named after it; it is added to the list.

    An attack takes its cells down by the program, which is what may be wrong.
    """
    found: list[str] = []
    try:
        yield found
    finally:
        engine = connect()
        for one in (run, *(f"{run}-{part}" for part in _PARTS)):
            found += engine.left({LABEL_RUN: one})
            engine.reap({LABEL_RUN: one})


@attack(
    "no suite",
    "`run CELL --as pyxis_conformance -- true`",
    "refused, or not counted",
    says=r"the name is that of a suite of this project",
)
def _is_no_suite(ground: Ground) -> Seen:
    ended = ground.session("--as", "pyxis_conformance", behind=("true",))
    done = ground.report()
    return Seen(held=not believed(ended) and not believed(done), text=last_line(ended))


@attack(
    "a folder of a suite's name",
    "a suite of one's own called `pyxis_conformance`",
    "refused, or counted as another",
    says=r"the name is that of a suite of this project",
)
def _folder_of_a_suites_name(ground: Ground) -> Seen:
    words, command = _own_suite(ground, "pyxis_conformance", "def test_a():\n    pass\n")
    ended = ground.session(*words, behind=command)
    done = ground.report()
    return Seen(held=not (believed(done) and "pyxis_conformance" in done.output), text=last_line(ended))


def _own_suite(ground: Ground, name: str, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write a suite of one file into a folder of this name; return a session's options for it, and its command."""
    own = ground.folder / name
    own.mkdir()
    (own / "test_mine.py").write_text(text, encoding="utf-8")
    return ("--as", name, "--pytest"), (sys.executable, "-m", "pytest", str(own))


@attack(
    "a suite that is only planned",
    "`--setup-plan` on a suite of the project, also by `PYTEST_ADDOPTS`",
    "refused, or not passed",
    says=r"(--setup-plan|PYTEST_ADDOPTS) cannot be used with",
)
def _planned_only(ground: Ground) -> Seen:
    name, planned = "pyxis_conformance", "--setup-plan"
    tries = ground.suite(name, planned), ground.suite(name, variables={"PYTEST_ADDOPTS": planned})
    return Seen(held=not any(map(believed, tries)), text="; ".join(map(last_line, tries)))


@attack(
    "a part of the suite",
    "a failing suite, then `-k` with its passing test",
    "the failure counts, and a part of a suite does not",
    says=r"1 partly run",
)
def _filtered(ground: Ground) -> Seen:
    words, command = _own_suite(ground, "mine", TWO_TESTS)
    whole = ground.session(*words, "--run", f"{ground.run}-a", behind=command)
    part = ground.session(*words, "--run", f"{ground.run}-b", behind=(*command, "-k", "test_a"))
    done = ground.report()
    held = "1 failed, 1 passed" in whole.output and not believed(done)
    return Seen(held=held, text=f"{last_line(part)}; report: {last_line(done)}")


@attack(
    "killed",
    "a run that passed again under its id, ended by kill -9",
    "the earlier result no longer counts",
    says=r"it is running, or it was killed",
)
def _killed(ground: Ground) -> Seen:
    first = ground.session("--as", "mine", behind=("true",))
    began = ground.folder / "began"
    options = ("--run", ground.run, "--results", str(ground.results), "--as", "mine")
    behind = ("sh", "-c", f"touch {began}; sleep 600")
    with ground.started("run", ground.cell, *options, "--", *behind) as process:
        ground.until(process, began.exists)
        process.kill()
    done = ground.report()
    return Seen(held=first.exit_code == 0 and began.exists() and not believed(done), text=last_line(done))


@attack(
    "the same run from elsewhere",
    "a session with the id of a cluster that is up, from another home and cache",
    "refused, and the cluster is left alone",
    says=r"if it is yours to take down",
)
def _same_run_from_elsewhere(ground: Ground) -> Seen:
    kept = ground.program("up", ground.cell, "--run", ground.run, "--results", str(ground.results))
    before = _containers(ground)
    other = {"HOME": str(ground.folder), "PYXIS_MATRIX_CACHE": str(ground.folder / "cache")}
    ended = ground.session("--as", "mine", behind=("true",), variables=other)
    after = _containers(ground)
    ground.program("down", ground.run)
    held = kept.exit_code == 0 and bool(before) and before == after and ended.exit_code != 0
    return Seen(held=held, text=f"{len(after)} of {len(before)} containers are left; {last_line(ended)}")


def _containers(ground: Ground) -> set[str]:
    found = connect().api.containers.list(all=True, filters={"label": f"{LABEL_RUN}={ground.run}"})
    return {str(it.id) for it in found}


@attack(
    "an edit and --reuse",
    "a suite that passed, then `--reuse` after an edit of the template of slurm.conf",
    "run again; without the edit: unchanged",
    says=r"unchanged since",
)
def _edited(ground: Ground) -> Seen:
    with copies.copied() as copy:

        def again(run: str, *options: str) -> Completed:
            words = ("--suite", "pyxis_basic", "--results", str(ground.results), "--run", f"{ground.run}-{run}")
            return ground.program("matrix", ground.cell, *words, *options, repository=copy)

        first, same = again(_PARTS[0]), again(_PARTS[1], "--reuse")
        template = copy / "containers/slurm-pyxis-integration/slurm.conf"
        template.write_text(f"{template.read_text(encoding='utf-8')}# edited\n", encoding="utf-8")
        edited = again(_PARTS[2], "--reuse")
    held = believed(first) and "unchanged since" in same.output and "unchanged since" not in edited.output
    return Seen(held=held, text=f"unedited: {last_line(same)}; edited: {last_line(edited)}")


@attack(
    "another listener",
    "to listen on the registry's port on ::1, which localhost may be, too",
    "the port is taken",
    says=r"is taken",
)
def _another_listener(ground: Ground) -> Seen:
    ground.program("up", ground.cell, "--run", ground.run, "--results", str(ground.results))
    filters: dict[str, str | list[str] | bool] = {"label": [f"{LABEL_RUN}={ground.run}", f"{LABEL_ROLE}=registry"]}
    found = connect().api.containers.list(filters=filters)
    ports = {int(it["HostPort"]) for one in found for them in one.ports.values() for it in them or ()}
    free = [port for port in ports if _can_listen(port)]
    ground.program("down", ground.run)
    text = f"{len(ports)} port of the registry is taken" if not free else f"port {free[0]} of ::1 is free"
    return Seen(held=len(ports) == 1 and not free, text=text)


def _can_listen(port: int) -> bool:
    """Whether anybody can listen on a port of ::1; a machine without IPv6 has no such address."""
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            raise
        return False
    return True


@attack(
    "what is not removed",
    "an engine that refuses to remove containers",
    "an error that names what is left, and `down RUN` removes it",
    says=r"ci -- down ",
)
def _not_removed(ground: Ground) -> Seen:
    engine = connect().found.url
    with engine_proxy.before(
        engine, ground.folder, lambda method, path: method == "DELETE" and "/containers/" in path
    ) as proxy:
        ended = ground.session("--as", "mine", behind=("true",), variables={"DOCKER_HOST": proxy.url})
    left = _containers(ground)
    down = ground.program("down", ground.run)
    still = _containers(ground)
    held = ended.exit_code == TeardownError.exit_code and bool(left) and down.exit_code == 0 and not still
    text = f"{len(left)} containers were left, and {len(still)} after `down` ({last_line(down)}); {last_line(ended)}"
    return Seen(held=held, text=text)
