"""What attacks are made with: the real program, results that were made up, and a small suite for pytest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import subprocess
import sys
import time

from ci import paths
from ci.record import reportlog
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.terminal.processes import Completed
from tests.support import results

TWO_TESTS = "def test_a():\n    pass\n\n\ndef test_b():\n    assert False\n"
"""One passes, the other fails."""
_LIMIT_SECONDS = 900.0
_PASSED = re.compile(r"(real cells|embedded|legacy): \d+ passed")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where one attack is made: folders of its own, and a cell's id for those that need a cell."""

    folder: Path
    cell: str
    run: str
    """A run's id that nobody else has."""
    said: list[str] = field(default_factory=list)
    """What each program said, to its end."""

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.folder / "results"

    @property
    def log(self) -> Path:
        """The report log of the last `pytest`."""
        return self.folder / "log.jsonl"

    def program(
        self, *words: str, variables: Mapping[str, str] | None = None, repository: Path = paths.REPOSITORY
    ) -> Completed:
        """Run ``python -m ci`` to its end, that of a copy of the repository if one is named."""
        return self._run([sys.executable, "-m", "ci", *words], repository, variables)

    def session(self, *words: str, behind: Sequence[str], variables: Mapping[str, str] | None = None) -> Completed:
        """Run a command against the cell, as a session does: `words` are options, `behind` comes after ``--``."""
        options = ("--run", self.run, "--results", str(self.results), *words)
        return self.program("run", self.cell, *options, "--", *behind, variables=variables)

    def suite(self, name: str, *options: str, variables: Mapping[str, str] | None = None) -> Completed:
        """Run one of the project's suites on the cell, with more options of pytest."""
        words = ("--run", self.run, "--results", str(self.results))
        return self.program("suite", name, self.cell, *words, "--", *options, variables=variables)

    @contextmanager
    def started(self, *words: str, variables: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
        """Have ``python -m ci`` run beside the block, and wait for its end."""
        command = [sys.executable, "-m", "ci", *words]
        with subprocess.Popen(
            command,
            cwd=paths.REPOSITORY,
            env=self._variables(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            yield process

    def until(self, process: "subprocess.Popen[str]", holds: Callable[[], bool]) -> bool:
        """Wait until something holds; return whether it did before the process ended, or time was up."""
        until = time.monotonic() + _LIMIT_SECONDS
        while process.poll() is None and time.monotonic() < until:
            if holds():
                return True
            time.sleep(0.001)
        return False

    def made(self, *of: Result, below: str = "") -> Path:
        """Write results that were made up where a run would; return the folder."""
        folder = self.results / below if below else self.results
        results.write(folder, *of)
        return folder

    def report(self, *folders: Path) -> Completed:
        """Merge results into a report, and return what it says in words."""
        return self.program("report", "--format", "md", *map(str, folders or (self.results,)))

    def pytest(self, text: str, *options: str, after: str = "", variables: Mapping[str, str] | None = None) -> Outcome:
        """Run pytest on a suite of one file, and return what is made of its log, with ``after`` added to it."""
        file, log = self.folder / "test_attack.py", self.log
        file.write_text(text, encoding="utf-8")
        (self.folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", str(file)]
        path = {"PYTHONPATH": str(paths.REPOSITORY)}
        known = {**reportlog.variables(path), **(variables or {})}
        done = self._run([*command, *options, *reportlog.options(log)], self.folder, known)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(after)
        return reportlog.read(log).outcome(done.exit_code)

    def _run(self, command: Sequence[str], folder: Path, variables: Mapping[str, str] | None) -> Completed:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self._variables(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        self.said.append(done.stdout)
        return Completed(command=tuple(command), exit_code=done.returncode, output=done.stdout)

    def _variables(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "PYXIS_MATRIX_RUN": self.run, **(more or {})}


def believed(done: Completed) -> bool:
    """Whether a report or a session ended well and counts a cell as passed."""
    return done.exit_code == 0 and bool(_PASSED.search(done.output))


def last_line(done: Completed) -> str:
    """Return how it ended, in one line."""
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    return f"exit code {done.exit_code}: {lines[-1] if lines else 'it said nothing'}"
