"""A site's slurm.conf, laid over that of a cell's nodes: read as Slurm reads it, and refused where it can't hold.

There is no schema: Slurm knows what a key means. Only what would take a cell apart is known here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import re
from typing import NamedTuple

# `keyvalue_pattern` in Slurm's src/common/parse_config.c: ``Key=value``, ``Key = "two words"``, also ``Key+=value``.
_PAIR = re.compile(r'\s*([\w.]+)\s*[-*+/]?=\s*("[^"]*"|\S+)(?=\s|$)')
_INCLUDE = re.compile(r"\s*include\s+(\S+)\s*$", re.IGNORECASE)
# After a backslash # is a letter.
_COMMENT = re.compile(r"(?<!\\)#.*")
_NODES, _PARTITIONS = "nodename", "partitionname"
# Of these there may be many lines, each about what its first key names.
_REPEATED = frozenset({_NODES, _PARTITIONS, "nodeset", "downnodes"})
NODES_ARE_OTHERS = "the nodes of a cell are n1, n2, and so on"
_NODE_LISTS = ("nodes", "allocnodes")
# With it Slurm takes a node's CPUs from the file; without it a node that has fewer is drained.
_COUNTED, _AS_SAID = "slurmdparameters", "config_overrides"
# The levels below info, which is 3. slurmd logs at info which Pyxis it has loaded.
_DEBUG, _QUIET = "slurmddebug", ("quiet", "fatal", "error", "0", "1", "2")
_LOGS = "the logs are read there, to see which versions run"
# By reason, so that each is written once.
_REFUSED = {
    "the first node of a cell, n1, is the controller, and the cluster has the name that its accounting knows": (
        *("clustername", "slurmctldhost", "slurmctldaddr", "controlmachine", "controladdr"),
        *("backupcontroller", "backupaddr", "slurmctldprimaryonprog", "slurmctldprimaryoffprog"),
    ),
    "the daemons of a cell find each other by Slurm's own ports": ("slurmctldport", "slurmdport"),
    "each run makes a munge key, and the nodes know no other authentication": (
        *(
            "authtype",
            "authinfo",
            "authalttypes",
            "authaltparameters",
            "credtype",
            "cryptotype",
            "tlstype",
            "tlsparameters",
        ),
        *("jobcredentialprivatekey", "jobcredentialpubliccertificate"),
    ),
    "nothing powers the nodes of a cell up again": (
        *("suspendprogram", "resumeprogram", "resumefailprogram", "rebootprogram"),
    ),
    "it is a place or an account of the nodes' image": (
        *("slurmuser", "slurmduser", "statesavelocation", "slurmdspooldir", "slurmctldpidfile", "slurmdpidfile"),
        *("plugindir", "plugstackconfig"),
    ),
    _LOGS: ("slurmctldlogfile", "slurmdlogfile"),
    "whether jobs are recorded is said by --accounting": (
        *("accountingstoragetype", "accountingstoragehost", "accountingstoragebackuphost", "accountingstorageport"),
        *("accountingstorageuser", "accountingstoragepass", "accountingstorageloc"),
    ),
    NODES_ARE_OTHERS: ("downnodes", "frontendname"),
}
REFUSED: Mapping[str, str] = {key: why for why, keys in _REFUSED.items() for key in keys}
"""Keys in small letters that would take a cell apart, and why."""


class Pair(NamedTuple):
    """A key and its value."""

    key: str
    """In small letters."""
    value: str
    """Without quotes."""
    written: str
    """The key as it is written."""
    text: str
    """All of it, as it is written."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line that says something, with those that continue it."""

    number: int
    """Of its first line; from 1."""
    text: str
    pairs: tuple[Pair, ...] = ()
    include: str = ""
    """The file that it names in place of settings."""
    clear: bool = True
    """Whether all of it was understood."""

    @property
    def key(self) -> str:
        """The first key: what the line is about."""
        return self.pairs[0].key if self.pairs else ""

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """What it sets of the cluster: nothing where it is about one thing of many."""
        return () if self.key in _REPEATED else tuple((pair.key, pair.value) for pair in self.pairs)


def lines_of(text: str) -> Iterator[Line]:
    """Yield the lines of a file, without comments and blank ones."""
    whole, first = "", 0
    # The empty line at the end closes a last one that ends with a backslash.
    for number, raw in enumerate([*text.splitlines(), ""], start=1):
        part = _COMMENT.sub("", raw).rstrip()
        # A fault is looked for where its line begins, however many lines continue it.
        first = first or number
        if part.endswith("\\"):
            whole += part[:-1]
            continue
        whole += part
        if whole.strip():
            yield _line(first, whole)
        whole, first = "", 0


