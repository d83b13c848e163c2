"""A pytest plugin: a test asks for the answer that is right on its cell, and what it saw is recorded.

The questions are in ``behaviours.toml`` beside the suite (`ci.matrix.behaviours`). A test names those that it asks::

    @pytest.mark.behaviour("sbatch-export-none")
    def test_a_script_without_the_environment(behaviour, …):
        behaviour("sbatch-export-none").saw(where_it_ran)

and asks each of them, in one of three ways: `Asked.saw` or `Asked.saw_by` where the test finds out by itself which of
the answers it sees, `Asked.expects` or `Asked.of` where it takes another course per answer. A test that passes has
seen the right answer of all that it asked; one that fails has seen what it said by `Asked.saw`, and nothing else. An
answer with ``fails`` makes the test a known failure (`tests.support.known_failures`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from ci.matrix.behaviours import Answer, Behaviour, catalogue
from ci.matrix.behaviours import behaviour as behaviour_of
from ci.matrix.cells import Cell
from ci.record.reportlog import BEHAVIOUR_PROPERTY

T = TypeVar("T")

MARKER = "behaviour"
_SEEN = pytest.StashKey[dict[str, str]]()
"""By id: the answer that was seen, empty for the right one."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, as a test asks it on its cell."""

    behaviour: Behaviour
    answer: Answer
    """The right one."""
    seen: dict[str, str]

    def expects(self, *names: str) -> bool:
        """Tell whether the right answer is one of these."""
        self._known(names)
        return self.answer.name in names

    def of(self, table: Mapping[str, T]) -> T:
        """Return what the table has for the right answer; it has to have all answers, and no other."""
        self._known(table)
        if missing := {it.name for it in self.behaviour.answers} - set(table):
            raise LookupError(f"{self.behaviour.where}: nothing is said of {', '.join(sorted(missing))}")
        return table[self.answer.name]

    def saw(self, name: str, *told: object) -> None:
        """Record which answer was seen, and assert that it is the right one.

        :param told: what else is to be said where it is not.
        """
        self._known([name])
        self.seen[self.behaviour.id] = name
        expected = f"{self.behaviour.id}: expected {self.answer.name!r} ({self.answer.what}), saw {name!r}"
        assert name == self.answer.name, "\n".join([expected, *map(str, told)])

    def saw_by(self, found: object, table: Mapping[Any, str], *told: object) -> None:
        """Record the answer that the table has for what was found, as `saw`; what it does not have fails.

        The table may lack answers: what only another cell shows need not be told apart from what is wrong.
        """
        assert found in table, "\n".join([f"{self.behaviour.id}: no answer is like this: {found!r}", *map(str, told)])
        self.saw(table[found], *told)

    def _known(self, names: Iterable[str]) -> None:
        known = [it.name for it in self.behaviour.answers]
        for name in names:
            if name not in known:
                raise LookupError(f"{self.behaviour.where}: {name!r} is not an answer (answers: {', '.join(known)})")


Ask = Callable[[str], Asked]


@pytest.fixture
def behaviour(request: pytest.FixtureRequest, cell: Cell) -> Ask:
    """Return what asks one of the behaviours that the test's marker names."""
    marked, seen = marked_by(request.node), request.node.stash.setdefault(_SEEN, {})
    seen.clear()  # a test that is run again has seen nothing yet

    def ask(name: str) -> Asked:
        if name not in marked:
            raise LookupError(f"the test is not marked with behaviour({name!r})")
        found = behaviour_of(name)
        seen.setdefault(name, "")
        return Asked(behaviour=found, answer=found.answer_on(cell), seen=seen)

    return ask


def marked_by(item: pytest.Item) -> list[str]:
    """Return the ids that a test's markers name.

    :raises SelectionError: for one that there is not.
    """
    names = [str(name) for marker in item.iter_markers(MARKER) for name in marker.args]
    return [behaviour_of(name).id for name in names]


def expected_to_fail(item: pytest.Item) -> list[tuple[Behaviour, Answer]]:
    """Return the answers of a test's behaviours by which it fails, on whatever cell."""
    known = catalogue()
    return [(known[name], it) for name in marked_by(item) for it in known[name].answers if it.fails]


def saw_another(item: pytest.Item, cell: Cell) -> bool:
    """Tell whether a test has said of any of its behaviours that it saw another answer than the right one."""
    return any(said not in ("", behaviour_of(name).answer_on(cell).name) for name, said in _seen(item).items())


def record(item: pytest.Item, report: pytest.TestReport, cell: Cell, failed_as: str = "") -> None:
    """Add to the report of a test's call what was seen; a test that passes without asking turns red.

    :param failed_as: the behaviour by whose answer it failed, as a known failure.
    """
    if report.when != "call":
        return
    seen, known = _seen(item), catalogue()
    for name in marked_by(item):
        said = seen.get(name)
        right = known[name].answer_on(cell).name
        if report.outcome == "passed" and said is None:
            report.outcome = "failed"
            report.longrepr = f"it is marked with behaviour({name!r}), and passes without asking it"
        elif report.outcome == "passed" or name == failed_as:
            report.user_properties.append((BEHAVIOUR_PROPERTY, [name, right]))
        elif said and report.outcome == "failed":
            report.user_properties.append((BEHAVIOUR_PROPERTY, [name, said]))


def _seen(item: pytest.Item) -> dict[str, str]:
    return item.stash.get(_SEEN, {})
