"""The words for the outcomes of tests and suites."""

from enum import StrEnum
from typing import ClassVar

import msgspec

from ci.errors import NotRunError, PyxisMatrixError


class Outcome(StrEnum):
    """Outcome of a suite on a cell; the worst comes first."""

    # Which of several counts is found by this order: a new one is put where it belongs.
    FAILED = "failed"
    """Something ran and was wrong, or nothing ran at all."""
    ERROR = "error"
    """Not known: image, environment or a fixture broke, or pytest itself did not finish."""
    INTERRUPTED = "interrupted"
    UNFINISHED = "not finished"
    """It has begun: it is running, or it was killed. Every result begins as this."""
    PARTLY = "partly run"
    """Only some tests of a suite were asked for, or could be asked there, and these passed: no answer of the suite."""
    SKIPPED = "skipped"
    """Nothing was proved: the cell is not available here, or no test passed and none failed unexpectedly."""
    PASSED = "passed"
    """Every test of a suite was selected, none failed, and at least one passed."""
    SUCCEEDED = "succeeded"
    """A command that is not pytest ended well. It has no tests, so it proves nothing of the cell."""

    @property
    def good(self) -> bool:
        """Whether all that was asked for ended well."""
        return self in {Outcome.PASSED, Outcome.PARTLY, Outcome.SUCCEEDED}

    @classmethod
    def of(cls, problem: PyxisMatrixError, *, strict: bool) -> "Outcome":
        """Return the outcome of a suite that was ended by ``problem``.

        What can't run here is skipped, unless somebody is ``strict`` about it.
        """
        return cls.SKIPPED if isinstance(problem, NotRunError) and not strict else cls.ERROR


class TestState(StrEnum):
    """Outcome of a single test; the worst comes first."""

    __test__ = False  # pytest takes every class named Test* for a test

    FAILED = "failed"
    ERROR = "error"
    """Its setup, its teardown or its collection failed, or the test itself was left out between them."""
    INTERRUPTED = "interrupted"
    """It began, and pytest ended before it did."""
    XFAILED = "xfailed"
    """It failed as a known failure of matrix.toml should."""
    EXPECTED = "expected failure"
    """It failed, and its own suite expects that (``xfail``); matrix.toml knows nothing of it."""
    SKIPPED = "skipped"
    NOT_ASKED = "not asked"
    """It needs what a site does not give: root on a node, a registry, a second user."""
    PASSED = "passed"

    @property
    def good(self) -> bool:
        """Whether it proves something."""
        return self is TestState.PASSED

    @property
    def red(self) -> bool:
        """Whether a suite with such a test did not do what it should."""
        return self in {TestState.FAILED, TestState.ERROR, TestState.INTERRUPTED}


class TestOutcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test that ran, or did not."""

    __test__: ClassVar[bool] = False

    name: str
    """pytest's own (node id): path, ``::`` and name, as it can be given to pytest again."""
    outcome: TestState
    seconds: float = 0.0
    """Setup, call and teardown of all its tries."""
    message: str = ""
    """Why it failed, was skipped or was run again; its first line is meant for summaries."""
    reruns: int = 0
    """How often it was run again before this outcome."""
    saw: tuple[tuple[str, str], ...] = ()
    """Behaviours that it asked, and the name of the answer that it saw of each."""


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tests of a suite were run, as pytest said it."""

    collected: int
    """All that it found."""
    deselected: int = 0
    by: tuple[str, ...] = ()
    """The words that asked for a part of the suite: ``-k numpy``, a path."""

    @property
    def selected(self) -> int:
        """How many were to run."""
        return self.collected - self.deselected