def _line(number: int, text: str) -> Line:
    if found := _INCLUDE.match(text):
        return Line(number=number, text=text, include=found[1])
    pairs, end = [], 0
    while found := _PAIR.match(text, end):
        pairs.append(Pair(found[1].lower(), found[2].strip('"'), found[1], found[0].strip()))
        end = found.end()
    return Line(number=number, text=text, pairs=tuple(pairs), clear=not text[end:].strip())


def faults_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield what of a site's file can't hold in a cell: the number of the line, and why."""
    for line in lines_of(text):
        if not line.clear:
            yield line.number, f"expected KEY=VALUE, found: {line.text.strip()}"
        # In a line about one of many, what follows the first key is about that one, and has other meanings.
        for pair in line.pairs if line.key not in _REPEATED else line.pairs[:1]:
            if why := REFUSED.get(pair.key):
                yield line.number, f"{pair.written} cannot be set: {why}"
        for why in _faults_of_values(line):
            yield line.number, why


def _faults_of_values(line: Line) -> Iterator[str]:
    """Yield why what a line says of its keys can't hold, though others could."""
    pairs = {pair.key: pair for pair in line.pairs}
    if _names_a_node(line):
        yield f"{NODES_ARE_OTHERS}; write what all have as NodeName=DEFAULT, and leave out the rest"
    elif line.key in _REPEATED:
        for key in _NODE_LISTS:
            if (pair := pairs.get(key)) and pair.value.upper() != "ALL":
                yield f"{NODES_ARE_OTHERS}; write {pair.written}=ALL"
    elif (pair := pairs.get(_COUNTED)) and _AS_SAID not in pair.value.lower().split(","):
        why = f"it needs {_AS_SAID} among its words: a node of a cell counts more CPUs than this machine may have"
        yield f"{pair.written} cannot have this value: {why}"
    elif (pair := pairs.get(_DEBUG)) and pair.value.lower() in _QUIET:
        yield f"{pair.written} cannot have this value: {_LOGS}"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One setting, or one thing of many with what is said of it, on a line of its own."""

    number: int
    """Of the line that has it."""
    key: str
    """As it is written; empty where the line was not understood."""
    text: str
    value: str = ""
    include: bool = False
    """Whether the value is a file that it includes."""
    words: tuple[str, ...] = ()
    """Of one thing of many: what is said of it."""


def statements_of(text: str) -> Iterator[Statement]:
    """Yield what a file says, one thing at a time, without comments.

    Partitions are those of a cell: they have all nodes.
    """
    for line in lines_of(text):
        if line.include:
            yield Statement(number=line.number, key="Include", text=line.text, value=line.include, include=True)
        elif not line.clear:
            yield Statement(number=line.number, key="", text=line.text.strip())
        elif line.key in _REPEATED:
            words = tuple(f"{pair.written}=ALL" if pair.key in _NODE_LISTS else pair.text for pair in line.pairs)
            yield Statement(number=line.number, key=line.pairs[0].written, text=" ".join(words), words=words)
        else:
            for pair in line.pairs:
                yield Statement(number=line.number, key=pair.written, text=pair.text, value=pair.value)


def laid_over(template: str, text: str, included: Sequence[str] = ()) -> str:
    """Return a template with a site's file over it.

    A key that the site has takes the place of the template's; so do all of its partitions, if it has any. Its lines
    stand before those of the nodes, because NodeName=DEFAULT holds for what follows.

    :param included: the text of files that the site's one includes.
    """
    own = [line for each in (text, *included) for line in lines_of(each)]
    keys = {key for line in own for key, _ in line.settings}
    # PartitionName=DEFAULT alone names none; the template's then stay, and take it over.
    if any(line.key == _PARTITIONS and line.pairs[0].value.upper() != "DEFAULT" for line in own):
        keys.add(_PARTITIONS)
    # The project's own template has one setting on each line, so a line goes as a whole.
    kept = [line for line in template.splitlines() if not any(setting.key in keys for setting in lines_of(line))]
    nodes = (number for number, line in enumerate(kept) if any(map(_names_a_node, lines_of(line))))
    at = next(nodes, len(kept))
    return "\n".join([*kept[:at], "# Of the profile:", text.rstrip("\n"), *kept[at:], ""])


def _names_a_node(line: Line) -> bool:
    """Tell whether a line is about nodes by name, and not about what all have."""
    return line.key == _NODES and line.pairs[0].value.upper() != "DEFAULT"
