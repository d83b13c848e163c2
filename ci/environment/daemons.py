"""Finds the daemon that ended a node's container in the container's output, whose format is the entry script's."""

import re

# "node-entrypoint: slurmd ended with status 1; the last lines of /var/log/slurm/slurmd.log:", and then these lines.
_ENDED = re.compile(r"^node-entrypoint: (?P<daemon>.+) ended with status \d+; the last lines of ", re.MULTILINE)
# "slurmd: error: slurmd initialization failed"; in its log the same line begins with the time in brackets.
_OUTPUT = re.compile(r"(munged|sshd|slurmctld|slurmd): ")
_GRAVE = re.compile(r"\b(error|fatal): ", re.IGNORECASE)
# With the line that names the daemon these are the twenty that a wait shows (`ci.environment.wait`).
_OF_ITS_LOG, _OF_ITS_OUTPUT = 16, 3

# By the words of the daemon's errors only: a word in any other line does not prove that it was the reason.
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
    """Return the lines of the daemon that ended first, from a container's output; all lines if none has ended.

    They are few enough to be shown in full.
    """
    ended = _last(log)
    if not ended:
        return log
    line, _, _ = log[ended.start() :].partition("\n")
    before, after = _own_words(log, ended)
    return "\n".join([line, *before[-_OF_ITS_OUTPUT:], *after[-_OF_ITS_LOG:], ""])


def hint(log: str) -> str:
    """Return a hint at the cause, from a container's output or its `last_words`; empty if no daemon has ended."""
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
    """Return the errors of a daemon's output if its log names none, and the end of its log.

    Messages from before a daemon has opened its log are in its output only.
    """
    # Without the lines that other daemons write meanwhile.
    after = [line for line in log[ended.start() :].splitlines()[1:] if _of(line) in {"", ended["daemon"]}]
    if any(_GRAVE.search(line) for line in after):
        return [], after
    before = log[: ended.start()].splitlines()
    return [line for line in before if line.startswith(f"{ended['daemon']}: ") and _GRAVE.search(line)], after


def _of(line: str) -> str:
    """Return the daemon that wrote a line to the output of the container; empty for a line of a log."""
    return found[1] if (found := _OUTPUT.match(line)) else ""
