"""The suites of this project: each is a folder of tests with its description, ``suite.toml``.

The sessions, `matrix`, `plan`, fingerprints and the mutations read them here. These are words only: nothing imports a
suite.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import functools
from pathlib import Path
import re

from ci import paths
from ci.errors import INSTALLED, SelectionError, as_here, suite_session
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Subject
from ci.matrix.tables import TomlTable, did_you_mean, read_table

FOLDER = "tests/integration"
"""Where the folders of all suites are, below the repository."""
FILE = "suite.toml"
"""The description of a suite, in its folder."""
OWN = "suite"
"""The session of suites of somebody's own; no suite of the project has this name."""

_CONTAINERS = (Runtime.NVIDIA, Runtime.EMBEDDED)
# Named, so that no pytest.ini or tox.ini that lies nearer takes their place.
_SETTINGS = ("-c", "pyproject.toml")
_PLUGIN = ("-p", "tests.integration.conftest_container_packaging")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
# The order of a suite that says none: it runs after all that do.
_LAST = 100


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A set of tests that pytest runs against a cell. The fields are the keys of its description."""

    name: str
    """Of the suite and of its nox session; that of its folder if the description has none."""
    folder: str
    """That of its description, below `FOLDER`."""
    summary: str = ""
    """What it tests, as one sentence; ``nox -l`` shows it."""
    tests: tuple[str, ...]
    """Files and folders below `FOLDER`; with ``*`` all files of that name. Without this key, its own folder."""
    runtimes: frozenset[Runtime] = frozenset(_CONTAINERS)
    """The cells that it is for."""
    plugin: str = ""
    """The module with its fixtures; empty for those of all container suites."""
    subject: str = ""
    """The one package that its tests run tasks with; empty if they fit any subject."""
    default: bool = True
    """Whether a group is run with it if no suite is named."""
    on_sites: bool = False
    """Whether it can be run on a cluster that exists: its tests know what they may not touch there."""
    workers: int = 4
    """How many of its tests a group's run has at work at a time, on one cell; 0 for one after another."""
    order: int = _LAST
    """A cell runs the suites of smaller numbers first."""

    @property
    def has_containers(self) -> bool:
        """Whether its tests run containers: one that is for legacy cells, too, can't."""
        return Runtime.LEGACY not in self.runtimes

    @property
    def plugins(self) -> tuple[str, ...]:
        """The arguments that load the fixtures of container suites; a legacy suite has its own in a conftest.py."""
        if self.plugin:
            return ("-p", self.plugin)
        return _PLUGIN if self.has_containers else ()

    def words(self, *, whole: bool = True) -> tuple[str, ...]:
        """Return pytest's arguments, for a process in the repository.

        :param whole: with its tests; otherwise who calls names some of them.
        """
        tests = (f"{FOLDER}/{path.name}" for path in self.paths()) if whole else ()
        # Of an installed suite pytest would keep what failed last (--lf) in the installation.
        kept = ("-o", f"cache_dir={paths.cache_dir() / 'pytest'}") if INSTALLED else ()
        return (*_SETTINGS, *kept, *self.plugins, *tests)

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


class _Suites(Mapping[str, Suite]):
    """All suites. Their descriptions are read when the first is asked for, so that a fault is an error like others."""

    def __getitem__(self, name: str) -> Suite:
        return _described()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_described())

    def __len__(self) -> int:
        return len(_described())


# Not read at import: the noxfile imports this, and a fault would be a traceback in every session.
SUITES: Mapping[str, Suite] = _Suites()
"""By name, which is also that of the nox session; in the order in which a cell runs them."""


@functools.cache
def _described() -> Mapping[str, Suite]:
    """Read all descriptions.

    :raises MatrixError: for one with faults, all of which it names.
    """
    found: dict[str, Suite] = {}
    for file in sorted((paths.REPOSITORY / FOLDER).glob(f"*/{FILE}")):
        table = read_table(file)
        each = _read(table, file.parent.name)
        if each.name in found:
            table.fault("name", f"there is another suite {each.name!r}")
        # Before the suite is used: after a fault its values are placeholders.
        table.faults.raise_if_any()
        found[each.name] = each
    return {each.name: each for each in sorted(found.values(), key=lambda each: (each.order, each.name))}


def _read(table: TomlTable, folder: str) -> Suite:
    """Return the suite of a description; after a fault it is never used."""
    read = Suite(
        name=table.text("name", folder),
        folder=folder,
        summary=table.text("summary"),
        tests=table.texts("tests") or (folder,),
        runtimes=frozenset(_runtimes(table)),
        plugin=table.text("plugin", ""),
        subject=table.text("subject", ""),
        default=table.boolean("default", default=True),
        on_sites=table.boolean("on-sites", default=False),
        workers=table.integer("workers", Suite.workers, least=0),
        order=table.integer("order", _LAST, least=0),
    )
    table.finish()
    if not _NAME.fullmatch(read.name) or read.name in {OWN, *paths.BESIDE_SUITES}:
        table.fault("name", f"{read.name!r} cannot be the name of a suite: it has small letters, digits and '_'")
    for name in read.tests:
        if not (paths.REPOSITORY / FOLDER).joinpath(name).exists() and "*" not in name:
            table.fault("tests", f"there is no {FOLDER}/{name}")
    return read


def _runtimes(table: TomlTable) -> list[Runtime]:
    names = table.texts("runtimes") or _CONTAINERS
    for name in names:
        if name not in set(Runtime):
            table.fault("runtimes", f"unknown runtime {name!r}{did_you_mean(name, Runtime)}")
    return [Runtime(name) for name in names if name in set(Runtime)]


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
    raise SelectionError(
        f"there is no suite {name!r}{did_you_mean(name, SUITES)}",
        next_step=f"a suite of your own runs on one cell: {as_here(suite_session(OWN, 'CELL', 'PATH'))}",
    )


def check_subject(subject: Subject, *names: str) -> None:
    """Refuse to run suites with a package under test that they can't use.

    :raises SelectionError: names a suite, and those that fit any subject.
    """
    for name in names:
        if why := suite(name).refuses(subject):
            fitting = ", ".join(each.name for each in SUITES.values() if not each.subject)
            raise SelectionError(
                f"{name}: {why}",
                next_step=f"what fits any subject: {fitting}; "
                f"and your own: {as_here(suite_session(OWN, 'CELL', 'PATH'))}",
            )


def requested_suites(names: Sequence[str]) -> tuple[Suite, ...]:
    """Return the suites of these names, in the order in which a cell runs them; for no name, those of every group.

    :raises SelectionError: for an unknown name.
    """
    wanted = {suite(name) for name in names}
    # A cell runs them in their order, whatever that of the command line is.
    return tuple(each for each in SUITES.values() if (each in wanted if names else each.default))
