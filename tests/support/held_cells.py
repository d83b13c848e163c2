"""Doubles of the program that holds cells for the pytest plugin, and a repository whose tests run on them."""

from collections.abc import Callable, Sequence
import io
import json
from pathlib import Path
from typing import Any, Self

import pytest

from ci.record import reportlog
from ci.record.outcomes import Outcome

EMBEDDED, REAL = "slurm22.05-embedded-debian12-amd64", "slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64"
SITE = "slurm24.11.5-enroot4.1.2-pyxis0.24.0-debian13-amd64@blue"
GREEN = SITE.replace("blue", "green")
VERSIONS: dict[str, dict[str, Any]] = {
    EMBEDDED: {"slurm": "22.05", "enroot": None, "pyxis": None, "observed": {"slurm": "22.05.8"}},
    REAL: {"slurm": "24.11", "enroot": "4.1.2", "pyxis": "0.24.0", "observed": {"slurm": "24.11.5", "pyxis": "0.24.0"}},
}
VERSIONS[SITE] = {
    **VERSIONS[REAL],
    "site": "blue",
    "nodes": ["n7"],
    "folder": "/home/ann/pyxis-matrix/r1",
    "login": {"host": "login", "port": 0, "user": "ann", "private_key": "", "known_hosts": "", "prelude": "FORGET\n"},
}
VERSIONS[GREEN] = VERSIONS[SITE]
_OF_A_SITE = {"host": "login", "port": "22", "user": "ann", "registry": None, "job-image": None, "container": None}
CLUSTER = """
    import pytest

    @pytest.fixture
    def cluster(pyxis_matrix_cell):
        return pyxis_matrix_cell.id
"""


class Program:
    """What stands in for a child of the program."""

    def __init__(self, cell: str, words: Sequence[str], stdout: str, judge: Callable[[int], int]) -> None:
        """Say this on stdout; say nothing and end, where there is nothing to say.

        :param judge: what makes the exit code of pytest's, as the program does.
        """
        self.cell, self.words, self.judge = cell, list(words), judge
        self.stdin, self.stdout = Told(), io.StringIO(stdout)
        self.stopped = False
        self.code: int | None = None if stdout else 11

    def poll(self) -> int | None:
        """Return the exit code, once it has ended."""
        return self.code

    def terminate(self) -> None:
        """End."""
        self.stopped, self.code = True, 143

    def wait(self) -> int:
        """Return the exit code."""
        said = self.stdin.said.strip()
        self.returncode = (self.judge(int(said)) if said else 0) if self.code is None else self.code
        return self.returncode

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait."""
        self.wait()


class Told(io.StringIO):
    """A pipe that can be read after its end."""

    said = ""

    def close(self) -> None:
        """Keep what was said."""
        self.said = self.getvalue()
        super().close()


class Programs:
    """All children, by their cells."""

    def __init__(self, folder: Path) -> None:
        """Have logs and environments in a folder."""
        self.folder = folder
        self.started: dict[str, Program] = {}
        self.dead: set[str] = set()
        """Cells that do not start."""
        self.codes: dict[str, int] = {}
        """The exit code with which a child ends, where the program says another one than the tests do."""
        self.of_a_site: dict[str, Any] = {**_OF_A_SITE}
        """The facts of a cluster that exists."""
        self.beyond_the_sdk = ""

    def start(self, command: Sequence[str], **_options: object) -> Program:
        """Start one."""
        at = command.index("hold") + 1
        cell = command[at + 1]
        if "--cluster" in command:
            cell = GREEN if "green" in cell else SITE
        told = "" if cell in self.dead else json.dumps(self.told(cell)) + "\n"
        program = Program(cell, command[at:], told, lambda status: self.judged(cell, status))
        program.code = self.codes.get(cell, program.code)
        self.started[cell] = program
        return program

    def told(self, cell: str) -> dict[str, Any]:
        """Return what the program says of a cell."""
        file = self.folder / f"{cell}.json"
        login = {"host": "127.0.0.1", "port": 4711, "user": "tester", "private_key": "/k", "known_hosts": "/h"}
        known = {"arch": "amd64", "login": login, **VERSIONS[cell], "beyond_the_sdk": self.beyond_the_sdk}
        file.write_text(json.dumps(known), encoding="utf-8")
        facts = {"environment-file": str(file), "registry": "localhost:5", "job-image": "localhost:5#job:1"}
        facts |= {"host": "127.0.0.1", "port": "4711", "user": "tester", "container": "n1", "home": str(self.folder)}
        facts |= {"cell": cell, **(self.of_a_site if "@" in cell else {})}
        behaviours = {"exit-code": "", "mounts": "hazard: the file is lost"}
        return {
            "run": "r1",
            "log": str(self.log(cell)),
            "results": "/results",
            "facts": facts,
            "sdk": {"host_key_policy": "reject", "port": 4711},
            "behaviours": behaviours,
            "variables": {},
        }

    def log(self, cell: str) -> Path:
        """Return a cell's log."""
        return self.folder / f"{cell}.jsonl"

    def judged(self, cell: str, status: int) -> int:
        """Return the exit code that the program makes of pytest's: what proves nothing does not end with 0."""
        good = reportlog.read(self.log(cell)).outcome(status).good
        return status or (0 if good else 1)

    def outcome(self, cell: str) -> tuple[Outcome, list[str]]:
        """Return what the program makes of a cell's log, and its tests."""
        read = reportlog.read(self.log(cell))
        return read.outcome(int(self.started[cell].stdin.said)), [test.name.rpartition("::")[2] for test in read.tests]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return none in a new folder."""
        folder.mkdir()
        return cls(folder)


class Repository:
    """A repository of somebody's own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        """Be in a folder of its own."""
        self.pytester = pytester

    def run(self, test: str, *words: str, conftest: str = CLUSTER, settings: str = "") -> pytest.RunResult:
        """Run a module of tests."""
        self.pytester.makeconftest(conftest)
        self.pytester.makeini(f"[pytest]\naddopts = -ra --strict-markers\n{settings}")
        self.pytester.makepyfile(test)
        return self.pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "-p", "ci.installed.plugin", *words, no_reraise_ctrlc=True
        )
