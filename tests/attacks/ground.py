"""What attacks are made with: the real program, results that were made up, and a small suite for pytest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
import subprocess
import sys
import time

from ci import paths
from ci.matrix.suites import SUITES
from ci.record import reportlog
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.terminal.processes import Completed
from tests.support import results

_LIMIT_SECONDS = 900.0
_PASSED = re.compile(r"(real cells|embedded|legacy): \d+ passed")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where one attack is made: folders of its own, and a cell's id for those that need a cell."""

    folder: Path
    cell: str
    run: str
    """A run's id that nobody else has."""

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.folder / "results"

    def program(self, *words: str, variables: Mapping[str, str] | None = None) -> Completed:
        """Run ``python -m ci`` to its end."""
        return _run([sys.executable, "-m", "ci", *words], cwd=paths.REPOSITORY, variables=self._variables(variables))

    def session(self, *words: str, behind: Sequence[str], variables: Mapping[str, str] | None = None) -> Completed:
        """Run a command against the cell, as a session does: `words` are options, `behind` stands behind ``--``."""
        options = ("--run", self.run, "--results", str(self.results), *words)
        return self.program("run", self.cell, *options, "--", *behind, variables=variables)

    def suite(self, *options: str, name: str, variables: Mapping[str, str] | None = None) -> Completed:
        """Run one of the project's suites on the cell in the way of its session, with more options of pytest."""
        *words, folder = SUITES["pyxis_conformance"].words()
        command = (sys.executable, "-m", "pytest", *words, f"{folder}/test_versions.py", *options)
        return self.session("--as", name, "--pytest", behind=command, variables=variables)

    def killed(self, *words: str, behind: Sequence[str], once: Path) -> None:
        """Start a session, and kill it with -9 as soon as a file is there."""
        options = ("--run", self.run, "--results", str(self.results), *words)
        command = [sys.executable, "-m", "ci", "run", self.cell, *options, "--", *behind]
        with subprocess.Popen(
            command,
            cwd=paths.REPOSITORY,
            env=self._variables(None),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        ) as process:
            until = time.monotonic() + _LIMIT_SECONDS
            while not once.exists() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            process.kill()

    def made(self, *of: Result, below: str = "") -> Path:
        """Write results that were made up where a run would; return the folder."""
        folder = self.results / below if below else self.results
        results.write(folder, *of)
        return folder

    def report(self, *folders: Path) -> Completed:
        """Merge results into a report, and return what it says in words."""
        return self.program("report", "--format", "md", *map(str, folders or (self.results,)))

    def pytest(self, text: str, *options: str, after: str = "") -> Outcome:
        """Run pytest on a suite of one file, and return what is made of its log, with ``after`` added to it."""
        file, log = self.folder / "test_attack.py", self.folder / "log.jsonl"
        file.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(self.folder), str(file)]
        done = _run([*command, *options, *reportlog.options(log)], cwd=self.folder, variables=self._variables(None))
        with log.open("a", encoding="utf-8") as stream:
            stream.write(after)
        return reportlog.read(log).outcome(done.exit_code)

    def _variables(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "PYXIS_MATRIX_RUN": self.run, **(more or {})}


def _run(command: Sequence[str], *, cwd: Path, variables: Mapping[str, str]) -> Completed:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_LIMIT_SECONDS,
        check=False,
    )
    return Completed(command=tuple(command), exit_code=done.returncode, output=done.stdout)


def believed(done: Completed) -> bool:
    """Whether a report or a session ended well and counts a cell as passed."""
    return done.exit_code == 0 and bool(_PASSED.search(done.output))


def last_line(done: Completed) -> str:
    """Return how it ended, in one line."""
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    return f"exit code {done.exit_code}: {lines[-1] if lines else 'it said nothing'}"
