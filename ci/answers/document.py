"""What people read of a comparison and of an answer: a headline and sections, as plain text or as Markdown."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from ci.answers.asking import Advice, AnsweredQuestion, Status, TestedCell
from ci.answers.comparing import ComparedQuestion, Comparison, Kind, MissingAnswer
from ci.record.printable import printable
from ci.report import escaped
from ci.report.answers_table import AXES
from ci.report.behaviours import AnswerReport
from ci.terminal.quantities import count

Item = tuple[str, Sequence[str]]
"""What is said, and the lines that say more of it."""
Document = tuple[str, dict[str, list[Item]]]
"""What it comes to, and what stands under which title; a title without items is left out."""


def _form(escape: Callable[[str], str], *marks: str) -> Callable[[Document], Iterator[str]]:
    """Return a form: the marks are those of the headline, a title, what stands around titles, an item and a line."""
    headline, title, blank, item, more = marks

    def pieces(document: Document) -> Iterator[str]:
        yield f"{headline}{escape(document[0])}\n"
        for name, items in document[1].items():
            yield from [f"\n{title}{name}\n{blank}"] if items else []
            for head, lines in items:
                yield f"{item}{escape(head)}\n"
                yield from (f"{more}{escape(line)}\n" for line in lines)

    return pieces


FORMS: dict[str, Callable[[Document], Iterable[str]]] = {
    "text": _form(printable, "", "", "", "  ", "      "),
    "md": _form(escaped.whole, "# ", "## ", "\n", "- ", "  - "),
}
"""By the name that ``--format`` has for it."""


def of_comparison(comparison: Comparison) -> Document:
    """Return what people read of a comparison."""
    sections: dict[str, list[Item]] = {kind: [] for kind in Kind}
    untold: dict[tuple[MissingAnswer, ...], list[str]] = {}
    for compared in comparison.behaviours:
        # Of a question that no pair answers on both sides only the reason is told, with all that have the same one.
        if compared.kind is Kind.UNTOLD:
            lacks = dict.fromkeys(lack for lacks in compared.untold.values() for lack in lacks)
            untold.setdefault(tuple(lacks), []).append(compared.id)
        # What is dangerous before and after is named as well: nothing differs, but it is no recommendation.
        elif compared.kind.differs or any(answer.is_hazard for answer in compared.turns[0].after):
            sections[compared.kind].append(
                (f"{compared.id}: {compared.question}", _compared(compared, len(comparison.pairs)))
            )
    # A suite that is silent leaves its questions open, and is named with these already.
    named = {lack for lacks in untold for lack in lacks}
    sections[Kind.UNTOLD] = [(", ".join(ids), _by_reason(lacks)) for lacks, ids in untold.items()]
    if others := _by_reason(lack for lack in comparison.silent if lack not in named):
        sections[Kind.UNTOLD].append(("tests of other suites", others))
    failing: dict[tuple[bool, bool], list[Item]] = {}
    for red in comparison.red:
        item = (f"{red.suite} {red.test}".rstrip(), [escaped.cut(red.message), *red.cells])
        failing.setdefault((red.is_known, red.is_new), []).append(item)
    numbers = Counter(compared.kind for compared in comparison.behaviours)
    counts = ", ".join(f"{numbers[kind]} {kind}" for kind in Kind if numbers[kind])
    known = Counter(red.is_known for red in comparison.red)
    names = {False: "tests that fail", True: "known failures"}
    more = (f"; {name} on one side only: {known[which]}" for which, name in names.items() if known[which])
    return f"{comparison.verdict}; behaviours: {counts or 'none seen'}{''.join(more)}", {
        "Compared": [(f"{before} → {after}", []) for before, after in comparison.pairs.values()],
        "Newly dangerous (silently wrong, lost, leaked, hanging, or harming other jobs)": sections[Kind.DANGEROUS],
        **{kind.capitalize(): sections[kind] for kind in (Kind.REFUSED, Kind.FIXED, Kind.CHANGED)},
        "Tests that fail now and did not before": failing.get((False, True), []),
        "Tests that failed before and do not now": failing.get((False, False), []),
        "Known failures now, and not before": failing.get((True, True), []),
        "Known failures before, and not now": failing.get((True, False), []),
        "Could not be told": sections[Kind.UNTOLD],
        "Hazards on both sides": sections[Kind.SAME],
    }


def _by_reason(lacks: Iterable[MissingAnswer]) -> list[str]:
    """Return reasons, each once with its cells."""
    cells: dict[str, list[str]] = {}
    for lack in lacks:
        cells.setdefault(f"{lack.suite} {lack.why}", []).append(lack.cell)
    return [f"{reason}: {', '.join(names)}" for reason, names in cells.items()]


def _compared(compared: ComparedQuestion, pairs: int) -> list[str]:
    """Return how the answer to a question changes, and in which of several pairs."""
    lines: list[str] = []
    for turn in compared.turns:
        where = ", ".join(turn.pairs) if len(turn.pairs) < pairs else f"all {pairs} pairs"
        lines += [f"{turn.kind}: {where}"] if pairs > 1 else []
        # Of an answer that is gone what to do about it is of no use; its issue is.
        if turn.kind.differs:
            lines += [line for answer in turn.before for line in _told(answer, "before: ", more=("issue",))]
        if turn.kind.differs or compared.kind is Kind.SAME:
            lines += [line for answer in turn.after for line in _told(answer, "now: ")]
    return lines + [
        f"could not be told: {pair}: {'; '.join(_by_reason(lacks))}" for pair, lacks in compared.untold.items()
    ]


def _told(answer: AnswerReport, label: str = "", more: Sequence[str] = ("do", "issue")) -> list[str]:
    """Return what happens, for which versions, and what to do about it."""
    limits = f" ({answer.limits})" if answer.limits else ""
    beside = [("what to do: " if name == "do" else "issue: ", getattr(answer, name)) for name in more]
    first = f"{label}{answer.kind}, {answer.name}: {answer.what}{limits}"
    return [first, *(f"{name}{text}" for name, text in beside if text)]


def of_reply(advice: Advice) -> Document:
    """Return what people read of an answer."""
    where = ", ".join(f"{AXES[axis]} {value}" for axis, value in advice.asked.items())
    well = "answer well" if advice.question else "work"
    near = f"The nearest cells that {'were tested' if advice.status is Status.UNTESTED else well}"
    unasked: list[Item] = (
        [(count(len(advice.unasked), "behaviour"), [", ".join(advice.unasked)])]
        if advice.unasked and advice.cells
        else []
    )
    kinds = Counter(kind for seen in advice.behaviours for kind in {answer.kind for answer in seen.answers})
    numbers = {"hazard": count(kinds["hazard"], "hazard"), "refused": f"{kinds['refused']} refused"}
    seen = ", ".join(text for kind, text in numbers.items() if kinds[kind])
    # Without a hazard or a refusal, nothing stands between the brackets.
    said = ", ".join(sorted(kinds)) if advice.question else f"{advice.status} ({seen})".removesuffix(" ()")
    return f"{where}: {said or advice.status}", {
        "Cells of this combination": list(map(_tested, advice.cells)),
        "What fails": [(escaped.cut(text), []) for text in advice.failures],
        "Seen there": list(map(_seen, advice.behaviours)),
        "Known failures": [(escaped.cut(text), []) for text in advice.known_failures],
        "Not asked there, so not known": unasked,
        near: list(map(_tested, advice.nearest)),
        "Expected, not tested": list(map(_seen, advice.expected)),
    }


def _tested(tested: TestedCell) -> Item:
    differs = [f"differs: {axis} {value or 'none'}" for axis, value in tested.differs.items()]
    hazards = count(len(tested.hazards), "hazard") if tested.hazards else ""
    refused = f"{len(tested.refused)} refused" if tested.refused else ""
    return f"{tested.id}: {', '.join(filter(None, (tested.state, hazards, refused)))}", [
        *differs,
        *(line for answer in tested.answers for line in _told(answer, "answered: ", more=())),
        *(f"{suite}: {escaped.cut(text)}" for suite, text in tested.suites.items()),
        *([f"not run: {', '.join(tested.not_run)}"] if tested.not_run else []),
    ]


def _seen(seen: AnsweredQuestion) -> Item:
    cells = [f"seen on {day}: {cell}" for cell, day in seen.cells.items()]
    return f"{seen.id}: {seen.question}", [*(line for answer in seen.answers for line in _told(answer)), *cells]
