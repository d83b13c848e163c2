"""Groups that answer questions: every pair of values in few cells, what is supported on a day, the newest versions."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
import re

import pytest

from ci.cli.main import main
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.loading import Matrix, load
from ci.matrix.pairs import cover, pairs_of

Loader = Callable[..., Matrix]


def archive(version: str, until: str) -> str:
    return f'[[slurm]]\nversion = "{version}"\nfrom = "archive"\nsupported-until = {until}'


def pairs(cells: tuple[Cell, ...]) -> set[frozenset[tuple[str, str]]]:
    """Count pairs in another way than the code does."""
    found = set()
    for cell in cells:
        values = [(axis, value) for axis, value in cell.axes.items() if value]
        found |= {frozenset(pair) for pair in combinations(values, 2)}
    return found


def test_every_pair_of_values_meets_and_few_cells_are_needed() -> None:
    matrix = load()
    chosen = matrix.cells("pairs", Arch.AMD64)
    every = tuple(cell for cell in matrix.all_cells(Arch.AMD64) if cell.enroot and cell.arch is Arch.AMD64)
    assert pairs(chosen) == pairs(every)
    widest = len(matrix.slurm) * len(matrix.enroot)  # no set can be smaller
    assert widest <= len(chosen) < len(every) / 10


def test_the_set_is_the_same_every_time() -> None:
    cells = load().cells("full", Arch.AMD64)
    assert list(cover(cells)) == list(cover(tuple(cells)))


def test_no_cell_of_the_set_is_in_for_nothing() -> None:
    cells = load().cells("full", Arch.AMD64)
    chosen = cover(cells)
    new = [pair for found in chosen.values() for pair in found]
    assert all(chosen.values())
    assert len(new) == len(set(new)) == len(frozenset().union(*map(pairs_of, cells)))


def test_what_is_excluded_is_neither_in_nor_asked_for(load_matrix: Loader) -> None:
    matrix = load_matrix(
        extra='[[exclude]]\nenroot = "3.4.1"\npyxis = "0.24.0"\nreason = "x"',
        groups='[groups.smoke]\ncells = [{ runtime = "nvidia", arch = "host" }]\ncover = "pairs"',
    )
    found = {(str(cell.enroot), str(cell.pyxis)) for cell in matrix.cells("smoke", Arch.AMD64)}
    assert found == {("3.4.1", "0.19.0"), ("4.1.2", "0.19.0"), ("4.1.2", "0.24.0")}


@pytest.mark.parametrize(("days", "supported"), [(0, True), (400, True), (-1, False)])
def test_a_release_is_supported_to_the_end_of_its_last_day(load_matrix: Loader, days: int, *, supported: bool) -> None:
    until = datetime.now(UTC).date() + timedelta(days=days)
    matrix = load_matrix(
        slurm=archive("25.11.7", str(until)) + "\n" + archive("26.05.3", "2999-01-01"),
        groups='[groups.smoke]\ncells = [{ slurm = "supported" }]',
    )
    found = {cell.slurm.version for cell in matrix.cells("smoke", Arch.AMD64)}
    assert found == ({"25.11.7", "26.05.3"} if supported else {"26.05.3"})


def test_a_matrix_with_nothing_supported_any_more_can_still_be_read(load_matrix: Loader) -> None:
    groups = '[groups.smoke]\ncells = "all"\n[groups.now]\ncells = [{ slurm = "supported" }]'
    matrix = load_matrix(slurm=archive("25.11.7", "2020-01-01"), groups=groups)
    assert not [cell for cell in matrix.all_cells(Arch.AMD64) if "now" in cell.groups]


def test_the_newest_two(load_matrix: Loader) -> None:
    rows = "\n".join(f'[[pyxis]]\nversion = "0.{minor}.0"' for minor in (9, 24, 23))
    matrix = load_matrix(pyxis=rows, groups='[groups.smoke]\ncells = [{ pyxis = "newest-2" }]')
    assert {str(cell.pyxis) for cell in matrix.cells("smoke", Arch.AMD64)} == {"0.23.0", "0.24.0"}


def test_supported_has_what_schedmd_supports_with_the_newest_of_the_rest() -> None:
    matrix = load()
    cells = matrix.cells("supported", Arch.AMD64)
    today = datetime.now(UTC).date()
    assert {cell.enroot for cell in cells} == {*sorted(row.version for row in matrix.enroot)[-2:]}
    assert {cell.pyxis for cell in cells} == {*sorted(row.version for row in matrix.pyxis)[-2:]}
    assert all(cell.slurm.supported_until and cell.slurm.supported_until >= today for cell in cells)
    assert {cell.runtime for cell in cells} == {Runtime.NVIDIA}


def test_why_each_cell_is_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cells", "--group", "reference", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1] for line in lines if "\t" in line] == [
        "selected by groups.reference.cells[0]",
        "selected by groups.reference.cells[1]",
    ]
    assert main(["cells", "--group", "pairs", "--explain"]) == 0
    shown = capsys.readouterr()
    whole = shown.out + shown.err
    assert "first with " in whole
    counted = re.search(r"(\d+) of (\d+) pairs of values of two axes meet", whole.replace("\n", " "))
    assert counted
    assert counted[1] == counted[2]
