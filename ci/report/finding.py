"""Finds results in folders that anybody may have made: runs, shards, folders of runs, unpacked artefacts of CI.

What is in them is not trusted. Links are not followed, only regular files are read, sizes and depths are limited, and
what can't be read is named and never stops the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
import os
from pathlib import Path
import re
from typing import Self
from urllib.parse import quote

import msgspec

from ci import paths
from ci.errors import ResultsError
from ci.record import files, planned, store
from ci.record.outcomes import Outcome
from ci.record.planned import RunPlan
from ci.record.printable import printable_lines, printable_path
from ci.record.store import Result
from ci.report import contradictions
from ci.report.model import COMPAT_FILE, Past, Problem, Unfinished

ASKED_FILE = "asked.json"
"""The command line of a bisection's step, beside its result: so it is told from the result of a suite.

By it, a bisection that goes on asks nothing twice. One test, asked for another release's answers, says nothing about
its cell: it is in no report of a folder around its bisection, but in that of the bisection itself.
"""
_STEP_BELOW_BISECTION = 3
"""A step is in ``RUN/CELL/SUITE`` below the folder of bisections."""
_DEEPEST = 8
"""Folders below the one that was named; a run's own have two, and CI puts some around them."""
_LARGEST_LOG = 256 << 20
# Looked for in bytes: the log grows while it is read, and its last line may be half.
_ENDED = re.compile(rb'"when": ?"teardown"')
_MOST_LOGS = 40
_LINKED = (store.RESULT_FILE, store.JUNIT_FILE, store.REPORT_LOG_FILE)


@dataclass(frozen=True, kw_only=True)
class FoundResult:
    """A result, and the folder that it was read from."""

    result: Result
    folder: Path
    contradictions: tuple[str, ...] = ()
    """Why the result can't be true; it says so itself, and is no longer what the file says."""
    history: tuple[Past, ...] | None = None
    """The times that a report tells of; None for a result that was read itself."""

    @property
    def is_retold(self) -> bool:
        """Whether only a report tells of it: its tests that passed at once have no names, and it has no files."""
        return self.history is not None

    @classmethod
    def of(cls, result: Result, folder: Path) -> Self:
        """Return a result that is in a folder, as far as it is to be believed."""
        return cls(result=result, folder=folder).refuted(*contradictions.found_in(result, folder))

    def refuted(self, *why: str) -> Self:
        """Return it with more reasons why its result can't be true."""
        return replace(
            self, result=contradictions.refuted(self.result, why), contradictions=(*self.contradictions, *why)
        )

    @property
    def files(self) -> tuple[str, ...]:
        """What of its folder may be shown: regular files of ours, and the logs."""
        return (*(name for name in _LINKED if files.is_regular(self.folder / name)), *_logs(self.folder))

    def link(self, base: Path) -> str:
        """Return the folder as a URL relative to ``base``, with a slash at its end."""
        # Of bytes: a name that is not UTF-8 is quoted as it is on the disk.
        return quote(os.fsencode(f"{Path(os.path.relpath(self.folder, base)).as_posix()}/"))


def is_report(path: Path) -> bool:
    """Tell whether a path is that of ``compat.json``, or of a folder with one."""
    return (path / COMPAT_FILE).is_file() or (path.suffix == ".json" and path.is_file())


def places(names: Sequence[str], results: Path) -> tuple[Path, ...]:
    """Return what is meant: paths of folders and reports, or ids of runs in the folder ``results``.

    :raises ResultsError: if there is no such folder or report; all of them are named at once.
    """
    found, missing = [], []
    for name in names:
        # Path("") is the current folder, which nobody has named.
        either = (Path(name), results / name) if name else ()
        path = next((path for path in either if path.is_dir() or is_report(path)), None)
        if path is None:
            missing.append(name)
        else:
            found.append(path.resolve())
    if missing:
        raise ResultsError(
            f"run not found: {', '.join(map(repr, missing))}",
            why="it is neither a folder nor a compat.json, nor the id of a run in " + str(results),
            next_step=f"`ls {results}` shows the runs that are there",
        )
    # A folder inside another one that was named is read once; a report is only read where it is named.
    inner = {path for path in found for other in found if path != other and path.is_relative_to(other)}
    return tuple(dict.fromkeys(path for path in found if path not in inner or is_report(path)))


def common(roots: Sequence[Path]) -> Path:
    """Return the folder that all of these are in."""
    return Path(os.path.commonpath([root if root.is_dir() else root.parent for root in roots]))


def find(roots: Sequence[Path]) -> Iterator[FoundResult | RunPlan | Unfinished | Problem]:
    """Yield what is found below folders, as it is found."""
    for root in roots:
        yield from _below(root)


def results(roots: Sequence[Path]) -> Iterator[FoundResult]:
    """Yield the results below folders, and nothing else."""
    return (found for found in find(roots) if isinstance(found, FoundResult))


