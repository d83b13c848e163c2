"""Reads matrix.toml into the model; all faults of the file are reported at once."""

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from ci import paths
from ci.matrix.arch import Arch
from ci.matrix.cells import SlurmSource, SlurmVersion, read_version
from ci.matrix.model import VERSION_AXES, Defaults, Matrix, Row, SlurmRow, Subject, SuiteEnvironment
from ci.matrix.own import extended
from ci.matrix.profile_files import shipped
from ci.matrix.selections import (
    Axes,
    check_effect,
    read_arch,
    read_choice,
    read_exclusion,
    read_groups,
    read_known_failure,
    read_os,
    read_specifier,
)
from ci.matrix.systems import OS_NAME, Family, OperatingSystem, families
from ci.matrix.tables import TomlTable, did_you_mean, read_table

__all__ = ["Matrix", "load"]

SCHEMA = 1
# A system's packages may go to a later release of their series at any time: such a row has the series only.
_SERIES = re.compile(r"\d\d\.\d\d")
_SLURM_RELEASE = re.compile(r"\d\d\.\d\d\.\d+")
_RELEASE = re.compile(r"\d+\.\d+\.\d+.*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load(path: Path | None = None) -> Matrix:
    """Read and check a matrix file: by default the repository's own, extended by that of the person if there is one.

    :raises MatrixError: with all faults: file, line if known, key path, and what to write instead.
    """
    if path:
        return _loaded((_state(path),))
    own = paths.own_matrix_file()
    return _loaded((_state(paths.MATRIX_FILE), *([_state(own)] if own else [])))


def _state(path: Path) -> tuple[Path, int, int]:
    """Return a file, and what is different after an edit."""
    try:
        state = path.stat()
    except OSError:
        return path, 0, 0  # reading it says what is wrong
    return path, state.st_mtime_ns, state.st_size


# Of the few files of a process: the project's, one's own, those of tests.
@lru_cache(maxsize=8)
def _loaded(files: tuple[tuple[Path, int, int], ...]) -> Matrix:
    """Read files once for as long as they stay the same; a matrix is frozen, so all can share it."""
    tables = []
    for path, _, _ in files:
        root = read_table(path)
        if not root.values:
            root.faults.add(
                "schema", f"the file is empty; it needs schema = {SCHEMA} and the axes slurm, enroot, pyxis, arch"
            )
            root.faults.raise_if_any()
        tables.append(root)
    root = extended(tables[1], tables[0]) if len(tables) > 1 else tables[0]
    matrix = _read(root)
    root.faults.raise_if_any()
    return matrix


def _read(root: TomlTable) -> Matrix:
    """Read the whole file. Values after a fault are placeholders; they are never used, because `load` raises."""
    faults = root.faults
    if root.integer("schema", SCHEMA, least=1) != SCHEMA or "schema" not in root.values:
        root.fault("schema", f"must be {SCHEMA}, the only schema that this version reads")
    # How many faults there are before each part: what builds on a faulty part is not checked for effect.
    before = len(faults.lines)
    systems = _systems(root)
    slurm = _slurm_rows(root, systems)
    enroot, pyxis = _rows(root, "enroot", systems), _rows(root, "pyxis", systems)
    arches = _arches(root)
    axes = Axes(
        rows={"slurm": slurm, "enroot": enroot, "pyxis": pyxis},
        systems=tuple(system.name for system in systems),
        supported=_supported(slurm),
        profiles=tuple(shipped()),
        sound=len(faults.lines) == before,
    )
    embedded = _embedded(root, axes)
    exclusions = tuple(read_exclusion(row, axes) for row in root.rows("exclude"))
    failures = tuple(read_known_failure(row, axes) for row in root.rows("known-failure"))
    groups = read_groups(root, axes)
    selections_sound = len(faults.lines) == before
    matrix = Matrix(
        slurm=slurm,
        enroot=enroot,
        pyxis=pyxis,
        systems=systems,
        arches=arches,
        embedded=embedded,
        exclusions=exclusions,
        failures=failures,
        groups=groups,
        subject=_subject(root),
        suite_environment=_suite_environment(root),
        defaults=_defaults(root),
        path=faults.path,
    )
    root.finish()
    if selections_sound:
        check_effect(matrix, faults)
    return matrix


def _systems(root: TomlTable) -> tuple[OperatingSystem, ...]:
    found: dict[str, OperatingSystem] = {}
    codenames: dict[str, str] = {}
    _check_filled(root, "os", "add an [[os]] row with name and codename")
    for table in root.rows("os"):
        name, codename = table.text("name"), table.text("codename")
        if name and not re.fullmatch(OS_NAME, name):
            table.fault(
                "name", f'write a name such as "debian12" or "ubuntu24.04": letters, then the release; not {name!r}'
            )
        elif name in found:
            table.fault("name", f"duplicate row: {name} is there already")
        if codename and codename not in families():
            table.fault(
                "codename", f"no family in containers/families/ has {codename!r}{did_you_mean(codename, families())}"
            )
        elif codename in codenames:
            table.fault("codename", f"duplicate: {codename} is the code name of {codenames[codename]} already")
        if codename:
            codenames.setdefault(codename, table.path)
        table.finish()
        if name:
            family = families().get(codename, Family())
            found.setdefault(name, OperatingSystem(name=name, codename=codename, family=family))
    return tuple(found.values())


def _check_filled(root: TomlTable, axis: str, remedy: str) -> None:
    if root.values.get(axis, []) == []:
        root.fault(axis, f"the axis is empty, so nothing can be run; {remedy}")


def _slurm_rows(root: TomlTable, systems: tuple[OperatingSystem, ...]) -> tuple[SlurmRow, ...]:
    rows = []
    shipped: dict[str, str] = {}
    for table in _distinct(root, "slurm"):
        text = table.text("from")
        # In the list of its members: before Python 3.12 `text in SlurmSource` raises a TypeError.
        source = SlurmSource(text) if text in list(SlurmSource) else SlurmSource.PACKAGES
        if text and text != source:
            table.fault("from", f"unknown source {text!r}{did_you_mean(text, list(SlurmSource))}")
        row = _row(table, "slurm", systems, source if text == source else None)
        accounting = table.boolean("accounting", default=False)
        until = table.date("supported-until")
        if source is SlurmSource.PACKAGES and row and text == source:
            _check_shipped(table, row, shipped)
        table.finish()
        if row:
            slurm = SlurmVersion(version=row.name, source=source, accounting=accounting, supported_until=until)
            # All fields of the row, and the Slurm.
            rows.append(SlurmRow(**vars(row), slurm=slurm))
    return tuple(rows)


def _supported(rows: tuple[SlurmRow, ...]) -> frozenset[Version]:
    # UTC, so that machines in all places have the same cells.
    today = datetime.now(UTC).date()
    return frozenset(row.version for row in rows if row.slurm.supported_until and row.slurm.supported_until >= today)


def _check_shipped(table: TomlTable, row: Row, shipped: dict[str, str]) -> None:
    """Note packages of no operating system, and of one that ships another Slurm already."""
    if "requires-os" not in table.values:
        table.fault("requires-os", 'missing: which system ships these packages? For example requires-os = "debian12"')
    for name in row.requires_os:
        if name in shipped:
            table.fault("requires-os", f"{name} belongs to {shipped[name]} already, and a system ships one Slurm")
        shipped.setdefault(name, table.path)


def _rows(root: TomlTable, axis: str, systems: tuple[OperatingSystem, ...]) -> tuple[Row, ...]:
    rows = []
    for table in _distinct(root, axis):
        row = _row(table, axis, systems)
        table.finish()
        rows += [row] if row else []
    return tuple(rows)


def _distinct(root: TomlTable, axis: str) -> list[TomlTable]:
    """Return an axis' rows; note an empty axis and rows that repeat a version."""
    tables = root.rows(axis)
    _check_filled(root, axis, f"add a [[{axis}]] row with a version")
    seen: dict[Version, str] = {}
    for table in tables:
        text = table.values.get("version")
        # What is no text is a fault that `_row` notes.
        version = read_version(text) if isinstance(text, str) else None
        if version in seen:
            table.fault("version", f"duplicate row: {text} is in {seen[version]} already")
        elif version:
            seen[version] = table.path
    return tables


def _row(
    table: TomlTable, axis: str, systems: tuple[OperatingSystem, ...], source: SlurmSource | None = None
) -> Row | None:
    text = table.text("version")
    version = read_version(text)
    if text and version is None:
        table.fault("version", f"{text!r} is not a version")
    elif text and source is SlurmSource.PACKAGES and not _SERIES.fullmatch(text):
        table.fault("version", f'packages have a Slurm series, written YY.MM, for example "22.05", not {text!r}')
    elif text and source is SlurmSource.ARCHIVE and not _SLURM_RELEASE.fullmatch(text):
        table.fault("version", f'a release of Slurm is written YY.MM.N, for example "25.11.7", not {text!r}')
    # Release files are found by this text: upstream has no file of a release 0.20.
    elif text and axis != "slurm" and not (_RELEASE.fullmatch(text) and str(version) == text):
        table.fault(
            "version", f'write the version in full, as the release is named, for example "0.20.0", not {text!r}'
        )
    specifiers = [(axis_, read_specifier(table, f"requires-{axis_}")) for axis_ in VERSION_AXES if axis_ != axis]
    names = tuple(system.name for system in systems)
    chosen = read_os(table, "requires-os", names)
    untried = table.boolean("untried", default=False)
    if version is None:
        return None
    return Row(
        axis=axis,
        name=text,
        version=version,
        requires=tuple((other, specifier) for other, specifier in specifiers if specifier is not None),
        # In the order of the [[os]] rows, whatever that of the key.
        requires_os=tuple(name for name in names if chosen and name in chosen),
        untried=untried,
        where=table.path,
    )


def _arches(root: TomlTable) -> tuple[Arch, ...]:
    found: list[Arch] = []
    _check_filled(root, "arch", 'for example arch = ["amd64"]')
    for index, text in enumerate(root.texts("arch")):
        arch = read_arch(root, f"arch[{index}]", text)
        if arch in found:
            root.fault(f"arch[{index}]", f"duplicate: {text} is {arch}, which is listed already")
        elif arch:
            found.append(arch)
    return tuple(found)


def _embedded(root: TomlTable, axes: Axes) -> frozenset[Version]:
    table = root.table("embedded")
    if table is None:
        return frozenset()
    chosen = read_choice(table, "slurm", axes)
    table.finish()
    return frozenset(row.version for row in axes.rows["slurm"]) if chosen is None else chosen


def _subject(root: TomlTable) -> Subject:
    table = root.table("subject")
    if table is None:
        if "subject" not in root.values:
            root.fault("subject", 'there is nothing to test; for example [subject] with requirement = "slurm-sdk"')
        return Subject(requirement="", name="")
    requirement = table.text("requirement")
    name = _name(table, "requirement", requirement) if requirement else ""
    constraints = table.texts("constraints")
    for index, constraint in enumerate(constraints):
        _name(table, f"constraints[{index}]", constraint)
    subject = Subject(
        requirement=requirement,
        name=name,
        constraints=constraints,
        reason=table.text("reason", ""),
    )
    if constraints and not table.values.get("reason"):
        table.fault("constraints", "a constraint needs a reason beside it: reason = ...")
    table.finish()
    return subject


def _name(table: TomlTable, key: str, requirement: str) -> str:
    try:
        return Requirement(requirement).name
    except InvalidRequirement as error:
        # The first line only: below it the message repeats the text, with a mark at the place.
        table.fault(key, f"{requirement!r} is not a requirement: {str(error).splitlines()[0]}")
        return ""


def _suite_environment(root: TomlTable) -> SuiteEnvironment:
    table = root.table("suite-environment")
    if table is None:
        return SuiteEnvironment()
    variables = [(fact, table.text(fact)) for fact in SuiteEnvironment.FACTS if table.has(fact)]
    extra = table.table("extra")
    fixed = [(name, extra.text(name)) for name in extra.values] if extra else []
    seen: set[str] = set()
    for key, name in [*variables, *((f"extra.{name}", name) for name, _ in fixed)]:
        if name and not _VARIABLE.fullmatch(name):
            table.fault(key, f"{name!r} is not a valid name of an environment variable")
        elif name in seen:
            table.fault(key, f"duplicate: the variable {name} is set already")
        seen.add(name)
    table.finish()
    return SuiteEnvironment(variables=tuple(variables), extra=tuple(fixed))


def _defaults(root: TomlTable) -> Defaults:
    table = root.table("defaults")
    if table is None:
        if "defaults" not in root.values:
            root.fault("defaults", 'missing; for example [defaults] with group = "smoke"')
        return Defaults(group="")
    group = table.text("group")
    groups = root.values.get("groups")
    if group and isinstance(groups, dict) and group not in groups:
        table.fault("group", f"there is no group {group!r}{did_you_mean(group, groups)}")
    defaults = Defaults(group=group, nodes=table.integer("nodes", 1, least=1))
    table.finish()
    return defaults
