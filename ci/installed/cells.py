"""Which tests of a session are for a cell, and whether they are for its versions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

KEY = "pyxis-matrix cell"
"""Under this name, a report says among its ``user_properties`` which cell it is of."""
FIXTURE = "pyxis_matrix_cell"
"""The fixture that all others come from: a test that has it uses a cluster."""
AXES = {"slurm": "Slurm", "enroot": "enroot", "pyxis": "Pyxis"}


class HeldCell:
    """A cell that tests run on. Nothing but its id is known of it where nothing was started (``--collect-only``)."""

    def __init__(self, id: str, told: Mapping[str, Any]) -> None:  # noqa: A002 - as cells have it
        """Take over what the program said."""
        self.id = id
        self.told = told
        self.facts: Mapping[str, Any] = told.get("facts", {})
        """What a suite of one's own is told (docs/your-own-suite.md)."""
        file = self.facts.get("environment-file")
        self.environment: Mapping[str, Any] = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
        """The cluster's ``environment.json``."""
        self.site = bool(self.environment.get("site"))
        """Whether it is a cluster that exists, and no cell: there tests are an ordinary user, over SSH alone."""

    def version(self, axis: str) -> str | None:
        """Return the version of slurm, enroot or pyxis in it; None where it has none."""
        own: str | None = self.environment[axis]
        return own and self.environment["observed"].get(axis, own)

    def fact(self, name: str) -> str:
        """Return a fact; where it has none, the test is skipped."""
        if not self.facts[name] and self.site:
            self.needs("an engine here that builds for it" if self.facts["registry"] else "a registry")
        if not self.facts[name]:
            pytest.skip(f"{self.id} has no {name}: it is plain Slurm, without containers; name another --cell")
        return str(self.facts[name])

    @staticmethod
    def needs(what: str) -> NoReturn:
        """End a test that needs what a cluster that exists does not give: by these words, results count it apart."""
        pytest.skip(f"not asked: needs {what}")


class Tests:
    """The tests that use a cluster."""

    def __init__(self, cells: list[HeldCell]) -> None:
        """Take the cells, or a list that has them when tests are collected."""
        self.cells = cells
        self.selected: dict[str, list[str]] = {}
        self.deselected: dict[str, int] = {}
        self._collected: Counter[str] = Counter()
        self._wrong = ""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that uses a cluster on each cell; one that has a marker of ours uses it by other means."""
        if FIXTURE not in metafunc.fixturenames and any(_marked(metafunc.definition)):
            metafunc.fixturenames.append(FIXTURE)
        if FIXTURE in metafunc.fixturenames and len(self.cells) > 1:
            metafunc.parametrize(FIXTURE, [cell.id for cell in self.cells], indirect=True, scope="session")

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Have the reports of a test say which cell it is for."""
        # Only parametrized tests have a callspec.
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if FIXTURE in {*params, *getattr(item, "fixturenames", ())}:
            item.user_properties.append((KEY, params.get(FIXTURE, self.cells[0].id)))
        # Before -k and -m take tests away: what is missing at the end was deselected.
        self._collected[cell_of(item)] += 1

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Skip what is not for its cell.

        :raises pytest.UsageError: for a marker that means nothing.
        """
        for item in items:
            cell = next((cell for cell in self.cells if cell.facts and cell.id == cell_of(item)), None)
            if cell is None:
                continue
            for name, arguments in _marked(item):
                try:
                    reason = _unfit(cell, name, arguments)
                except ValueError as error:
                    where = f"{item.location[0]}:{(item.location[1] or 0) + 1}"
                    said = f"@pytest.mark.{name}({', '.join(map(repr, arguments))})"
                    self._wrong = f"{where}: {said}: {error}"
                    if hasattr(item.config, "workeroutput"):  # the main process says it, and no worker runs anything
                        items.clear()
                        return
                    raise pytest.UsageError(self._wrong) from error
                if reason:
                    item.add_marker(pytest.mark.skip(reason=f"{cell.id}: {reason}"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> None:
        """Have the reports of a test say it, too, that asked for a fixture as it ran (``request.getfixturevalue``)."""
        request = getattr(item, "_request", None)
        if request and not cell_of(item) and FIXTURE in request.fixturenames:
            item.user_properties.append((KEY, self.cells[0].id))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn what is left to run and what -k, -m and others took away; a worker tells it the main process."""
        for item in session.items:
            self.selected.setdefault(cell_of(item), []).append(item.nodeid)
        for cell, number in self._collected.items():
            self.deselected[cell] = max(0, number - len(self.selected.get(cell, ())))
        if hasattr(session.config, "workeroutput"):
            # pytest-xdist sends Python's own types only, and no objects.
            session.config.workeroutput[KEY] = [self.selected, self.deselected, self._wrong]


def cell_of(item: Any) -> str:  # noqa: ANN401 - an item or a report
    """Return the id of the cell that a test or its report is of; empty where it uses no cluster."""
    return next((str(value) for name, value in item.user_properties if name == KEY), "")


def _marked(item: pytest.Item) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the markers of ours; those without arguments are somebody else's of the same name."""
    for marker in item.iter_markers():
        if marker.name in {*AXES, "behaviour"} and marker.args:
            yield marker.name, marker.args


def _unfit(cell: HeldCell, name: str, arguments: Sequence[Any]) -> str:
    """Return why a test with this marker is not for a cell; empty if it is.

    :raises ValueError: for arguments that mean nothing.
    """
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - pytest has it; InvalidSpecifier is a ValueError

    if not all(isinstance(name, str) for name in arguments):
        raise ValueError("its arguments have to be text")
    if name == "behaviour":
        known: Mapping[str, str] = cell.told["behaviours"]
        if unknown := [name for name in arguments if name not in known]:
            from difflib import get_close_matches  # noqa: PLC0415

            near = "".join(f"; did you mean {name!r}?" for name in get_close_matches(unknown[0], known, n=1))
            raise ValueError(f"there is no behaviour {unknown[0]!r}{near}")
        return "; ".join(f"{name} is {known[name]}" for name in arguments if known[name])
    wanted, version = SpecifierSet(",".join(arguments)), cell.version(name)
    if version is None:
        return f"it has no {AXES[name]}, and the test is for {wanted}"
    # By default a prerelease does not fit, and a candidate's version may be one.
    fits = wanted.contains(version, prereleases=True)
    return "" if fits else f"its {AXES[name]} is {version}, and the test is for {wanted}"