def signature(roots: Sequence[Path]) -> str:
    """Return a text that changes when a result, or the log of a suite that runs, does."""
    seen = []
    for root in roots:
        for folder, names in _folders(root, []):
            for name in {store.RESULT_FILE, store.REPORT_LOG_FILE, planned.PLAN_FILE} & set(names):
                try:
                    status = (folder / name).lstat()
                except OSError:
                    continue
                seen.append((str(folder), name, status.st_mtime_ns, status.st_size))
    # hash() differs from process to process; this text is only compared within one.
    return f"{hash(tuple(sorted(seen))):x}"


def _below(root: Path) -> Iterator[FoundResult | RunPlan | Unfinished | Problem]:
    problems: list[Problem] = []
    for folder, names in _folders(root, problems):
        if _is_step(folder, names) and len(folder.relative_to(root).parts) > _STEP_BELOW_BISECTION:
            continue
        if planned.PLAN_FILE in names and files.is_regular(folder / planned.PLAN_FILE):
            yield _plan(folder)
        if store.RESULT_FILE in names:
            path = folder / store.RESULT_FILE
            if not files.is_regular(path):
                yield Problem(where=printable_path(path), what="not a regular file; links are not followed")
                continue
            try:
                result = store.load(path)
            except ResultsError as error:
                what = printable_lines(": ".join(filter(None, (error.what, error.why))))
                yield Problem(where=printable_path(path), what=what)
                continue
            yield FoundResult.of(result, folder)
            if result.outcome is Outcome.UNFINISHED:
                yield _unfinished(folder, run=result.run)
        # A log alone, as where a folder was copied in part: the names of folders say what it is of.
        elif store.REPORT_LOG_FILE in names and folder != root:
            yield _unfinished(folder, run=folder.parent.parent.name)
    # Last: the list grows while folders are walked.
    yield from problems


def _is_step(folder: Path, names: Sequence[str]) -> bool:
    """Tell whether a folder is that of a bisection's step: the command line there has its results among bisections."""
    if ASKED_FILE not in names:
        return False
    try:
        words = msgspec.json.decode(files.content(folder / ASKED_FILE), type=list[str])
    except (OSError, *files.INVALID):
        return False
    return any(name == "--results" and Path(value).name == paths.BISECTIONS_FOLDER for name, value in pairwise(words))


def _unfinished(folder: Path, *, run: str) -> Unfinished:
    """Return what is known of a suite that has not ended."""
    return Unfinished(
        cell=printable_path(folder.parent.name),
        suite=printable_path(folder.name),
        run=printable_path(run),
        tests=_ended(folder / store.REPORT_LOG_FILE),
    )


def _plan(folder: Path) -> RunPlan | Problem:
    """Return what a run of a group meant to do."""
    try:
        return planned.load(folder)
    except ResultsError as error:
        return Problem(
            where=printable_path(folder / planned.PLAN_FILE),
            what=printable_lines(f"the plan of a run is invalid: {error.why}"),
        )


def _folders(root: Path, problems: list[Problem]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder and the names of its files, in order; logs are left out."""

    def failed(error: OSError) -> None:
        problems.append(
            Problem(where=printable_path(str(error.filename)), what=f"failed to read a folder: {error.strerror}")
        )

    for name, folders, plain in os.walk(root, onerror=failed):
        folder = Path(name)
        links = [folder / inner for inner in sorted(folders) if (folder / inner).is_symlink()]
        problems += [
            Problem(where=printable_path(link), what="a link to a folder; it is not followed") for link in links
        ]
        deep = len(folder.relative_to(root).parts) >= _DEEPEST
        if deep and folders:
            problems.append(
                Problem(where=printable_path(name), what=f"folders more than {_DEEPEST} deep are not searched")
            )
        # Only beside a result it is the logs: a suite and a run may have this name, too.
        logs = {store.LOGS_FOLDER} if {store.RESULT_FILE, store.REPORT_LOG_FILE} & set(plain) else set()
        # os.walk goes on with what is left in this list.
        folders[:] = [] if deep else sorted(inner for inner in folders if inner not in logs)
        yield folder, plain


def _logs(folder: Path) -> list[str]:
    """Return the log files of a suite by name: a page on the web can't list a folder. Many of them are that folder."""
    logs = folder / store.LOGS_FOLDER
    try:
        entries = [] if logs.is_symlink() else list(os.scandir(logs))
    except OSError:
        return []
    found = sorted(entry.name for entry in entries if not entry.is_symlink())
    # A name that is not text can't stand in a page, but the folder shows it.
    if len(found) > _MOST_LOGS or any(name != printable_path(name) for name in found):
        return [f"{store.LOGS_FOLDER}/"]
    return [f"{store.LOGS_FOLDER}/{name}{'/' if (logs / name).is_dir() else ''}" for name in found]


def _ended(log: Path) -> int:
    """Return how many tests pytest's log says have ended."""
    try:
        return sum(1 for _ in _ENDED.finditer(files.content(log, largest=_LARGEST_LOG)))
    except OSError:
        return 0
