"""A session begins with a result that says so: no end, not even kill -9, leaves the answer of an earlier attempt."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.engine.connection import Engine
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import DiskFullError, EngineError, ResultsError
from ci.matrix import loading
from ci.options import Options
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import CellRecord, Result
from ci.session import running
from ci.session.record import Record
from tests.support import results as made
from tests.support.tag_archives import COMMIT

LEGACY = "slurm22.05-legacy-debian12-amd64"
LEFT = (store.REPORT_LOG_FILE, store.JUNIT_FILE)


@pytest.fixture
def planned(tmp_path: Path) -> EnvironmentPlan:
    """Return the plan of a session, in whose folder an earlier attempt left that it passed."""
    rows = loading.load()
    plan = plan_environment(rows.cell(LEGACY), rows, Options(run="run", name="suite", results=tmp_path, pytest=True))
    (folder,) = made.write(tmp_path, made.result(CellRecord.of(plan.cell), "suite", run="run"))
    for name in LEFT:
        (folder / name).write_text("of before")
    assert (folder, written(plan).outcome) == (plan.options.folder(plan.cell), Outcome.PASSED)
    return plan


def written(plan: EnvironmentPlan) -> Result:
    return store.load(plan.options.folder(plan.cell) / store.RESULT_FILE)


@contextmanager
def opened(_record: Record) -> Iterator[None]:
    yield


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test handles it."""


def killed(*_: object, **__: object) -> Any:  # noqa: ANN401 - it stands for anything
    raise Killed


ASKING = ("connect", "check_host", "sources_of", "Builder")


@pytest.mark.parametrize("at", [*ASKING, "against", "_judged"])
def test_what_is_killed_at_any_moment_has_no_answer_of_an_earlier_attempt(
    planned: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    for name in ("connect", "check_host", "against"):
        monkeypatch.setattr(running, name, lambda *_: 0)
    if at not in ASKING:
        monkeypatch.setattr(running, "environment_of", opened)
    monkeypatch.setattr(running, at, killed)
    with pytest.raises(Killed):
        running.run(Record(plan=planned, command=["pytest"]))
    kept = written(planned)
    assert (kept.outcome, kept.exit_code, kept.tests) == (Outcome.UNFINISHED, ResultsError.exit_code, ())
    assert kept.reason.startswith(f"it began at {kept.started:%Y-%m-%d %H:%M:%S} UTC and has not ended")
    assert not any((planned.options.folder(planned.cell) / name).exists() for name in LEFT)


def test_a_dead_engine_is_an_error_and_no_answer_of_before(
    planned: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead() -> Engine:
        raise EngineError("no engine")

    monkeypatch.setattr(running, "connect", dead)
    with pytest.raises(EngineError):
        running.run(Record(plan=replace(planned, commit=COMMIT), command=["pytest"]))
    kept = written(planned)
    assert (kept.outcome, kept.reason, kept.commit) == (Outcome.ERROR, "no engine", COMMIT)


def test_where_not_even_a_beginning_can_be_written_the_earlier_answer_is_gone(
    planned: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("no room")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(DiskFullError):
        running.run(Record(plan=planned, command=["pytest"]))
    assert not (planned.options.folder(planned.cell) / store.RESULT_FILE).exists()


def test_a_cluster_for_a_person_that_starts_leaves_no_failure_of_before(
    planned: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "environment_of", opened)
    running.run(Record(plan=replace(planned, options=replace(planned.options, pytest=False))))
    assert not (planned.options.folder(planned.cell) / store.RESULT_FILE).exists()
