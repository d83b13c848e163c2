"""Pytest's arguments as a person gives them to a suite: which only show or order, which select tests, what is refused.

A result of a suite of this project says that its tests ran as they are written. So what changes what pytest does, by an
option or from the environment, is refused there, and so is every option that is not known here.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import shlex
from typing import NoReturn

from ci import paths
from ci.errors import SelectionError, as_here, suite_session
from ci.matrix.suites import OWN, Suite

ADDOPTS = "PYTEST_ADDOPTS"
# With PYTHONOPTIMIZE Python leaves out every assert: tests pass that should not.
_CHANGING = (ADDOPTS, "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONOPTIMIZE")
"""Variables that change what pytest, or an assertion, does."""
_KEPT = "-v, -q, -s, -x, -n, -k, -m, --lf, --ff, --deselect, --tb, --durations, --pdb and a path of the suite"

# Pytest's own options. These change neither which tests run nor what passing means; -x ends a session only after a test
# that failed.
_SHOWING = (
    *("-v --verbose", "-q --quiet", "-s", "-l --showlocals", "--no-showlocals", "--full-trace", "--no-header"),
    *("--no-summary", "--setup-show", "--pdb", "--trace", "-x --exitfirst", "--ff --failed-first", "--nf --new-first"),
)
_SHOWING_BY = (
    *("--verbosity", "-r", "--tb", "--capture", "--show-capture", "--color", "--code-highlight", "--durations"),
    *("--durations-min", "--maxfail", "-n --numprocesses", "--maxprocesses", "--dist"),
)
# These ask for a part of the suite.
_NARROWING = ("--lf --last-failed", "--sw --stepwise", "--sw-skip --stepwise-skip", "--sw-reset --stepwise-reset")
_NARROWING_BY = ("-k", "-m", "--deselect", "--ignore", "--ignore-glob", "--lfnf --last-failed-no-failures")
# Of suites of somebody's own these are known, too.
_SHOWING_OWN = (
    *("--report-log", "--junitxml", "--cell", "--cell-group", "--cell-profile", "--cell-options", "--cell-keep"),
    "--cluster",
    *("-W", "--strict-markers", "--strict-config", "--basetemp", "--rootdir", "--cache-clear", "--import-mode"),
    "--fulltrace",
)
_NARROWING_OWN = (
    *("-c", "-o", "--noconftest", "--confcutdir", "--disable-plugin-autoload"),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD",
)
_SHOWS, _NARROWS = (
    frozenset(name for names in those for name in names.split())
    for those in ((*_SHOWING, *_SHOWING_BY, *_SHOWING_OWN), (*_NARROWING, *_NARROWING_BY, *_NARROWING_OWN))
)
_HARMLESS = {
    "-o": ("junit_", "log_", "console_output_style=", "cache_dir=", "cell=", "cell_options="),
    "-p": (
        *("no:cacheprovider", "no:logging", "no:randomly", "no:warnings", "no:xdist"),
        *("pytest_reportlog", "pyxis_matrix"),
    ),
}
"""Settings that change neither which tests there are nor what passing means, and plugins that need not be there."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was given to a suite of this project."""

    words: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    """Those of the words that are files, folders or tests of the suite; none for all of it."""
    narrowing: tuple[str, ...] = ()
    """What asks for a part of the suite, as it was written."""

    def command(self, suite: Suite, *before: str) -> tuple[str, ...]:
        """Return pytest's arguments for the suite.

        :param before: options that hold unless they were given, too.
        """
        return (*suite.words(whole=not self.paths), *before, *self.words)


class _Parser(argparse.ArgumentParser):
    """Reads words as pytest does: it uses argparse, too, and takes no abbreviations."""

    def __init__(self) -> None:
        super().__init__(allow_abbrev=False, add_help=False)
        for names in (*_SHOWING, *_NARROWING):
            # The whole entry as the place for its value: `_narrowing` finds it there, and says the first of its names.
            self.add_argument(*names.split(), dest=names, action="store_true")
        for names in (*_SHOWING_BY, *_NARROWING_BY):
            self.add_argument(*names.split(), dest=names, action="append", default=[])

    def error(self, message: str) -> NoReturn:
        raise SelectionError(
            "pytest's arguments are invalid", why=message, next_step=f"pytest's options that can be used: {_KEPT}"
        )


