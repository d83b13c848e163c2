"""How the cells of pairs differ: in the answers of their versions, and in which tests fail."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from ci.answers.selecting import Pair, concerns, has_answer, pair_name
from ci.errors import ResultsError, suite_session
from ci.matrix.suites import SUITES, is_own
from ci.report import behaviours, overview
from ci.report.behaviours import AnswerReport, BehaviourReport
from ci.report.model import CellReport, Compat, State

# Words of `MissingAnswer.why` by which it is told what can be done about it.
_NOT_ASKED = "did not ask it"
_FAILED = f"is '{State.FAILED}'"
_Answers = tuple[AnswerReport, ...]


class Kind(StrEnum):
    """What the answers on both sides mean to whoever runs jobs; worst first."""

    DANGEROUS = "newly dangerous"
    """It harms in silence, and did not."""
    REFUSED = "newly refused"
    FIXED = "fixed"
    """It was a hazard and harms no more, or was refused and works."""
    CHANGED = "changed"
    UNTOLD = "could not be told"
    SAME = "the same"

    @property
    def differs(self) -> bool:
        """Whether another answer was seen."""
        return self not in {Kind.UNTOLD, Kind.SAME}


class AnswerChange(msgspec.Struct, frozen=True, kw_only=True):
    """The answers before and after, and the pairs that have them."""

    kind: Kind
    before: _Answers
    after: _Answers
    pairs: tuple[str, ...]


class MissingAnswer(msgspec.Struct, frozen=True, order=True):
    """Why a cell tells nothing: what a suite did there, or did not."""

    cell: str
    suite: str
    why: str

    @property
    def options(self) -> str:
        """With which the suite asks all of its questions."""
        return "--nodes 2" if self.why == _NOT_ASKED else ""

    @property
    def stays(self) -> bool:
        """Whether it is so after ``--run``: the suite is there and has an answer, or no group runs it by itself."""
        return self.why in {_NOT_ASKED, _FAILED} or not SUITES[self.suite].default


class ComparedQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and its answers in all pairs."""

    id: str
    question: str
    kind: Kind
    """The worst of all pairs."""
    turns: tuple[AnswerChange, ...]
    """Worst first."""
    untold: Mapping[str, tuple[MissingAnswer, ...]]
    """By pair: why its answers could not be compared."""


class OneSidedFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A test (or a suite without one to blame) that fails on one side, and does not on the other."""

    suite: str
    test: str
    message: str
    is_new: bool
    """Whether it fails after the change; otherwise it failed before."""
    is_known: bool = False
    """Whether it fails as a known failure should, and is not an answer of a behaviour."""
    cells: tuple[str, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All pairs together."""

    schema: int = 1
    verdict: str
    """"differs", "the same" or, where nothing differs but not all was seen on both sides, "could not be told"."""
    pairs: Mapping[str, tuple[str, str]]
    """Both cells, by what the pair is called: the axes that they share."""
    subject: str
    behaviours: tuple[ComparedQuestion, ...]
    """Worst first, and each once."""
    red: tuple[OneSidedFailure, ...]
    silent: tuple[MissingAnswer, ...]
    """Suites that have no answer on one side."""


def compare(compat: Compat, pairs: Sequence[Pair]) -> Comparison:
    """Compare the cells of each pair.

    :raises ResultsError: if they were run with different packages under test.
    """
    every = (_compared(question, pairs) for question in compat.behaviours)
    found = sorted((compared for compared in every if compared.turns or compared.untold), key=_worst_first)
    red = _red(compat, pairs)
    silent = {lack for pair in pairs for name in _suites(*pair) for cell in pair if (lack := _lack(cell, name))}
    # Where all questions are open, nothing was compared: that is not the same on both sides.
    is_open = silent or _unknown(found) or all(compared.kind is Kind.UNTOLD for compared in found)
    differs = red or any(compared.kind.differs for compared in found)
    return Comparison(
        verdict="differs" if differs else Kind.UNTOLD.value if is_open else Kind.SAME.value,
        pairs={pair_name(pair): (pair[0].id, pair[1].id) for pair in pairs},
        subject=_subject(cell for pair in pairs for cell in pair),
        behaviours=tuple(found),
        red=red,
        silent=tuple(sorted(silent)),
    )


def _unknown(found: Iterable[ComparedQuestion]) -> list[MissingAnswer]:
    """Return why answers are not known. What no test of either side asked does not apply there."""
    pairs = (lacks for compared in found for lacks in compared.untold.values())
    return [
        lack for lacks in pairs if len(lacks) == 1 or {lack.why for lack in lacks} != {_NOT_ASKED} for lack in lacks
    ]


def how_to_tell(found: Comparison) -> str:
    """Return the commands by which more is told; empty where there are none."""
    lacks = sorted(lack for lack in {*found.silent, *_unknown(found.behaviours)} if lack.suite in SUITES)
    # A site, and a cell with a profile or a candidate, need more than the name.
    plain = [lack for lack in lacks if lack.stays and not set("+@").intersection(lack.cell)]
    again = dict.fromkeys(suite_session(lack.suite, lack.cell, lack.options) for lack in plain)
    run = "the same again with --run: it runs the suites that are missing"
    return "; ".join([*again, *([run] if any(not lack.stays for lack in lacks) else [])])


def _worst_first(found: AnswerChange | ComparedQuestion) -> int:
    return list(Kind).index(found.kind)


