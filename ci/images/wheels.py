"""Collects the wheels that some requirements need on another machine than this one.

uv resolves the requirements: it knows the target's markers and tags. It has no command to download wheels, so pip
downloads exactly the versions that uv chose, with the user's own settings and credentials. A release that has no wheel
at all is built here if it is pure Python.
"""

from collections.abc import Iterable
from dataclasses import dataclass
import os
from pathlib import Path
import re
import sys

from ci.errors import DiskFullError, PyxisMatrixError, SubjectError, disk_is_full
from ci.matrix.arch import Arch
from ci.python import uv
from ci.terminal.console import call
from ci.terminal.processes import Completed

BUILD_EPOCH = "315619200"
"""SOURCE_DATE_EPOCH of all builds: 1980-01-02, because a zip file, which a wheel is, has no time before 1980.

With it two builds of one source are the same file, and images are not built again.
"""

# The newest glibc that uv 0.13 knows; it ends with an error for a newer one. Wheels for 2.40 fit newer ones as well.
_NEWEST_UV_KNOWS = 40
# By PEP 600, manylinux1 to manylinux2014 are other names for glibc 2.5 to 2.17; on arm64 there is only the last.
_OLDEST_MINOR = {Arch.AMD64: 5, Arch.ARM64: 17}
_LEGACY = {Arch.AMD64: ("manylinux2014", "manylinux2010", "manylinux1"), Arch.ARM64: ("manylinux2014",)}

_NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)` because building from source is disabled")
_NOT_SATISFIABLE = 1
"""uv's exit code where no set of versions fits; 2 is for everything else: network, files, builds."""
_CHECK_INDEX = (
    "check the network and the package index; `pip config list` shows it (PIP_INDEX_URL, HTTPS_PROXY, PIP_CERT)"
)
_CHECK_REQUIREMENT = (
    "change the requirement or its constraints ([subject] in matrix.toml), or name another package index"
)
# Of uv's or pip's messages in an error; the cause is at their end.
_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that wheels are for: CPython on a Linux with glibc."""

    python: str
    """Major and minor version, for example ``3.11``."""
    arch: Arch
    glibc: int
    """The minor version of its glibc 2; wheels for older ones fit, too."""

    @property
    def platform(self) -> str:
        """The newest platform that fits, as uv spells it."""
        return f"{self.arch.uname}-manylinux_2_{min(self.glibc, _NEWEST_UV_KNOWS)}"

    @property
    def tags(self) -> tuple[str, ...]:
        """All platform tags that fit, best first, as pip takes them."""
        minors = range(self.glibc, _OLDEST_MINOR[self.arch] - 1, -1)
        names = [*(f"manylinux_2_{minor}" for minor in minors), *_LEGACY[self.arch], "linux"]
        return tuple(f"{name}_{self.arch.uname}" for name in names)

    def __str__(self) -> str:
        """Return the target as messages name it."""
        return f"Python {self.python} on Linux {self.arch}"


def collect(requirements: Iterable[str], constraints: Iterable[str], target: Target, folder: Path) -> None:
    """Fill ``folder`` with one wheel for each package that the requirements need on the target, direct or not.

    :raises SubjectError: with uv's or pip's own words.
    """
    folder.mkdir()
    requirements = list(requirements)
    wanted = uv.write_requirements(folder.parent, requirements, constraints)
    where = f"{', '.join(requirements)} for {target}"
    pins, sources = _resolve(wanted, where, target)
    for pin in (pin for pin in pins if _project(pin) in sources):
        _build(pin, target, folder)
    if wheels := [pin for pin in pins if _project(pin) not in sources]:
        _download(wheels, target, folder)


def _resolve(wanted: Path, where: str, target: Target) -> tuple[list[str], frozenset[str]]:
    """Return what to install, as ``name==version``, and the names of those that have no wheel."""
    program = uv.program()
    if program is None:
        raise SubjectError("uv was not found", next_step="pip install uv, or run it through nox")
    command = [program, "pip", "compile", str(wanted), "--python", sys.executable]
    # Then stdout has lines of the form name==version, and nothing else.
    command += ["--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--python-version", target.python, "--python-platform", target.platform]
    sources: frozenset[str] = frozenset()
    # uv names packages without a wheel only as it comes upon them; each round lets it take those from source, too.
    while True:
        exceptions = [f"--no-binary={name}" for name in sorted(sources)]
        done = call([*command, *exceptions], env=uv.environment(), split=True)
        if done.ok:
            return done.output.splitlines(), sources
        without_wheel = frozenset(_NO_WHEEL.findall(done.errors))
        # Nothing new: it fails for another reason.
        if without_wheel <= sources:
            if done.exit_code == _NOT_SATISFIABLE:
                raise _failed("no release satisfies the requirements", where, "uv", done, _CHECK_REQUIREMENT)
            raise _failed("the requirements were not resolved", where, "uv", done, _CHECK_INDEX)
        sources |= without_wheel


def _download(pins: list[str], target: Target, folder: Path) -> None:
    pinned = folder.with_name("pinned.txt")
    pinned.write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    # Some thirty platforms: in the environment, so that the command line that is shown stays short.
    env = {**os.environ, "PIP_PLATFORM": " ".join(target.tags)}
    command = [*_pip("download"), "--dest", str(folder), "--only-binary", ":all:", "--requirement", str(pinned)]
    done = call([*command, "--implementation", "cp", "--python-version", target.python], env=env)
    if not done.ok:
        raise _failed("a wheel was not downloaded", f"{len(pins)} packages for {target}", "pip", done, _CHECK_INDEX)


def _build(pin: str, target: Target, folder: Path) -> None:
    before = set(folder.iterdir())
    command = [*_pip("wheel"), "--wheel-dir", str(folder), "--no-binary", _project(pin), pin]
    done = call(command, env={**os.environ, "SOURCE_DATE_EPOCH": BUILD_EPOCH})
    if not done.ok:
        next_step = f"require a release that has a wheel; `pip wheel --no-deps {pin}` shows the whole build"
        raise _failed("a package without a wheel was not built from source", pin, "pip", done, next_step)
    for wheel in set(folder.iterdir()) - before:
        check_pure(wheel, pin, target)


def check_pure(wheel: Path, where: str, target: Target) -> None:
    """Refuse a wheel built on this machine that another one could not use."""
    if not wheel.stem.endswith("-none-any"):
        raise SubjectError(
            "a package built from source is not pure Python",
            where=where,
            why=f"{wheel.name} was compiled on this machine and may not run on {target}",
            next_step="publish wheels for the target to an index, and require that release",
        )


def _pip(verb: str) -> list[str]:
    # --no-deps, because uv has resolved already; pip would judge the markers of requirements by this machine.
    return [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", verb, "--no-deps"]


def _project(pin: str) -> str:
    return pin.partition("==")[0]


def _failed(what: str, where: str, tool: str, done: Completed, next_step: str) -> PyxisMatrixError:
    """Return the error with the messages of uv or pip."""
    said = [line for line in (done.errors or done.output).splitlines() if line.strip()]
    # pip prints its verdict after a line for each package that it found, and after warnings.
    said = [line for line in said if line.startswith("ERROR:")] or said
    return (DiskFullError if disk_is_full("\n".join(said)) else SubjectError)(
        what,
        where=where,
        why="\n    ".join([f"{tool} says:", *said[-_LINES:]]),
        next_step=next_step,
    )
