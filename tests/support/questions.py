"""Questions for tests of the report: one of every kind of answer, and of every axis that may decide."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ci.matrix.behaviours import Answer, AnswerKind, Behaviour
from ci.report import merging

HAZARD = Answer(
    name="on the host",
    kind=AnswerKind.HAZARD,
    what="The script runs on the host.",
    do="Name the image in an srun.",
    issue="NVIDIA/pyxis#1",
    only={"slurm": ("<23.11",)},
)


def works(name: str = "well", **limits: tuple[str, ...]) -> Answer:
    """Return an answer that harms nobody, for versions of its axes, or for all others."""
    return Answer(name=name, kind=AnswerKind.WORKS, what=f"It goes {name}.", only=limits, otherwise=not limits)


def question(name: str, *answers: Answer, suite: str = "pyxis_conformance") -> Behaviour:
    """Return a question with its answers."""
    return Behaviour(id=name, suite=suite, question=f"What of {name}?", answers=answers, where="behaviours.toml:1")


QUESTIONS = {
    it.id: it
    for it in (
        question("by-slurm", HAZARD, works("in the image", slurm=(">=23.11",))),
        question(
            "by-two-axes",
            Answer(
                name="refused",
                kind=AnswerKind.REFUSED,
                what="It says no.",
                issue=f"https://github.com/SchedMD/slurm/commit/{'42e23f9a2d' * 4}",  # wider than a phone
                only={"slurm": ("<23",), "pyxis": ("<0.20",)},
            ),
            works(),
        ),
        question(
            "by-os",
            Answer(name="otherwise", kind=AnswerKind.CHANGED, what="It differs.", only={"os": ("debian12",)}),
            works(),
        ),
        question("everywhere", Answer(name="hangs", kind=AnswerKind.HAZARD, what="It hangs.", otherwise=True)),
        question("by-enroot", works("new", enroot=(">=4",)), works("old", enroot=("<4",)), suite="registry"),
        question("never-asked", works(), suite="slurm_facts"),
    )
}
OF_SUBJECTS = {
    it.id: it
    for topic in ("cancels", "fails")
    for of in ("one-tool", "other-tool")
    for it in (
        replace(
            question(f"{topic}-{of}", HAZARD, works("well", slurm=(">=23.11",))),
            question=f"{of}: What of {topic}?",
            topic=topic,
            subject=of,
        ),
    )
}
"""Two questions that are asked of two subjects each."""
ASKED = {name: it for name, it in QUESTIONS.items() if name != "never-asked"}


@contextmanager
def questions(more: Mapping[str, Behaviour] = {}) -> Iterator[None]:
    """Make reports know these questions, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "catalogue", lambda: {**QUESTIONS, **more})
        yield
