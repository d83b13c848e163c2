"""What a node's container says of the daemon that ended it; the words are those of its entry script."""

import re

_ENDED = re.compile(r"^node-entrypoint: (?P<daemon>.+) ended with status \d+; the last lines of ", re.MULTILINE)
_OUTPUT = re.compile(r"(munged|sshd|slurmctld|slurmd): ")
_GRAVE = re.compile(r"\b(error|fatal): ", re.IGNORECASE)
_OF_ITS_LOG, _OF_ITS_OUTPUT = 16, 3

# By the words of its errors: one that ends for another reason must not be said to have ended for this one.
_HINTS = (
    (
        re.compile(
            r"Parsing error|Unable to process (slurm\.conf|configuration) file|Could not open/read/parse|"
            r"Couldn't find the specified plugin name"
        ),
        "a file in /etc/slurm has a setting that this Slurm does not accept; {daemon}'s lines above name it",
    ),
    (
        re.compile(r"cgroup", re.IGNORECASE),
        "{daemon} chose a cgroup plugin that can't work in a node: cgroup.conf has to name another (CgroupPlugin)",
    ),
)
_ANY_HINT = "{daemon} ended, and the node with it; its last lines above say why"


def last_words(log: str) -> str:
    """Return of a container's output what the daemon said that was the first to end; all of it where none did.

    It is short enough to be shown whole.
    """
    ended = _last(log)
    if not ended:
        return log
    line, _, _ = log[ended.start() :].partition("\n")
    before, after = _own_words(log, ended)
    return "\n".join([line, *before[-_OF_ITS_OUTPUT:], *after[-_OF_ITS_LOG:], ""])


def hint(log: str) -> str:
    """Return what to look at, from a container's output or its last words; empty where no daemon has ended."""
    ended = _last(log)
    if not ended:
        return ""
    before, after = _own_words(log, ended)
    errors = "\n".join(line for line in (*before, *after) if _GRAVE.search(line))
    found = next((text for pattern, text in _HINTS if pattern.search(errors)), _ANY_HINT)
    return found.format(daemon=ended["daemon"])


def _last(log: str) -> re.Match[str] | None:
    return max(_ENDED.finditer(log), key=re.Match.start, default=None)


def _own_words(log: str, ended: re.Match[str]) -> tuple[list[str], list[str]]:
    """Return the end of the daemon's log, and before it, where that names no error, the errors of its output.

    What a daemon says before it has opened its log is in its output only.
    """
    # What the others still write meanwhile is theirs.
    after = [line for line in log[ended.start() :].splitlines()[1:] if _of(line) in {"", ended["daemon"]}]
    if any(_GRAVE.search(line) for line in after):
        return [], after
    before = log[: ended.start()].splitlines()
    return [line for line in before if line.startswith(f"{ended['daemon']}: ") and _GRAVE.search(line)], after


def _of(line: str) -> str:
    """Return which daemon wrote a line to the output of the container; empty for a line of its log."""
    return found[1] if (found := _OUTPUT.match(line)) else ""
