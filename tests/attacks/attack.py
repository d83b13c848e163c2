"""What an attack is: a way to make a result say more than was seen, and the words of the honest answer."""

from collections.abc import Callable
from dataclasses import dataclass
import re

from tests.attacks.ground import Ground


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of an attack."""

    held: bool
    """Whether the answer was honest."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One way to make a result lie."""

    name: str
    tries: str
    honest: str
    says: str
    """A regular expression for the words of the honest answer: what ended for another reason was not answered."""
    act: Callable[[Ground], Seen]
    cell: bool
    """Whether it starts a cell."""

    def made(self, ground: Ground) -> Seen:
        """Make the attack."""
        seen = self.act(ground)
        if seen.held and not re.search(self.says, "\n".join([*ground.said, seen.text]), re.MULTILINE):
            return Seen(held=False, text=f"nothing says {self.says!r}: {seen.text}")
        return seen


class Attacks(list[Attack]):
    """Attacks, added by decorating their functions."""

    def __init__(self, *, cell: bool) -> None:
        """Begin with none.

        :param cell: whether they start a cell.
        """
        super().__init__()
        self._cell = cell

    def __call__(
        self, name: str, tries: str, honest: str, *, says: str
    ) -> Callable[[Callable[[Ground], Seen]], Callable[[Ground], Seen]]:
        """Add a function: what it tries, what the honest answer is, and words by which that is known."""

        def added(act: Callable[[Ground], Seen]) -> Callable[[Ground], Seen]:
            self.append(Attack(name=name, tries=tries, honest=honest, says=says, act=act, cell=self._cell))
            return act

        return added