def given(suite: Suite, words: Sequence[str]) -> Given:
    """Read what is given to a suite of this project.

    :raises SelectionError: for an option that is not known not to change what pytest does, and for a path of elsewhere.
    """
    # In `rest` is what no option here takes: paths, and options that are not known.
    parsed, rest = _Parser().parse_known_args(list(words))
    # pytest reads words from the file named after an @, wherever it stands.
    refused = [word for word in words if word.startswith("@")] + [word for word in rest if word.startswith("-")]
    if refused:
        raise SelectionError(
            f"{refused[0]} cannot be used with {suite.name}",
            where=f"pytest's arguments: {shlex.join(words)}",
            why="results of this project's suites say that the tests ran as they are written, and this may change that",
            next_step=f"leave it out; pytest's options that can be used: {_KEPT}",
        )
    for word in rest:
        _check_path(suite, word)
    return Given(words=tuple(words), paths=tuple(rest), narrowing=(*_narrowing(parsed), *rest))


def narrowing(asked: Iterable[tuple[str, str]], deselected: int) -> tuple[str, ...]:
    """Return what asked for a part of a suite of somebody's own.

    :param asked: the options that its pytest was given, and their values, as pytest itself told them; also tests, with
        no option.
    :param deselected: how many tests were left out. If any, whatever is not known here is named: options of their
        plugins may have done it.
    """
    found: list[str] = []
    others: list[str] = []
    for name, value in asked:
        # Of an option without harmless values the empty tuple is asked for: no text begins with any of no words.
        if name in _SHOWS or value.startswith(_HARMLESS.get(name, ())):
            continue
        words = f"{name} {value}".strip()
        # Without an option it is a test. A plugin that is switched off may be what collects tests.
        narrows = not name or name in _NARROWS or words.startswith(("@", "-p no:"))
        (found if narrows else others).append(words)
    return tuple(found or (others if deselected else ()))


def unknown(words: Sequence[str]) -> tuple[str, ...]:
    """Return the options that are not known here: those of plugins, of a conftest.py, and slips."""
    try:
        rest = _Parser().parse_known_args(list(words))[1]
    except SelectionError:  # as of several short options in one word, of which one is not known here
        rest = list(words)
    return tuple(word for word in rest if word.startswith("-"))


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse an environment in which pytest would not run the project's suites as they are written.

    :raises SelectionError: names the variables.
    """
    found = [name for name in _CHANGING if environ.get(name)]
    if found:
        raise SelectionError(
            f"{' and '.join(found)} cannot be used with this project's suites",
            where="the environment",
            why="it changes what pytest does with their tests, and no result would say so",
            next_step=f"unset {' '.join(found)}; options for suites come after -- on the command line",
        )


def _narrowing(parsed: argparse.Namespace) -> Iterator[str]:
    for names in _NARROWING:
        if getattr(parsed, names):
            yield names.split()[0]
    for names in _NARROWING_BY:
        # An empty -k selects all.
        yield from (f"{names.split()[0]} {value}" for value in getattr(parsed, names) if value)


def _check_path(suite: Suite, word: str) -> None:
    own = suite.paths()
    # pytest names a test as FILE::TEST[PARAMETER]. Resolved, because ``..`` may lead out of the suite.
    path = Path(paths.REPOSITORY, word.partition("::")[0]).resolve()
    why = ""
    if not path.exists():
        why = "there is no such file or directory"
    elif not any(path.is_relative_to(part.resolve()) for part in own):
        why = f"the suite is {', '.join(part.relative_to(paths.REPOSITORY).as_posix() for part in own)}"
    if why:
        raise SelectionError(
            f"{word} is not a part of {suite.name}",
            why=why,
            next_step=f"name a file, folder or test of the suite, or select by -k; "
            f"a suite of your own: {as_here(suite_session(OWN, 'CELL', word))}",
        )
