"""The table of behaviours in the README of a suite: made of its catalogue, and of which tests ask what."""

from ci.matrix.behaviours import Answer, AnswerKind, Behaviour, catalogue
from tests.support.asking_tests import askers

HEADING = "| behaviour | answers | asked by |"
"""The first line of the table."""


def table_of(suite: str) -> list[str]:
    """Return the lines of a suite's table."""
    # One that is asked of several subjects is one row.
    rows = {it.topic or it.id: _row(it) for it in catalogue().values() if it.suite == suite}
    return [HEADING, "|---|---|---|", *rows.values()]


def _row(behaviour: Behaviour) -> str:
    answers = "; ".join(_told(it, alone=len(behaviour.answers) == 1) for it in behaviour.answers)
    tests = ", ".join(sorted(f"`{test.name}`" for test in askers(behaviour.id)))
    name, question = behaviour.topic or behaviour.id, behaviour.question.removeprefix(f"{behaviour.subject}: ")
    return f"| {question} (`{name}`) | {answers} | {tests} |"


def _told(answer: Answer, *, alone: bool) -> str:
    hazard = " (**hazard**)" if answer.kind is AnswerKind.HAZARD else ""
    if answer.subjects == ():
        return f"{answer.name}{hazard}: none"
    where = answer.limits or ("everywhere" if alone else "all others")
    return f"{answer.name}{hazard}: {where}"
