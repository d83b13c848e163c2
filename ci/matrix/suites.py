"""The suites of this project: what each runs, and on which cells.

The sessions, `matrix`, `plan` and the mutations read them here. These are words only: nothing imports a suite.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import difflib
from pathlib import Path

from ci import paths
from ci.errors import SelectionError
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Subject

FOLDER = "tests/integration"
"""Where the tests of all suites are, below the repository."""

_SDK = "slurm-sdk"
_CONTAINERS = frozenset({Runtime.NVIDIA, Runtime.EMBEDDED})
# Named, so that no pytest.ini or tox.ini that lies nearer takes their place.
_SETTINGS = ("-c", "pyproject.toml")
_PLUGIN = ("-p", "tests.integration.conftest_container_packaging")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A set of tests that pytest runs against a cell."""

    name: str
    tests: tuple[str, ...]
    """Files and folders below `FOLDER`; with ``*`` all files of that name."""
    runtimes: frozenset[Runtime] = _CONTAINERS
    """The cells that it is for."""
    plugins: tuple[str, ...] = _PLUGIN
    subject: str = ""
    """The one package that its tests run tasks with; empty if they fit any subject."""
    default: bool = True
    """Whether a group is run with it if no suite is named."""
    workers: int = 4
    """How many of its tests a group's run has at work at a time, on one cell."""

    def words(self, *, whole: bool = True) -> tuple[str, ...]:
        """Return pytest's arguments, for a process in the repository.

        :param whole: with its tests; otherwise who calls names some of them.
        """
        tests = (f"{FOLDER}/{path.name}" for path in self.paths()) if whole else ()
        return (*_SETTINGS, *self.plugins, *tests)

    def paths(self) -> tuple[Path, ...]:
        """Return its files and folders."""
        root = paths.REPOSITORY / FOLDER
        return tuple(
            path for name in self.tests for path in (sorted(root.glob(name)) if "*" in name else [root / name])
        )

    def unfit(self, cell: Cell, subject: Subject) -> str:
        """Return why the suite does not apply to a cell; empty if it does."""
        if cell.runtime not in self.runtimes:
            return f"it is for {' and '.join(sorted(self.runtimes))} cells only, and this one is {cell.runtime}"
        return self.refuses(subject)

    def refuses(self, subject: Subject) -> str:
        """Return why the suite can't run with this package under test; empty if it can."""
        if not self.subject or self.subject == subject.name:
            return ""
        return f"it runs tasks through {self.subject}, and the subject is {subject.requirement}"


SUITES: Mapping[str, Suite] = {
    it.name: it
    for it in (
        Suite(
            name="pyxis_basic",
            tests=("test_variant.py", "test_container_packaging_basic.py", "conftest_container_packaging.py"),
            subject=_SDK,
            workers=2,  # three of its tests build images, and there is one engine
        ),
        Suite(name="pyxis_conformance", tests=("conformance",)),
        Suite(name="registry", tests=("registry",)),
        Suite(
            name="pyxis_advanced",
            tests=("test_container_packaging_advanced.py", "advanced"),
            subject=_SDK,
        ),
        Suite(
            name="pyxis_upstream",
            tests=("upstream",),
            runtimes=frozenset({Runtime.NVIDIA}),
            default=False,  # takes about 25 minutes
            workers=0,  # upstream's files share names of containers
        ),
        Suite(
            name="legacy_integration",
            tests=("test_legacy_*.py",),
            runtimes=frozenset({Runtime.LEGACY}),
            plugins=(),
            subject=_SDK,
        ),
    )
}
"""By name, which is also that of the nox session; in the order in which a cell runs them."""


def is_own(name: str) -> bool:
    """Tell whether a result of this name is that of a command or of a suite of somebody's own.

    It says nothing of a cell: only the suites of this project are known to prove that containers ran in it.
    """
    return name not in SUITES


def suite(name: str) -> Suite:
    """Return the suite of this name.

    :raises SelectionError: if there is none; the text names those that exist.
    """
    if name in SUITES:
        return SUITES[name]
    close = difflib.get_close_matches(name, SUITES, n=1)
    raise SelectionError(
        f"there is no suite {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
        why=f"the suites are {', '.join(SUITES)}",
        next_step="a suite of your own runs on one cell: nox -s 'suite(CELL)' -- PATH",
    )
