"""`ci.terminal.console`: what is written in each mode, timings, and what a failed command is turned into."""

from datetime import UTC, datetime
import errno
import io
import itertools
from pathlib import Path
import sys

import pytest

from ci.errors import BuildError, DiskFullError, EngineError
from ci.terminal.console import Console, Timings, plain_lines, warn
from ci.terminal.mode import Mode
from ci.terminal.processes import Completed, Stopped


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def make(mode: Mode | None = None, stream: io.StringIO | None = None) -> tuple[Console, io.StringIO]:
    """Return a console whose clock advances 1.6 s each time it is read, and its stream."""
    out = stream or io.StringIO()
    ticks = itertools.count(0.0, 1.6)
    console = Console(
        stream=out,
        mode=mode,
        clock=lambda: next(ticks),
        now=lambda: datetime(2026, 1, 2, 12, 3, 4, tzinfo=UTC),
        environ={},
    )
    return console, out


def completed(output: str, exit_code: int = 1, **kwargs: object) -> Completed:
    return Completed(command=("docker", "build", "."), exit_code=exit_code, output=output, **kwargs)  # type: ignore[arg-type] # a test's shorthand


def test_the_mode_follows_stream_and_environment() -> None:
    assert Console(stream=io.StringIO(), environ={}).mode is Mode.PLAIN
    assert Console(stream=Terminal(), environ={"TERM": "xterm"}).mode is Mode.TERMINAL
    assert Console(stream=Terminal(), environ={"TERM": "dumb"}).mode is Mode.PLAIN
    assert Console(stream=Terminal(), environ={"GITHUB_ACTIONS": "true"}).mode is Mode.GITHUB


def test_plain_steps_are_timed_lines() -> None:
    console, out = make(Mode.PLAIN)
    with console.step("building") as step:
        step.note = "reused"
    assert out.getvalue() == "[12:03:04] building …\n[12:03:04] building … 1.6 s (reused)\n"


def test_plain_steps_are_indented_below_each_other() -> None:
    console, out = make(Mode.PLAIN)
    with console.step("outer"), console.step("inner"):
        console.say("hello")
    assert [line[11:].split(" …")[0] for line in out.getvalue().splitlines()] == [
        "outer",
        "  inner",
        "    hello",
        "  inner",
        "outer",
    ]


@pytest.mark.parametrize(
    ("error", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted"), (Stopped, "interrupted")]
)
def test_a_step_says_how_it_ended(error: type[BaseException], word: str) -> None:
    console, out = make(Mode.PLAIN)
    with pytest.raises(error), console.step("launch"):
        raise error
    assert f"launch … {word} after 1.6 s" in out.getvalue()


def test_github_groups_are_folded_once_and_not_nested() -> None:
    console, out = make(Mode.GITHUB)
    with console.step("images\nof a cell"), console.step("base"):
        pass
    lines = out.getvalue().splitlines()
    assert lines[0] == "::group::images of a cell"
    assert [line for line in lines if line.startswith("::")] == ["::group::images of a cell", "::endgroup::"]
    assert lines.index("::endgroup::") == len(lines) - 2


def test_github_messages_are_escaped() -> None:
    console, out = make(Mode.GITHUB)
    console.warn("50 % full\nof 10 GB")
    console.fail(EngineError("no engine", next_step="start it"))
    assert out.getvalue() == "::warning::50 %25 full%0Aof 10 GB\n::error::no engine%0A  next: start it\n"


def test_a_terminal_shows_the_result_of_each_step_as_text() -> None:
    console, out = make(Mode.TERMINAL, Terminal())
    with console.step("building [bold]x[/bold]"):
        console.warn("odd")
    assert "building [bold]x[/bold]" in out.getvalue()
    assert "warning: odd" in out.getvalue()
    assert out.getvalue().count("✓") == 1


@pytest.mark.parametrize("mode", [Mode.GITHUB, Mode.GITLAB])
def test_a_thread_beside_others_opens_no_section_of_a_log(mode: Mode) -> None:
    shared, own = make(mode), io.StringIO()
    with plain_lines(own), shared[0].step("building"):
        shared[0].say("a line")
    said = [line.partition("] ")[2].partition(" … ")[0] for line in own.getvalue().splitlines()]
    assert said == ["building …", "  a line", "building"]
    assert shared[1].getvalue() == ""


def test_a_thread_beside_others_has_no_spinner_on_a_terminal() -> None:
    shared, own = make(Mode.PLAIN, Terminal()), Terminal()
    console = Console(stream=shared[1], environ={"TERM": "xterm"})
    with plain_lines(own), console.step("building"):
        console.say("a line")
    assert own.getvalue().count("\n") == 3
    assert "\x1b" not in own.getvalue() + shared[1].getvalue()


def test_a_failed_step_has_another_sign_on_a_terminal() -> None:
    console, out = make(Mode.TERMINAL, Terminal())
    with pytest.raises(ValueError, match="x"), console.step("building"):
        raise ValueError("x")
    assert "✗" in out.getvalue()


def test_stdout_stays_clean(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    warn("careful")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "warning: careful" in captured.err


def test_the_stream_is_looked_up_late(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(environ={})
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    console.say("hello")
    assert "hello" in later.getvalue()


def test_steps_record_their_phase_even_when_they_fail() -> None:
    console, _ = make(Mode.PLAIN)
    ticks = itertools.count(0.0, 1.6)
    timings = Timings(clock=lambda: next(ticks))
    with console.step("building base", phase="images", timings=timings):
        pass
    with pytest.raises(ValueError, match="x"), console.step("building slurm", phase="images", timings=timings):
        raise ValueError("x")
    with console.step("launch", timings=timings):
        pass
    assert timings.as_dict() == {"images": 3.2, "launch": 1.6}


def test_timings_measure_and_add_up_in_order() -> None:
    ticks = iter([1.0, 3.5])
    timings = Timings(clock=lambda: next(ticks))
    timings.add("b", 1.0)
    with timings.measure("a"):
        pass
    timings.add("b", 0.00049)
    assert list(timings.as_dict().items()) == [("b", 1.0), ("a", 2.5)]


def test_a_command_that_succeeded_is_checked_quietly() -> None:
    result = completed("fine", exit_code=0)
    assert result.check(BuildError) is result


def test_a_failed_command_becomes_the_callers_error_with_its_last_lines() -> None:
    output = "\n".join(f"line {number}" for number in range(100))
    with pytest.raises(BuildError) as caught:
        completed(output, log=Path("logs/build.log")).check(BuildError, "base did not build", next_step="look")
    text = str(caught.value)
    assert text.startswith("base did not build\n")
    assert "where: logs/build.log" in text
    assert "line 99" in text
    assert "line 50" not in text
    assert "next: look" in text


def test_a_failed_command_without_output_says_so() -> None:
    with pytest.raises(BuildError, match="exit code 7, no output"):
        completed("", exit_code=7).check(BuildError)


def test_a_full_disk_has_its_own_error() -> None:
    with pytest.raises(DiskFullError, match="the disk is full") as caught:
        completed("cp: write: No space left on device").check(BuildError, "base did not build")
    assert "make room" in str(caught.value)


def test_stderr_that_was_kept_apart_is_in_the_tail() -> None:
    assert completed("out", errors="err").tail() == "out\nerr"


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, _text: str) -> int:
        """Take nothing."""
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("mode", list(Mode))
def test_work_goes_on_where_nobody_listens_any_more(mode: Mode) -> None:
    console = Console(stream=Gone(), mode=mode)
    done = []
    with console.step("taking down"):
        console.say("one")
        done.append("one")
    console.fail("two")
    assert done == ["one"]
