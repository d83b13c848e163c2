"""What a test ran on a cell, as pytest's log has it: commands, their input, and what they answered.

The words of one run (folders, names of jobs and containers, numbers of jobs) are replaced by placeholders, so that what
two cells answered can be compared, and the commands can be run somewhere else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
import re
from typing import Self

from msgspec import structs

from ci.errors import ReproduceError
from ci.record import reportlog, store
from ci.record.outcomes import TestOutcome
from ci.report.finding import FoundResult

# As the tests print what they run: `$ COMMAND`, with # for root, its status, standard output and standard error.
_ANSWER = re.compile(
    r"^(?P<prompt>[$#]) (?P<command>.*?)\n\[exit status (?P<status>-?\d+)\]\n"
    r"(?:(?P<stdout>.*?)\n?^--- stderr\n(?P<stderr>.*?))?(?=^[$#] [^\n]*?(?:\n|\Z)|\Z)",
    re.MULTILINE | re.DOTALL,
)
# An image that a test makes is printed as a command: `$ image tiny-…`, and lines of shell that make the same.
_IMAGE = re.compile(
    r"^\$ image (tiny-[0-9a-f]{16})\n(.*?)\n?^\[exit status 0\]\n\n--- stderr\n\n?", re.MULTILINE | re.DOTALL
)
# As enroot writes a reference: localhost:PORT#conformance/tiny-…
_PUSHED = re.compile(r"#conformance/(tiny-[0-9a-f]{16})")
_MARKER = re.compile(r"tiny-[0-9a-f]{16}")
# Such a line names what shell can't put into an image.
_UNKNOWN = re.compile(r"^# (its .*)", re.MULTILINE)
ASIDE = "  # aside"
"""At the end of a command by which a test prepares or cleans up what a script makes by itself; the shell ignores it."""
# In this order: the later patterns would find parts of what the earlier ones take as a whole.
_RUN = (
    (re.compile(r"/var/lib/enroot-data/data/user-\d+"), "@DATA@"),
    (re.compile(r"[\w~./-]+/conformance-\w{10}\b"), "@WORK@"),  # mktemp's ten letters
    (re.compile(r"[\w~./-]+/(@NAME@-\d+\.out)\b"), r"@WORK@/\1"),  # the output of a batch job
    (re.compile(r"/(?:home/[\w.-]+|[\w./-]*)/?(tiny-[0-9a-f]{16})\.sqsh"), "@IMAGE@"),
    (re.compile(r"/etc/pyxis-matrix-image"), "/etc/image-marker"),
    (re.compile(r"/home/[\w.-]+(?=/|\b)"), "@HOME@"),
    (_MARKER, "tiny"),
)
_NODELIST = re.compile(r"--nodelist=([\w.-]+)(?=[\s'\"]|$)")
"""The node of a run: that of a site is its own affair, and has a name of any kind."""
# Names of jobs and containers end with twelve digits of a UUID; on a site, the run stands before them.
_NAME = re.compile(r"conformance-(?:[\w-]+-)?([0-9a-f]{12})\b")
# They come and go with load and caches: `srun: job 5 queued and waiting for resources`.
_OF_ANY_RUN = re.compile(r"^(?:srun: job \d+ .*|\[INFO\].*|pyxis: import(?:ing|ed) .*)\n?", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
# What a script can't bring along, and how the command that needs it is known.
_NEEDS = (
    (re.compile(r"localhost:\d+"), "a registry with its image"),
    (re.compile(r"--nodelist=(?!@NODE@(?:[\s'\"]|$))|\bn[2-9]\b"), "more than one node"),
    (re.compile(r"\(\d+ characters of input\)"), "an input that is too long for the log"),
)


@dataclass(frozen=True, kw_only=True)
class RanCommand:
    """A command of a test, and what it answered."""

    command: str
    status: int
    stdout: str
    stderr: str
    root: bool = False
    """Root ran it, on a node and in no job."""

    @property
    def answer(self) -> tuple[int, str]:
        """Status and standard output, with N for each number."""
        return self.status, _compared(self.stdout)

    @property
    def said(self) -> str:
        """Standard error, without what Slurm and enroot say in any run; N for each number."""
        return _compared(self.stderr)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A test on a cell."""

    found: FoundResult
    test: TestOutcome
    steps: tuple[RanCommand, ...]
    image: str = ""
    """Lines of shell that put into the image's root what this test's has beside a shell and the marker."""

    @classmethod
    def of(cls, found: FoundResult, test: TestOutcome) -> Self:
        """Read what the test ran from the log beside its result.

        :raises ReproduceError: if it can't be run elsewhere, with the reason.
        """
        log = found.folder / store.REPORT_LOG_FILE
        try:
            reports = [reportlog.PytestReport.of(line) for line in log.read_bytes().splitlines()]
        except (OSError, *reportlog.INVALID) as error:
            raise ReproduceError("failed to read pytest's log", where=str(log), why=str(error)) from error
        texts = [text for report in reports for text in _captured(report)]
        # Of all tests for the recipes: an image that a fixture of the session makes is printed by the first of them.
        own = "".join(text for report in reports if report.nodeid == test.name for text in _captured(report))
        recipes = dict(recipe for text in texts for recipe in _IMAGE.findall(text))
        markers = set(_MARKER.findall(own))
        steps = _with_answers([*_steps(_IMAGE.sub("", own))])
        image = "".join(recipes.get(marker, "") for marker in markers)
        why = "it needs two images" if len(markers) > 1 else ""
        # A pushed image can have any content; only one with a recipe can be made again.
        if markers & {marker for text in texts for marker in _PUSHED.findall(text)} - set(recipes):
            why = "its image is made by the test, and this log, of an older release, does not say of what"
        if why := why or _refusal(steps, image):
            raise ReproduceError(
                f"{test.name} can't be run without this project",
                where=str(log),
                why=why,
                next_step="what it ran and saw is in that file",
            )
        said = structs.replace(test, message=_without_node(test.message, own))
        return cls(found=found, test=said, steps=steps, image=image)

    def differs_at(self, other: "Case") -> tuple[int, str]:
        """Return the first step that answered otherwise in another case, and in what: ``answer`` or ``said``.

        :raises ReproduceError: if all that both ran answered alike.
        """
        # Status and standard output first: a warning on standard error may be new without being the fault.
        for what in ("answer", "said"):
            for number, (mine, its) in enumerate(zip_longest(self.steps, other.steps)):
                # From here on the two tests ran different things, whose answers can't be compared.
                if mine is None or its is None or mine.command != its.command:
                    break
                if getattr(mine, what) != getattr(its, what):
                    return number, what
        raise ReproduceError(
            "the commands answered alike on both cells, as far as they are the same",
            where=f"{self.found.result.cell_id}, {other.found.result.cell_id}",
            why="what the test saw to be different is in none of their answers",
        )


