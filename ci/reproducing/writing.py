"""The forms in which a case is handed on: a script for any cluster, a bats test, the text of an issue."""

from dataclasses import dataclass
from pathlib import Path
import re

from ci import templates
from ci.matrix import loading
from ci.matrix.behaviours import catalogue
from ci.matrix.model import VERSION_AXES
from ci.report.answers_table import AXES
from ci.report.behaviours import AnswerReport, BehaviourReport, of_catalogue
from ci.reproducing.case import Case, RanCommand

FORMS = {"cluster": "cluster.sh.j2", "docker": "docker.sh.j2", "bats": "case.bats.j2", "issue": "issue.md.j2"}
"""Templates by the name that ``--format`` has for them."""


@dataclass(frozen=True, kw_only=True)
class TellingAnswer:
    """What the telling command answered on one of the two cells."""

    cell: str
    answer: str
    """Status and text, as the script has them: for the shell, one word."""
    what: str
    """In a sentence: the answer that the test saw, or its message."""


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """A case, and how to tell whether its fault is there."""

    case: Case
    fixed: Case | None = None
    """The same test on a cell without the fault; without it, only what was seen is known, and not what is right."""

    def written(self, form: str) -> str:
        """Return the text in a form of `FORMS`.

        :raises ReproduceError: if the two cases do not differ in what was answered.
        """
        # With one case alone nobody knows which command tells: the last one is what a test mostly ends with.
        at, told = self.case.differs_at(self.fixed) if self.fixed else (len(self.case.steps) - 1, "answer")
        environment = templates.environment(Path(__file__).parent)
        environment.filters["worded"] = _worded
        steps = self.case.steps[: at + 1]
        seen = _seen(self.case)
        fault = _telling(self.case, steps[at], told)
        right = _telling(self.fixed, self.fixed.steps[at], told) if self.fixed else None
        texts = (*(step.command for step in steps), fault.answer, right.answer if right else "")
        words: dict[str, object] = {
            "test": self.case.test.name.rpartition("/")[2],
            "question": seen[0].question if seen else self.case.test.name,
            "versions": _versions(self.case),
            "day": f"{self.case.found.result.started:%Y-%m-%d}",
            "steps": steps,
            "image": self.case.image,
            "told": told,
            "fault": fault,
            "right": right,
            "data": any("@DATA@" in text for text in texts),
            "issue": seen[1].issue if seen else "",
        }
        if form == "docker":
            words |= _node(self.case)
        if form == "issue":
            told_by = steps[-1]
            words["showed"] = _worded("\n".join(filter(None, (told_by.command, told_by.stdout, told_by.stderr))))
            words["script"] = environment.get_template(FORMS["cluster"]).render(words)
        return environment.get_template(FORMS[form]).render(words)


def _worded(text: str) -> str:
    """Return a text for a reader: with words in the place of placeholders, which only the script fills in."""
    return re.sub(r"@([A-Z]+\d*)@", r"\1", text)


def _node(case: Case) -> dict[str, object]:
    """Return what a node is made of."""
    result = case.found.result
    series = result.versions.get("slurm", "")
    return {
        "files": result.artefacts,
        # A Slurm of its own archive; else it comes from Debian's packages.
        "compiled": any(artefact.path.startswith("SchedMD/") for artefact in result.artefacts),
        # Slurm knows CgroupPlugin=disabled from 24.05 on.
        "disabled": tuple(map(int, series.split(".")[:2])) >= (24, 5),
        "codename": next(
            (system.codename for system in loading.load().systems if system.name == result.cell.os), result.cell.os
        ),
    }


def _telling(case: Case, step: RanCommand, told: str) -> TellingAnswer:
    text = step.answer[1] if told == "answer" else step.said
    return TellingAnswer(cell=case.found.result.cell_id, answer=f"{step.status} {text}", what=_what(case))


def _seen(case: Case) -> tuple[BehaviourReport, AnswerReport] | None:
    """Return the question of the catalogue that the test asked, and the answer that it saw; None if it asked none."""
    known = {question.id: question for question in of_catalogue(catalogue())}
    return next(((known[name], known[name].answer(answer)) for name, answer in case.test.saw if name in known), None)


def _what(case: Case) -> str:
    """Return what happened on the cell, as a sentence."""
    if seen := _seen(case):
        return seen[1].what
    return case.test.message.partition("\n")[0] or case.test.outcome.value


def _versions(case: Case) -> str:
    seen = case.found.result.versions
    return ", ".join(f"{AXES[axis]} {seen[axis]}" for axis in VERSION_AXES if seen.get(axis))
