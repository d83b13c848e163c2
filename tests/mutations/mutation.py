"""What a mutation is: one thing that is broken, and the words that whoever notices it has to say."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ci.environment.launching import Environment
from ci.matrix.cells import Cell, Runtime
from ci.record.outcomes import Outcome

CONTROL = "nothing changed"
"""Name of the row in which nothing is broken: where that is not green, red proves nothing."""
UNIT_TESTS = "tests"
"""The suite that needs no cell: what has to notice a change of the project's own code."""
CONTAINERS = frozenset({Runtime.NVIDIA, Runtime.EMBEDDED})
REAL = frozenset({Runtime.NVIDIA})


@dataclass(frozen=True, kw_only=True)
class Source:
    """A change of the project's own code."""

    path: str
    """Below the repository's root."""
    old: str
    """It occurs once in the file."""
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One thing that is broken, in an environment that was usable or before; the parts that are given, in order."""

    name: str
    says: str
    """A regular expression for a line of what the first failing test says (or the session, where it is no test that is
    wrong): a suite without it is red for another reason."""
    source: Source | None = None
    """What is changed in a copy of the repository, on which the unit tests are run; no cell is launched."""
    launch: Callable[[], AbstractContextManager[object]] | None = None
    """What is in force while the environment is launched."""
    nodes: str = ""
    """What root's shell does on every node."""
    registry: str = ""
    """What root's shell does in the registry's container."""
    environment: Callable[[Environment], None] | None = None
    """What is done from the host."""
    plugin: str = ""
    """A pytest plugin that the suite is run with."""
    log: Callable[[Path], None] | None = None
    """What happens to pytest's report log before it is read."""
    outcomes: frozenset[Outcome] = frozenset({Outcome.FAILED, Outcome.ERROR})
    """What the suite may come to, to have noticed it."""
    runtimes: frozenset[Runtime] = CONTAINERS
    suites: frozenset[str] = frozenset()
    """The suites that it is for, where it is not for all."""
    file: str = ""
    """The one file of a suite's folder that has to notice it; of that suite the others are not run."""

    def fits(self, cell: Cell) -> bool:
        """Whether the cell has what is broken here."""
        return cell.runtime in self.runtimes

    def concerns(self, suite: str) -> bool:
        """Whether a suite is run on it."""
        if self.name != CONTROL and (suite == UNIT_TESTS) != bool(self.source):
            return False
        return not self.suites or suite in self.suites
