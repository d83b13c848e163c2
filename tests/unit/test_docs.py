"""The documentation agrees with the code: links, sessions, commands, options, variables, exit codes and file names."""

import argparse
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
import functools
import inspect
import io
from pathlib import Path
import re
import shlex
from string import Template
import sys

from nox import registry, tasks
import pytest

from ci import errors
from ci.cli.main import parser
from ci.errors import PyxisMatrixError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.pytest_words import _Parser
from ci.matrix.suites import OWN, SUITES
from ci.options import Scope, add_to

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
QUICK_START = ROOT / "docs/quick-start.md"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

OF_PYTEST = {
    *(name for action in _Parser()._actions for name in action.option_strings),  # noqa: SLF001 - what is taken
    *("--setup-plan", "--runxfail", "--collect-only", "--noconftest", "--confcutdir"),  # what is refused
}
OF_OTHERS = {
    *("--all", "--filter", "--privileged", "--progress", "--provenance"),  # docker's
    *("--container-env", "--container-image", "--container-mounts", "--container-save"),  # Pyxis'
    *("--export", "--overlap"),  # srun's
    *("--dist", "--splits", "--run-integration"),  # pytest-xdist's, pytest-split's, and of the suite of slurm-sdk
    *("--headless", "--hide-scrollbars", "--no-sandbox", "--screenshot", "--window-size"),  # chromium's
    *("--format", "--prefix"),  # those of git archive
    *(
        "--dry-run",
        "--emulate",
        "--help",
        "--update",
        "--write",
    ),  # of ci/bootstrap, all, test_legacy_untouched.py, sysctl
    *(
        "--add-subgids",
        "--add-subuids",
        "--now",
        "--time",
        "--tls-verify",
        "--user",
    ),  # usermod's, systemctl's, Podman's
    *("--only", "--without-cell"),  # of the sessions mutations and attacks
    "--setup-plan",  # pytest's
    *("--busy", "--cell", "--keep-going", "--times"),  # of the sessions bench and soak
    "--os",  # of the session machine
    *("--file", "--force-shell-executor", "--shell-isolation", "--variable"),  # gitlab-ci-local's
    *("--from", "--input", "--local-repository", "--platform"),  # uvx' and act's
    *("--nodelist", "--partition"),  # sbatch's
    "--wheel",  # uv's
    *(
        "--cell-group",
        "--cell-keep",
        "--cluster",
        "--cell-options",
        "--cell-profile",
        "--tx",
    ),  # of the pytest plugin, of pytest-xdist
    "--node",  # the slip that run-a-cell.md shows
}
# Between nox and its children, and nothing for a person to set.
INTERNAL = {"PYXIS_MATRIX_PARENT", "PYXIS_MATRIX_NOT_RUN", "PYXIS_MATRIX_BOOTSTRAP"}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def snippets(page: Path) -> Iterator[str]:
    """Yield the lines of a page's code blocks, and what it has in backticks elsewhere."""
    parts = text_of(page).split("```")
    for number, part in enumerate(parts):
        if number % 2:
            yield from (line.removeprefix("$ ") for line in part.splitlines()[1:])
        else:
            yield from re.findall(r"`([^`\n]+)`", part)


def words_of(snippet: str) -> list[str]:
    try:
        return shlex.split(snippet, comments=True)
    except ValueError:  # no command: a lone quotation mark
        return []


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_cells(page: Path) -> list[str]:
    """Return the first cell of each row of a page's tables."""
    return re.findall(r"^\| ((?:\\\||[^|])*) \|", text_of(page), re.MULTILINE)


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def help_on(*words: str) -> str:
    """Return the help of ``python -m ci``, or of one of its commands."""
    shown = io.StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        parser().parse_args([*words, "--help"])
    return shown.getvalue()


@functools.cache
def commands() -> dict[str, set[str]]:
    """Return the options of each command of ``python -m ci``."""
    names = re.findall(r"^    ([a-z]+) ", help_on(), re.MULTILINE)
    return {name: flags_in(help_on(name)) for name in names}


def declared(*scopes: Scope) -> set[str]:
    offered = argparse.ArgumentParser(add_help=False)
    add_to(offered, *scopes)
    return flags_in(offered.format_help())


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the noxfile's sessions, as nox itself reads them."""
    monkeypatch.setattr(sys, "argv", ["nox"])
    for name in ("PYXIS_MATRIX_RUN", "PYXIS_MATRIX_PARENT"):
        monkeypatch.setenv(name, "1")  # the noxfile sets them for its children
    monkeypatch.setattr(registry, "_REGISTRY", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ROOT)
    tasks.load_nox_module(argparse.Namespace(noxfile=str(ROOT / "noxfile.py")))  # type: ignore[arg-type]
    return set(registry.get())


def broken_links(page: Path, pattern: str) -> list[str]:
    broken = []
    for target in re.findall(pattern, text_of(page)):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, r"(?<!!)\[[^\]]+\]\((?!https?:)([^)\s]+)\)") == []


def test_pictures_are_there() -> None:
    assert [link for page in PAGES for link in broken_links(page, r"!\[[^\]]+\]\(([^)\s]+)\)")] == []


