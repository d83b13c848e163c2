"""Reads the sets of cells in matrix.toml (groups, exclusions, known failures); each must select something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime, read_version
from ci.matrix.model import VERSION_AXES, Excluded, Exclusion, Group, KnownFailure, Matrix, Row, Selector
from ci.matrix.tables import Faults, TomlTable, did_you_mean, expected, kind

SUPPORTED = "supported"
"""In place of a Slurm version: every release that SchedMD supports today."""

# ``newest-2``: the newest row and the one before it.
_NEWEST = re.compile(r"newest-([1-9]\d*)")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_ISSUE = re.compile(r"https?://\S+|[\w.-]+/[\w.-]+#\d+")


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The rows that selections choose from."""

    rows: Mapping[str, tuple[Row, ...]]
    systems: tuple[str, ...]
    """Names of the operating systems."""
    supported: frozenset[Version]
    """The Slurm releases that SchedMD supports today."""
    profiles: tuple[str, ...]
    """Names of the profiles that come with this project."""
    sound: bool
    """Whether all rows are valid; if not, a choice without a row is not reported as well."""

    def names(self, axis: str) -> str:
        """Return the versions of an axis for error messages."""
        return ", ".join(row.name for row in self.rows[axis])


def read_specifier(table: TomlTable, key: str) -> SpecifierSet | None:
    """Return a version specifier; None if it is absent or invalid."""
    if not table.has(key):
        return None
    return specifier(table, key, table.text(key))


def specifier(table: TomlTable, key: str, text: str) -> SpecifierSet | None:
    """Return the specifier that a text is; None if it is empty or invalid."""
    try:
        return SpecifierSet(text) if text else None
    except InvalidSpecifier:
        table.fault(key, f'{text!r} is not a version specifier; for example ">=3.5" or ">=0.19,<0.21"')
        return None


def read_arch(table: TomlTable, key: str, text: str) -> Arch | None:
    """Return the architecture for any of its names; None if it is unknown."""
    try:
        return Arch.parse(text)
    except ValueError as error:
        table.fault(key, str(error))
        return None


def read_choice(table: TomlTable, axis: str, axes: Axes) -> frozenset[Version] | None:
    """Return the versions that a version, a specifier or a word selects; None if the key is absent."""
    if not table.has(axis):
        return None
    text = table.text(axis)
    # "newest" is the newest that has been run here: a row that nobody has tried has to be named.
    versions = sorted(row.version for row in axes.rows[axis] if not row.untried)
    words = {"oldest": versions[:1], "newest": versions[-1:], "edges": [*versions[:1], *versions[-1:]]}
    if axis == "slurm":
        words[SUPPORTED] = sorted(axes.supported)
    # Empty after a fault, which is noted: the matrix is not used then.
    if not text or text in words:
        return frozenset(words.get(text, []))
    if several := _NEWEST.fullmatch(text):
        # Of fewer rows than that it is all.
        return frozenset(versions[-int(several[1]) :])
    plain = read_version(text)
    # By the parsed version: 22.05 is 22.5 for PEP 440, and Slurm's name for it has the zero.
    specifier = SpecifierSet(f"=={plain}") if plain else read_specifier(table, axis)
    if specifier is None:
        return frozenset()
    # Without prereleases=True a candidate such as 4.2.0rc1 would be in no range, not even in >=4.
    found = frozenset(row.version for row in axes.rows[axis] if specifier.contains(row.version, prereleases=True))
    if not found and axes.sound:
        table.fault(axis, f"no [[{axis}]] row is {text} (rows: {axes.names(axis)})")
    return found


def read_os(table: TomlTable, key: str, systems: Sequence[str]) -> frozenset[str] | None:
    """Return the operating systems that a name or a list of them selects; None if the key is absent."""
    if not table.has(key):
        return None
    names = table.one_or_more(key)
    for name in names:
        # Without any row, that is the fault which is told.
        if name and name not in systems and systems:
            table.fault(key, f"no [[os]] row is {name}{did_you_mean(name, systems)}")
    if not names:
        table.fault(key, f'names no operating system; for example {key} = ["debian12"]')
    return frozenset(name for name in names if name)


