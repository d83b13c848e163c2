"""`ci.terminal.console.Console.call` with real processes: output, exit codes, and that nothing stays behind."""

from collections.abc import Iterator
from contextlib import contextmanager
import io
import os
from pathlib import Path
import signal
import sys
import threading
import time

import pytest

from ci.terminal import processes
from ci.terminal.console import Console
from ci.terminal.mode import Mode


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(stream: io.StringIO) -> Console:
    return Console(stream=stream, mode=Mode.PLAIN)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_output_is_kept_and_the_command_is_echoed(console: Console, stream: io.StringIO) -> None:
    result = console.call(shell("echo one; echo two >&2; exit 3"))
    assert result.exit_code == 3
    assert not result.ok
    assert result.output == "one\ntwo\n"
    assert "$ sh -c 'echo one; echo two >&2; exit 3'" in stream.getvalue()


def test_the_log_gets_command_and_output_and_is_appended_to(console: Console, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"
    console.call(shell("echo one"), log=log)
    result = console.call(shell("echo two"), log=log)
    assert log.read_text() == "$ sh -c 'echo one'\none\n$ sh -c 'echo two'\ntwo\n"
    assert result.output == "two\n"
    assert result.log == log


def test_stderr_can_be_kept_apart(console: Console, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = console.call(shell("echo '{}'; echo careful >&2"), split=True, log=log)
    assert (result.output, result.errors) == ("{}\n", "careful\n")
    assert "careful" in log.read_text()
    assert "{}" in log.read_text()


def test_its_input_is_empty(console: Console) -> None:
    assert console.call(["cat"]).output == ""


def test_folder_and_environment_are_passed_on(console: Console, tmp_path: Path) -> None:
    result = console.call(shell("pwd; echo $GREETING"), cwd=tmp_path, env={"GREETING": "hi", "PATH": os.defpath})
    assert result.output == f"{tmp_path}\nhi\n"


def test_bytes_that_are_no_text_do_not_break_it(console: Console) -> None:
    assert "\N{REPLACEMENT CHARACTER}" in console.call(shell(r"printf '\377'")).output


def test_a_missing_command_is_127_with_words(console: Console) -> None:
    result = console.call(["pyxis-matrix-no-such-command"])
    assert result.exit_code == 127
    assert "failed to start pyxis-matrix-no-such-command: No such file or directory" in result.tail()


def test_attached_a_missing_command_is_127_with_words(console: Console) -> None:
    result = console.attach(["pyxis-matrix-no-such-command"])
    assert result.exit_code == 127
    assert "failed to start pyxis-matrix-no-such-command: No such file or directory" in result.tail()


def test_a_file_that_is_no_program_is_126(console: Console, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    assert console.call([tmp_path / "plain"]).exit_code == 126


def test_a_daemon_left_behind_does_not_hold_the_caller(console: Console) -> None:
    """The daemon would sleep far longer than this test may take; a reader on a pipe would wait for its end."""
    result = console.call(shell("sleep 300 & echo $!"))
    daemon = int(result.output)
    assert running(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_attached_hands_the_streams_over(console: Console, capfd: pytest.CaptureFixture[str]) -> None:
    result = console.attach(shell("echo to the terminal; exit 5"))
    assert result.exit_code == 5
    assert result.output == ""
    assert "to the terminal" in capfd.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stubborn", [False, True], ids=["polite", "stubborn"])
def test_an_interrupt_ends_the_whole_group(
    console: Console, tmp_path: Path, number: signal.Signals, *, stubborn: bool
) -> None:
    pids = tmp_path / "pids"
    trap = "trap '' TERM; " if stubborn else ""
    script = f"{trap}sleep 300 & echo $$ > {pids}.new; echo $! >> {pids}.new; mv {pids}.new {pids}; wait; wait"
    with interrupted_once_there(pids, number), pytest.raises(KeyboardInterrupt):
        console.call(shell(script), grace=0.2 if stubborn else 10)
    assert [pid for pid in map(int, pids.read_text().split()) if outlives(pid)] == []


@pytest.mark.parametrize("stubborn", [False, True], ids=["polite", "stubborn"])
def test_a_thread_that_is_asked_to_end_ends_the_whole_group_and_starts_nothing_more(
    console: Console, tmp_path: Path, *, stubborn: bool
) -> None:
    pids, stop, came = tmp_path / "pids", threading.Event(), list[BaseException]()
    trap = "trap '' TERM; " if stubborn else ""
    script = f"{trap}sleep 300 & echo $$ > {pids}.new; echo $! >> {pids}.new; mv {pids}.new {pids}; wait; wait"

    def work() -> None:
        processes.STOP.set(stop)
        for words in (shell(script), shell(f"touch {tmp_path / 'second'}")):
            try:
                console.call(words, grace=0.2 if stubborn else 10)
            except processes.Stopped as stopped:
                came.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    while not pids.exists():
        time.sleep(0.01)
    stop.set()
    thread.join()
    assert len(came) == 2
    assert [pid for pid in map(int, pids.read_text().split()) if outlives(pid)] == []
    assert not (tmp_path / "second").exists()


ATTACHED = """
import os, signal, sys, time
pid, told = sys.argv[1:]
def note(number, frame):
    open(told, "w").write(signal.Signals(number).name)
    sys.exit(1)
signal.signal(signal.SIGINT, note)
signal.signal(signal.SIGTERM, note)
open(pid + ".new", "w").write(str(os.getpid()))
os.rename(pid + ".new", pid)
time.sleep(300)
"""


@pytest.mark.parametrize(
    ("error", "grace", "told"),
    [
        # Ctrl-C reached the command as well (not so in this test), so it is only waited for, then told to go.
        (KeyboardInterrupt, 0.5, "SIGTERM"),
        # Anything else did not reach it: it is asked as if by Ctrl-C.
        (SystemExit, 10.0, "SIGINT"),
    ],
)
def test_an_attached_command_may_finish_and_is_then_ended(
    console: Console, tmp_path: Path, error: type[BaseException], grace: float, told: str
) -> None:
    pid, note = tmp_path / "pid", tmp_path / "told"
    with interrupted_once_there(pid, signal.SIGTERM, error), pytest.raises(error):
        console.attach([sys.executable, "-c", ATTACHED, pid, note], grace=grace)
    assert not outlives(int(pid.read_text()))
    assert note.read_text() == told


@contextmanager
def interrupted_once_there(
    path: Path, number: signal.Signals, error: type[BaseException] = KeyboardInterrupt
) -> Iterator[None]:
    """Send ourselves a signal once a file exists; its handler raises, as the command line's own does."""

    def interrupt(*_: object) -> None:
        raise error

    def send() -> None:
        while not path.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    before = signal.signal(number, interrupt)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        yield
    finally:
        signal.signal(number, before)


def running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie; orphans stay zombies where no init collects them."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def outlives(pid: int, patience: int = 1000) -> bool:
    """Tell whether a process is still there after the kernel had ample time to carry out a SIGKILL."""
    for _ in range(patience):
        if not running(pid):
            return False
        time.sleep(0.01)
    return True
