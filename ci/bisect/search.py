"""The search for the first of a sequence whose answer is another one than that of its begin. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Judgement(StrEnum):
    """What a test says of one release or commit."""

    PASSED = "passed"
    FAILED = "failed"
    NONE = "no answer"
    """It was not built or not started, or the test proved nothing: git calls that "skip"."""


@dataclass(kw_only=True)
class Search:
    """A sequence, oldest first, whose answer changes once between its two ends, and what is known of it."""

    length: int
    answers: dict[int, Judgement] = field(default_factory=dict)
    """By place in the sequence."""

    @property
    def ends(self) -> tuple[int, int]:
        """The places of the two ends, which are asked first."""
        return 0, self.length - 1

    @property
    def undecided(self) -> bool:
        """Whether both ends have been asked, and do not have two different answers."""
        old, new = (self.answers.get(end) for end in self.ends)
        return None not in (old, new) and (old == new or Judgement.NONE in (old, new))

    @property
    def suspects(self) -> range:
        """Where the change can be: after the last that answers as the begin does, up to the first that does not."""
        old = self.answers[0]
        last = min(at for at, answer in self.answers.items() if answer not in {old, Judgement.NONE})
        # What answers so after `last` is left alone: the answer is taken to change once.
        first = max(at for at, answer in self.answers.items() if answer is old and at < last)
        return range(first + 1, last + 1)

    def next(self) -> int | None:
        """Return the place to ask next; None when nothing more can be found out.

        It is the middle of the longest stretch that has not been asked: so a stretch in which nothing builds is left
        soon, and not tried to its end.
        """
        for end in self.ends:
            if end not in self.answers:
                return end
        if self.undecided:
            return None
        longest = max(self._stretches(), key=len, default=range(0))
        # Of an even number the older one of the two in the middle.
        return longest[(len(longest) - 1) // 2] if longest else None

    def _stretches(self) -> Iterator[range]:
        """Yield the stretches of suspects that have not been asked."""
        begin = self.suspects.start
        # The last suspect has been asked, always: what lies behind the last answer needs no stretch of its own.
        for at in self.suspects:
            if at in self.answers:
                yield range(begin, at)
                begin = at + 1