def read_exclusion(table: TomlTable, axes: Axes) -> Exclusion:
    """Read an ``[[exclude]]`` row."""
    selector = _selector(table, axes, host=False)
    reason, issue = table.text("reason"), read_issue(table)
    table.finish()
    return Exclusion(selector=selector, reason=reason, issue=issue, where=table.path)


def read_known_failure(table: TomlTable, axes: Axes) -> KnownFailure:
    """Read a ``[[known-failure]]`` row."""
    tests = table.texts("tests")
    if not table.values.get("tests"):
        table.fault("tests", 'names no tests; for example tests = ["test_mounts*"]')
    selector = _selector(table, axes, host=False)
    reason, issue = table.text("reason"), read_issue(table)
    says = table.text("says")
    table.finish()
    return KnownFailure(tests=tests, selector=selector, reason=reason, says=says, issue=issue, where=table.path)


def read_groups(root: TomlTable, axes: Axes) -> tuple[Group, ...]:
    """Read the ``[groups.NAME]`` tables."""
    table = root.table("groups")
    if table is None:
        if "groups" not in root.values:
            root.fault("groups", 'there is no group; for example [groups.full] with cells = "all"')
        return ()
    groups = []
    for name in table.values:
        inner = table.table(name)
        if not _NAME.fullmatch(name):
            table.fault(name, f"a group's name has small letters, digits and hyphens, not {name!r}")
        if inner is not None:
            groups.append(_group(name, inner, axes))
    return tuple(groups)


def _group(name: str, table: TomlTable, axes: Axes) -> Group:
    value = table.values["cells"] if table.has("cells") else []
    selectors: list[Selector] = []
    if value == "all":
        selectors = [Selector()]
    elif not isinstance(value, list):
        table.fault("cells", expected('a list of selections or "all"', value))
    elif not value:
        table.fault("cells", 'the group is empty; list selections such as { slurm = "22.05" }, or write "all"')
    else:
        selectors = [_member(table, f"cells[{index}]", item, axes) for index, item in enumerate(value)]
    candidates = table.texts("candidates")
    for at, axis in enumerate(candidates):
        if axis not in VERSION_AXES:
            table.fault(f"candidates[{at}]", f"there is no axis {axis!r}{did_you_mean(axis, VERSION_AXES)}")
    covers = table.text("cover", "")
    if covers not in {"", "pairs"}:
        table.fault("cover", f'must be "pairs", not {covers!r}')
    description = table.text("description", "")
    table.finish()
    return Group(
        name=name,
        selectors=tuple(selectors),
        covers_pairs=bool(covers),
        candidates=candidates,
        description=description,
        where=table.path,
    )


def _member(table: TomlTable, key: str, item: object, axes: Axes) -> Selector:
    if not isinstance(item, dict) or not item:
        found = "an empty one" if item == {} else kind(item)
        table.fault(key, f'expected a selection such as {{ slurm = "22.05" }}, found {found}')
        return Selector()
    inner = TomlTable(item, table.at(key), table.faults)
    selector = _selector(inner, axes, host=True)
    profiles = inner.one_or_more("profile") if inner.has("profile") else ("",)
    for name in filter(None, profiles):
        if name not in axes.profiles:
            inner.fault("profile", f"there is no profile {name!r}{did_you_mean(name, axes.profiles)}")
    if not profiles:
        inner.fault("profile", 'names no profile; for example profile = ["strict"]')
    inner.finish()
    # Only a version that is written out names an untried row; a range does not.
    named = {axis for axis in VERSION_AXES if read_version(str(inner.values.get(axis, "")))}
    return replace(selector, profiles=profiles, untried=frozenset(named))


