"""What the cells of a report answered: the catalogue's words for what their tests saw."""

from collections.abc import Iterable, Mapping

import msgspec

from ci.matrix.behaviours import AnswerKind, Behaviour


class AnswerReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer, in the catalogue's words."""

    name: str
    kind: str
    """works, changed, refused or hazard."""
    what: str
    do: str = ""
    issue: str = ""
    limits: str = ""
    """The versions for which the catalogue has it as the right one; empty: all that no other answer is for."""
    axes: tuple[str, ...] = ()
    """What limits it: ``slurm``, ``enroot``, ``pyxis``, ``os``, ``arch``, ``runtime`` or ``settings``."""

    @property
    def is_hazard(self) -> bool:
        """Whether it harms in silence."""
        return self.kind == AnswerKind.HAZARD


class BehaviourReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question of the catalogue, and its answers."""

    id: str
    suite: str
    question: str
    answers: tuple[AnswerReport, ...] = ()
    topic: str = ""
    """Of a question that is asked of several subjects: its id without the subject."""
    subject: str = ""
    """Whom it is asked of."""

    @property
    def axes(self) -> set[str]:
        """What decides which answer is right."""
        return {axis for answer in self.answers for axis in answer.axes}

    def answer(self, name: str) -> AnswerReport:
        """Return the answer of this name; for one that an older catalogue had, what is known of it."""
        known = (answer for answer in self.answers if answer.name == name)
        # "changed" is neither warned of nor counted: what kind of answer it was is not known.
        return next(known, AnswerReport(name=name, kind=AnswerKind.CHANGED.value, what=name))


MARKED = {"hazards": AnswerKind.HAZARD.value, "refused": AnswerKind.REFUSED.value}
"""The kinds of answers that are counted beside a box, by the key of a suite and of a cell that has their ids."""
SubjectTable = dict[str, dict[str, tuple[AnswerReport, ...]]]


def of_catalogue(catalogue: Mapping[str, Behaviour]) -> tuple[BehaviourReport, ...]:
    """Return all questions, as a report has them."""
    # By the names of fields, which are the same there; what a report does not tell, such as `fails`, is left out.
    return msgspec.convert(list(catalogue.values()), tuple[BehaviourReport, ...], from_attributes=True)


def seen(suites: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Return what the tests of several suites saw: by id the names of the answers, usually one."""
    found: dict[str, set[str]] = {}
    for saw in suites:
        for name, answers in saw.items():
            found.setdefault(name, set()).update(answers)
    return {name: tuple(sorted(answers)) for name, answers in sorted(found.items())}


def of_subjects(saw: Mapping[str, tuple[str, ...]], known: Iterable[BehaviourReport]) -> SubjectTable:
    """Return what was seen of questions that are asked of several subjects: by subject and topic, the answers."""
    found: SubjectTable = {}
    for behaviour in known:
        if behaviour.subject and behaviour.id in saw:
            answers = tuple(behaviour.answer(name) for name in saw[behaviour.id])
            found.setdefault(behaviour.subject, {})[behaviour.topic] = answers
    return found


def ids_of_kind(kind: str, saw: Mapping[str, tuple[str, ...]], known: Iterable[BehaviourReport]) -> tuple[str, ...]:
    """Return the ids of the questions of which an answer of a kind was seen, in the catalogue's order."""
    return tuple(
        behaviour.id
        for behaviour in known
        if any(behaviour.answer(name).kind == kind for name in saw.get(behaviour.id, ()))
    )