def _compared(question: BehaviourReport, pairs: Iterable[Pair]) -> ComparedQuestion:
    # Pairs with the same two answers are told together.
    alike: dict[tuple[_Answers, _Answers], list[str]] = {}
    untold = {}
    for pair in pairs:
        seen_of = (behaviours.seen(suite.saw for suite in cell.suites).get(question.id, ()) for cell in pair)
        before, after = (tuple(map(question.answer, names)) for names in seen_of)
        if before and after:
            alike.setdefault((before, after), []).append(pair_name(pair))
        # A suite that neither cell's runtime can have is not missing there.
        elif concerns(question, pair) and any(
            question.suite not in SUITES or cell.runtime in SUITES[question.suite].runtimes for cell in pair
        ):
            silent = [cell for cell, seen in zip(pair, (before, after), strict=True) if not seen]
            untold[pair_name(pair)] = tuple(
                # A suite that failed may have stopped before this question.
                _lack(cell, question.suite, but=State.FAILED) or MissingAnswer(cell.id, question.suite, _NOT_ASKED)
                for cell in silent
            )
    found = (
        AnswerChange(kind=_kind(before, after), before=before, after=after, pairs=tuple(names))
        for (before, after), names in alike.items()
    )
    turns = tuple(sorted(found, key=_worst_first))
    kinds = {*(turn.kind for turn in turns), Kind.UNTOLD if untold else Kind.SAME}
    kind = next(kind for kind in Kind if kind in kinds)
    return ComparedQuestion(id=question.id, question=question.question, kind=kind, turns=turns, untold=untold)


def _kind(before: _Answers, after: _Answers) -> Kind:
    old, new = ({answer.kind for answer in side} for side in (before, after))
    kinds = {
        Kind.DANGEROUS: "hazard" in new - old,
        Kind.FIXED: "hazard" in old - new or (old & {"hazard", "refused"} and new == {"works"}),
        Kind.REFUSED: "refused" in new - old,
        Kind.CHANGED: before != after,
    }
    # The first that holds: a hazard that is now refused is fixed, and not newly refused.
    return next((kind for kind, is_it in kinds.items() if is_it), Kind.SAME)


def _lack(cell: CellReport, name: str, but: State | None = None) -> MissingAnswer | None:
    """Return why a suite tells nothing of a cell; None if it does.

    :param but: a state in which it does not tell all.
    """
    state = next((suite.state for suite in cell.suites if suite.suite == name), None)
    if state is None:
        return MissingAnswer(cell.id, name, "was not run")
    return MissingAnswer(cell.id, name, f"is '{state}'") if state is but or not has_answer(state) else None


def _suites(*cells: CellReport) -> dict[str, None]:
    """Return the suites of this project that any of these cells has."""
    return dict.fromkeys(suite.suite for cell in cells for suite in cell.suites if not is_own(suite.suite))


def _red(compat: Compat, pairs: Iterable[Pair]) -> tuple[OneSidedFailure, ...]:
    """Return what fails on one side only, each once, with the cells on which it does."""
    found: dict[OneSidedFailure, dict[str, None]] = {}
    for pair in pairs:
        # A suite without an answer on one side is among what is silent: nobody knows what would fail there.
        answered = {name for name in _suites(*pair) if not any(_lack(cell, name) for cell in pair)}
        sides = [_failing(compat, cell) for cell in pair]
        for at, side in enumerate(sides):
            for (suite, test, is_known), message in side.items():
                # By the test alone: its message may hold names and numbers of the run.
                if suite in answered and (suite, test, is_known) not in sides[1 - at]:
                    red = OneSidedFailure(suite=suite, test=test, message=message, is_new=bool(at), is_known=is_known)
                    found.setdefault(red, {})[pair[at].id] = None
    return tuple(msgspec.structs.replace(red, cells=tuple(cells)) for red, cells in found.items())


def _failing(compat: Compat, cell: CellReport) -> dict[tuple[str, str, bool], str]:
    """Return what fails on a cell: by suite, test and whether it is a known failure what is said of it.

    A known failure that is an answer of a behaviour is compared as such.
    """
    only = msgspec.structs.replace(compat, cells=(cell,))
    # A known failure has the words of its answer as reason, but no id of it.
    told = {answer.what.removesuffix(".") for question in compat.behaviours for answer in question.answers}
    known = (failure for failure in overview.known_failures(only) if failure.message.removesuffix(".") not in told)
    return {
        (cause.suite, cause.test, cause.state is State.KNOWN): cause.text for cause in (*overview.causes(only), *known)
    }


def _subject(cells: Iterable[CellReport]) -> str:
    """Return the package under test.

    :raises ResultsError: if there are several: an answer that differs might be that of the package.
    """
    suites = [(cell.id, suite) for cell in cells for suite in cell.suites if suite.subject and not is_own(suite.suite)]
    found = {" ".join(suite.subject.values()): f"{cell} {suite.suite} of run {suite.run}" for cell, suite in suites}
    if len(found) > 1:
        raise ResultsError(
            f"the results are of different subjects: {' and '.join(sorted(found))}",
            where="; ".join(f"{name}: {where}" for name, where in found.items()),
            why="an answer may differ because of the package, and not because of the versions",
            next_step="name results of one subject with --data, or run the cells again",
        )
    return next(iter(found), "")