def _selector(table: TomlTable, axes: Axes, *, host: bool) -> Selector:
    """Read the axes of a selection; `host` says whether arch may be "host"."""
    chosen = {axis: read_choice(table, axis, axes) for axis in VERSION_AXES}
    runtime = table.text("runtime", "")
    if runtime and runtime not in list(Runtime):
        table.fault("runtime", f"unknown runtime {runtime!r}{did_you_mean(runtime, list(Runtime))}")
        runtime = ""
    arch = table.text("arch", "")
    if arch == "host" and not host:
        table.fault("arch", '"host" makes sense in groups only; name the architecture')
    return Selector(
        slurm=chosen["slurm"],
        enroot=chosen["enroot"],
        pyxis=chosen["pyxis"],
        os=read_os(table, "os", axes.systems),
        arch="host" if arch == "host" else read_arch(table, "arch", arch) if arch else None,
        runtime=Runtime(runtime) if runtime else None,
        by_date=table.values.get("slurm") == SUPPORTED,
    )


def read_issue(table: TomlTable) -> str | None:
    """Return where upstream tracks a fault; None if the key is absent."""
    issue = table.text("issue", "")
    if issue and not _ISSUE.fullmatch(issue):
        table.fault("issue", f'expected an address or OWNER/REPO#NUMBER such as "NVIDIA/pyxis#175", found {issue!r}')
    return issue or None


def check_effect(matrix: Matrix, faults: Faults) -> None:
    """Note rows, exclusions, known failures and group entries that select nothing: they are mistakes or out of date."""
    cells, excluded = matrix.without_groups(), matrix.excluded()
    # Everything below would be a consequence of this one.
    if all(cell.runtime is Runtime.LEGACY for cell in cells):
        reasons = ", ".join(dict.fromkeys(f"{out.where} ({out.reason})" for out in excluded))
        faults.add("exclude", f"no cell is left; they are excluded by {reasons}")
        return
    _check_rows(matrix, faults)
    for exclusion in matrix.exclusions:
        # What a row's requires-… has refused already is not matched again: such an exclusion is out of date.
        if all(out.where != exclusion.where for out in excluded):
            faults.add(exclusion.where, f"the exclusion matches nothing: {_why_not(exclusion.selector, excluded)}")
    for failure in matrix.failures:
        if not any(failure.selector.matches(cell) for cell in cells):
            faults.add(failure.where, f"the known failure matches no cell: {_why_not(failure.selector, excluded)}")
    for group in matrix.groups:
        for index, selector in enumerate(group.selectors):
            plain = replace(selector, profiles=None)  # its cells with a profile are made of these
            # On a day on which no release is supported any more, "supported" selects nothing, and is no mistake.
            if not selector.by_date and not any(plain.matches(cell) for cell in cells):
                faults.add(f"{group.where}.cells[{index}]", f"selects no cell: {_why_not(selector, excluded)}")


def _check_rows(matrix: Matrix, faults: Faults) -> None:
    """Note rows that fit no other row because of requires-..."""
    # What an exclusion takes out is taken out on purpose; here only what requires-... refuses counts.
    exclusions = {exclusion.where for exclusion in matrix.exclusions}
    refused = {out.cell: out.reason for out in matrix.excluded() if out.where not in exclusions}
    possible = list(matrix.possible_cells())
    for row in (*matrix.slurm, *matrix.enroot, *matrix.pyxis):
        own = [cell for cell in possible if cell.version(row.axis) == row.version]
        real = [cell for cell in own if cell.runtime is Runtime.NVIDIA]
        if all(cell in refused for cell in real):
            reasons = dict.fromkeys(refused[cell] for cell in real)
            faults.add(row.where, f"nothing can be combined with {row.axis} {row.name}: {', '.join(reasons)}")


def _why_not(selector: Selector, excluded: tuple[Excluded, ...]) -> str:
    """Return why a selection finds no cell."""
    takers = dict.fromkeys(out.where for out in excluded if selector.matches(out.cell))
    return f"all that it matches is excluded by {', '.join(takers)}" if takers else "there is no such cell"