def test_the_readme_begins_with_the_main_job_and_the_command_that_runs_the_tests() -> None:
    shown = [snippet for snippet in snippets(ROOT / "README.md") if snippet.startswith("ci/bootstrap nox")]
    main_job, own_tests = "ci/bootstrap nox -s pyxis_basic", "ci/bootstrap nox -s tests component"
    assert [it.partition("#")[0].strip() for it in shown] == [
        main_job,
        own_tests,
        main_job,
        "ci/bootstrap nox -s matrix -- --group stable --suite pyxis_basic --suite registry",
        "ci/bootstrap nox -s report -- --open",
    ]
    assert own_tests in text_of(ROOT / ".ci" / "run").splitlines(), "the gate runs that very command"


def test_the_readme_lists_every_suite_in_the_order_in_which_a_cell_runs_them() -> None:
    table = text_of(ROOT / "README.md").partition("\n## Suites\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [*SUITES, OWN]


@each_page
def test_sessions_that_are_shown_exist(page: Path, sessions: set[str]) -> None:
    shown = set()
    for words in map(words_of, snippets(page)):
        while "-s" in words:
            words = words[words.index("-s") + 1 :]  # noqa: PLW2901 - the rest, until there is no more
            shown.add(words[0].partition("(")[0])
    assert {name for name in shown if not name.isupper()} <= sessions


@each_page
def test_commands_that_are_shown_exist_and_have_their_options(page: Path) -> None:
    wrong = []
    for snippet in snippets(page):
        found = re.search(r"(?:nox -s ci --|python -m ci|pyxis-matrix) (.*)", snippet)
        words = words_of(found[1]) if found else []
        if not words or words[0].isupper() or words[0].startswith("-"):
            continue
        own = words[: words.index("--")] if "--" in words else words
        known = commands().get(words[0], set())
        wrong += [snippet for word in own[1:] if word.startswith("-") and word not in known]
        wrong += [] if known else [snippet]
    assert wrong == []


def as_command(line: str) -> list[str]:
    """Return what a line of a quick start has the program read; nothing where it is a line of another program."""
    match words_of(line.removeprefix("ci/bootstrap ")):
        case ["nox", "-s", "ci", "--", *words] | ["pyxis-matrix", *words]:
            return words
        case ["nox", "-s", name, "--", *words]:
            suite, _, cell = name.partition("(")
            return ["suite", suite, cell.removesuffix(")"), *words] if cell else [name, *words]
        case ["pytest", "--cell", cell]:
            return ["up", cell]
    return []


@pytest.mark.parametrize(
    "block", text_of(QUICK_START).split("```")[1::2], ids=["author", "administrator", "maintainer"]
)
def test_a_quick_start_has_ten_lines_that_can_be_typed_as_they_stand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, block: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "site").mkdir()
    _, *lines = block.splitlines()
    assert len(lines) <= 10
    variables = dict(re.findall(r"^\$ (\w+)=(\S+)", block, re.MULTILINE))
    read = [as_command(Template(line[2:]).safe_substitute(variables)) for line in lines]
    assert sum(map(bool, read)) + len(variables) >= 4
    for words in filter(None, read):
        parsed = parser().parse_args(words[: [*words, "--"].index("--")])
        named = [*getattr(parsed, "cells", []), *filter(None, [getattr(parsed, "cell", "")])]
        assert [loading.load().cell(it, Arch.AMD64).id for it in named] == named, words


@each_page
def test_options_that_are_shown_exist(page: Path) -> None:
    shown = flags_in("\n".join(snippets(page)))
    assert shown - declared(*Scope).union(*commands().values()) - OF_OTHERS - OF_PYTEST == set()


def test_every_option_of_a_session_is_described() -> None:
    described = flags_in("\n".join(first_cells(ROOT / "docs/settings.md")))
    assert described == declared(Scope.IMAGES, Scope.CLUSTER, Scope.SUITE)


def test_every_command_is_described() -> None:
    described = re.findall(r"`([a-z]+)", "\n".join(first_cells(ROOT / "docs/run-a-cell.md")))
    assert commands().keys() == set(described)


def test_every_variable_is_described() -> None:
    pattern = re.compile(r"PYXIS_MATRIX_[A-Z_]+")
    read = {name for file in (ROOT / "ci").rglob("*.py") for name in pattern.findall(text_of(file))}
    assert set(pattern.findall("".join(map(text_of, PAGES)))) == read - INTERNAL


def test_exit_codes_are_those_of_the_errors() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PyxisMatrixError)]
    codes = {kind.__name__: kind.exit_code for kind in classes if "exit_code" in vars(kind)}
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text_of(ROOT / "docs/troubleshooting.md"), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == codes


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = {snippet for snippet in snippets(page) if re.match(r"(?:\.ci|ci|containers|docs|tests)/[\w./-]+$", snippet)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_folder_of_ci_is_described() -> None:
    folders = {f"ci/{file.parent.name}/" for file in (ROOT / "ci").glob("*/__init__.py")}
    assert folders <= set(snippets(ROOT / "CONTRIBUTING.md"))
