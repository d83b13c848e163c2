"""What a site is known by, in texts and files of results: replaced by words that say what stood there. Pure."""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
import json
from pathlib import PurePath
import re
from typing import Any

from ci.record.reportlog import RERUNS_PROPERTY
from ci.site import private

_ANY_CASE = frozenset({"HOST", "DOMAIN", "REGISTRY", "MACHINE"})
# Words of Linux, Slurm, this project and its results, and what stands in a name's place: they are no site's own, and a
# text without them is not to be understood.
_COMMON = re.compile(
    r"/?root|accounts?|address|admin|all|any|asked|bash|batch|bin|centos|clusters?|compute|conformance|containers?|"
    r"cpu|debian|debug|default|docker|domain|enroot|error|etc|exit|failed|file|gpu|groups?|head|home|host|image|"
    r"jobs?|linux|local(host|domain)?|localhost\.localdomain|login|long|machine|main|master|mounts?|name|needs|"
    r"nobody|nodes?|none|normal|not|null|opt|partition|passed|pyxis(-matrix)?|qos|registry|repository|reservation|"
    r"rocky|run|shared|short|site|skipped|slurm|srun|sudo|tasks?|tests?|tester|tiny|tmp|ubuntu|unknown|users?|usr|"
    r"var|wheel",
    re.IGNORECASE,
)
_A_NAME = re.compile(r"(?s)(?=.*[^\W\d_])(...+|.*\d.*)")
_DATA = re.compile(r"[A-Za-z0-9+/=]{1000,}")
"""A line of base64: it tells no name as it stands, and would be another file with a word in it."""
# Of JSON and XML, what readers know results by. No text of the cluster's is among it.
_KEPT = {
    *("$report_type", "cell", "classname", "commit", "name", "nodeid", "outcome", "phase", "run", "saw", "selected"),
    *("suite", "versions", "when"),
}
_ATTRIBUTE = re.compile(r' ([\w:]+)="([^"]*)"')
# A name begins behind what is no letter and no digit, and behind an escape that ends in one: `\nann` in the repr of a
# text, `%2Fann` in an address, a colour of the terminal.
_BEGIN = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[abfnrtv])|(?<=[\\#]x[0-9a-fA-F]{2})|(?<=\\u[0-9a-fA-F]{4})|(?<=%[0-9a-fA-F]{2})"
    r"|(?<=\[m)|(?<=[\[;]\dm)|(?<=[\[;]\d\dm))"
)


class Redaction:
    """Replaces names that are known, and all addresses but loopback."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """Take names with the words for them; the first word for a name counts. That of a node ends in its number."""
        pairs = [pair for pair in names if re.search(r"[^\W\d_]", pair[0])]
        told = [pair for pair in pairs if _A_NAME.fullmatch(pair[0]) and not _COMMON.fullmatch(pair[0])]
        self.left = sorted({name for name, _ in {*pairs} - {*told}})
        """Names that are not replaced, because they are too short, or anybody's words."""
        self._words: dict[str, str] = {}
        nodes, others = set[str](), set[str]()
        for name, word in told:
            self._words.setdefault(name.lower() if word in _ANY_CASE else name, word)
            if word[-1].isdigit():  # of thousands of nodes there are few forms: n1, n2 and Slurm's n[1-2] are one
                nodes.add(re.sub(r"\d+", lambda _: r"(?:\d+|\[[\d,-]+\])", re.escape(name)))
            else:
                others.add(f"(?i:{re.escape(name)})" if word in _ANY_CASE else re.escape(name))
        longest = ("|".join(sorted(patterns, key=len, reverse=True)) for patterns in (others, nodes))
        self._patterns = [re.compile(rf"{_BEGIN}(?:{pattern})(?![A-Za-z0-9])") for pattern in longest]
        self._line = lru_cache(maxsize=1000)(self._replaced)  # a test's output stands there for each of its phases

    def text(self, text: str) -> str:
        """Return a text without the names and addresses."""
        return "\n".join(map(self._line, text.split("\n")))

    def content(self, name: str, content: bytes) -> bytes:
        """Return a file's content without them; JSON and XML stay what they are, and have the same keys and tests."""
        if PurePath(name).suffix == ".jsonl":
            return b"\n".join(self.content("a line.json", line) for line in content.split(b"\n"))
        text = content.decode(errors="surrogateescape")
        if PurePath(name).suffix == ".json":
            with suppress(ValueError, RecursionError):  # it is not written whole, or nothing that can be written
                value = self._value(json.loads(text))
                whole = json.dumps(value, indent=2, ensure_ascii=False) + "\n" if "\n" in text else json.dumps(value)
                return whole.encode(errors="surrogateescape")
        if PurePath(name).suffix == ".xml":
            parts = enumerate(re.split("(<[^>]*>)", text))
            text = "".join(_ATTRIBUTE.sub(self._attribute, it) if odd % 2 else self.text(it) for odd, it in parts)
        else:
            text = self.text(text)
        return text.encode(errors="surrogateescape")

    def _replaced(self, line: str) -> str:
        if _DATA.fullmatch(line):
            return line
        for address in private.ADDRESSES:
            line = address.sub("ADDRESS", line)
        for pattern in self._patterns:
            line = pattern.sub(self._word, line)
        return line

    def _word(self, found: re.Match[str]) -> str:
        name = found[0]
        return self._words.get(name) or self._words.get(name.lower()) or ("NODES" if "[" in name else name)

    def _attribute(self, found: re.Match[str]) -> str:
        return found[0] if found[1] in _KEPT else f' {found[1]}="{self.text(found[2])}"'

    def _value(self, value: Any, key: str = "") -> Any:  # noqa: ANN401 - JSON
        match value:
            case str():
                return self.text(value)
            case [str(name), it] if key == "user_properties":
                return [name, self._value(it) if name == RERUNS_PROPERTY else it]
            case list():
                return [self._value(item, key) for item in value]
            case dict():
                return {name: it if name in _KEPT else self._value(it, name) for name, it in value.items()}
        return value


def of_host(host: str, word: str = "HOST") -> list[tuple[str, str]]:
    """Return what a host is known by, with the words for it: its name, the first part, and the domains it is in."""
    first, *parts = host.rstrip(".").split(".")
    domains = [".".join(parts[begin:]) for begin in range(len(parts) - 1)]
    return [(host, word), (first, word), *((name, "DOMAIN") for name in domains)]