def _compared(text: str) -> str:
    """Return a text as it can be compared with that of another run: N for each number, one space for several."""
    return re.sub(" +", " ", _NUMBER.sub("N", _OF_ANY_RUN.sub("", text))).rstrip("\n")


def _captured(report: reportlog.PytestReport) -> Iterator[str]:
    """Yield what setup and test wrote; each phase repeats what the ones before it wrote."""
    for section in report.sections:
        match section:
            case ["Captured stdout setup", str(text)] if report.when == "setup":
                yield text
            case ["Captured stdout call", str(text)] if report.when == "call":
                yield text
            case _:
                pass


def _steps(text: str) -> Iterator[RanCommand]:
    """Yield the commands of a test, in order; those that only prepare or clean up are left out."""
    for match in _ANSWER.finditer(_anywhere(text)):
        command = match["command"]
        if command.endswith(ASIDE):
            continue
        yield RanCommand(
            command=command,
            status=int(match["status"]),
            stdout=(match["stdout"] or "").rstrip("\n"),
            stderr=(match["stderr"] or "").rstrip("\n"),
            root=match["prompt"] == "#",
        )


def _anywhere(text: str) -> str:
    """Return a text with placeholders for what belongs to one run."""
    # Numbered in the order in which they appear, so that a test has the same ones on each cell.
    names = list(dict.fromkeys(_NAME.findall(text)))
    text = _without_node(_NAME.sub(lambda match: f"@NAME@-{names.index(match[1])}", text), text)
    for pattern, placeholder in _RUN:
        text = pattern.sub(placeholder, text)
    return text


def _without_node(text: str, ran: str) -> str:
    """Return a text with a placeholder for the node that the commands of a test asked for."""
    node = _NODELIST.search(ran)
    before = r"(?:(?<=\bslurmstepd-)|(?<![\w.\\-]))"  # a step's daemon appends the node to its own name
    return re.sub(rf"{before}{re.escape(node[1])}(?![\w-])", "@NODE@", text) if node else text


def _with_answers(steps: Sequence[RanCommand]) -> tuple[RanCommand, ...]:
    """Return steps in which a number that an earlier one answered, such as a job's, is named by that step."""
    known: dict[str, str] = {}
    result = []
    for number, step in enumerate(steps):
        command = step.command
        for answer, placeholder in known.items():
            # Whole numbers: not the 17 in 170, 1.17 or x17.
            command = re.sub(rf"(?<![\w.]){answer}(?![\w])", placeholder, command)
        result.append(replace(step, command=command))
        # 0 and 1 stand in too many commands to be taken for the number of a job.
        if step.stdout.isdecimal() and step.stdout not in {"0", "1"}:
            # The first one counts: the same number later, such as squeue's, may not be there in another run.
            known.setdefault(step.stdout, f"@ANSWER{number}@")
    return tuple(result)


def _refusal(steps: Sequence[RanCommand], image: str) -> str:
    """Return why commands can't be run elsewhere; empty if they can."""
    if not steps:
        return "the log has no command of it: it asks by other means than a shell"
    if root := next((step for step in steps if step.root), None):
        return f"it needs root on a node: {root.command.splitlines()[0]}"
    if unknown := _UNKNOWN.search(image):
        return f"its image has something that shell can't put there: {unknown[1]}"
    for step in steps:
        for pattern, what in _NEEDS:
            if pattern.search(step.command):
                return f"it needs {what}: {step.command.splitlines()[0]}"
    return ""
