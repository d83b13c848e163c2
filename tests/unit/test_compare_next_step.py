"""The command `compare`: what it says whole, which row a release is of, and the next command that it names."""

from datetime import timedelta
import json
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.cli.main import main
from ci.matrix.behaviours import Behaviour
from ci.record.outcomes import Outcome
from tests.support import results as made
from tests.support.compared import ALL, FIRST, NEW, OLD, SECOND, SUITE, Capture, Compare, failed, on, question
from tests.support.results import result, saw


@pytest.mark.parametrize("form", ["text", "md"])
def test_ids_are_whole_and_messages_are_cut(compare: Compare, known: dict[str, Behaviour], form: str) -> None:
    names = [f"a-question-with-a-name-{number}" for number in range(60)]
    known.update((name, question(name)) for name in names)
    long = replace(failed(NEW).tests[-1], message=f"it {'fails ' * 200}")
    both = [on(OLD), result(NEW, SUITE, Outcome.FAILED, tests=[*saw(ALL), long])]
    _, out, _ = compare(both, OLD.id, NEW.id, "--format", form)
    assert ", ".join(names) in out
    assert " […]\n" in out.replace("\\", "")


def test_a_release_that_was_observed_is_compared_as_its_row(compare: Compare) -> None:
    both = [replace(on(OLD), versions={**on(OLD).versions, "slurm": "22.05.8"}), on(NEW, {"made-up": "worst"})]
    code, out, _ = compare(both, "--from", "slurm=22.05.8", "--to", "slurm=25.11.7", "--format", "json")
    assert (code, list(json.loads(out)["pairs"].values())) == (1, [[OLD.id, NEW.id]])
    code, _, err = compare([], "--from", "slurm=22.05", "--to", "slurm=22.05.8")
    assert (code, "slurm has the same value in --from and --to" in err) == (11, True)
    code, _, err = compare([], "--from", "slurm=22.05.9", "--to", "slurm=25.11.7")
    assert (code, "there is no slurm '22.05.9'" in err) == (11, True)


def next_of(err: str) -> str:
    """Return the next command of an error."""
    return err.rpartition("next: ")[2].strip()


def test_the_next_step_is_one_that_is_taken(compare: Compare, tmp_path: Path, capsys: Capture) -> None:
    again = "the same again with --run: it runs the suites that are missing"
    code, _, err = compare([on(OLD), result(OLD), on(NEW)], OLD.id, NEW.id)
    assert (code, next_of(err)) == (55, again)
    code, _, err = compare([result(NEW), result(OLD, "pyxis_upstream")], OLD.id, NEW.id)
    assert (code, next_of(err)) == (55, f'nox -s "pyxis_upstream({NEW.id})"'), "no group runs it"
    less = result(NEW, SUITE, tests=saw({"made-up": "good"}), started=made.BEGIN + timedelta(days=1))
    _, _, err = compare([replace(less, run="later"), result(OLD, "registry")], OLD.id, NEW.id)
    both = [f'nox -s "{SUITE}({NEW.id})" -- --nodes 2', f'nox -s "pyxis_upstream({NEW.id})"', again]
    assert next_of(err).split("; ") == both
    # What is run is added to a report as to a folder.
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    data = ("--data", str(tmp_path / "report"))
    code, _, err = compare([], OLD.id, NEW.id, *data)
    assert (code, next_of(err).split("; ")) == (55, both)
    then = ", or the same again with --run"
    code, _, err = compare([], OLD.id, FIRST.id, *data)
    assert (code, next_of(err)) == (40, f"nox -s matrix -- {FIRST.id}{then}")
    code, _, err = compare([], "--from", "slurm=22.05", "--to", "slurm=24.11.7", *data)
    assert (code, next_of(err)) == (40, f"nox -s matrix -- {OLD.id} {SECOND.id}{then}")
