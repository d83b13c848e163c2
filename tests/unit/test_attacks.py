"""The list of attacks, and its table in CONTRIBUTING.md."""

from pathlib import Path

from ci.terminal.processes import Completed
from tests.attacks.__main__ import ATTACKS, table
from tests.attacks.attack import Attack, Seen
from tests.attacks.ground import Ground, believed


def test_the_table_in_contributing_is_that_of_the_program() -> None:
    assert table(ATTACKS) in Path("CONTRIBUTING.md").read_text(encoding="utf-8"), "python -m tests.attacks --list"


def test_each_attack_has_a_name_of_its_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def test_what_was_seen_stands_in_the_table() -> None:
    said = table(ATTACKS[:2], [Seen(held=True, text="an error"), Seen(held=False, text="real cells | 1 passed")])
    rows = said.splitlines()[2:]
    assert rows[0].endswith("| yes | an error |")
    assert rows[1].endswith("| **no** | real cells ¦ 1 passed |")


def test_a_report_is_believed_where_it_ends_well_and_counts_a_cell_as_passed() -> None:
    def ended(exit_code: int, output: str) -> bool:
        return believed(Completed(command=(), exit_code=exit_code, output=output))

    assert ended(0, "real cells: none run; embedded: 1 passed (not a compatibility verdict)")
    assert not ended(40, "real cells: 1 passed")
    assert not ended(0, "real cells: 1 failed")


def test_an_attack_that_ended_for_another_reason_was_not_answered(tmp_path: Path) -> None:
    def ended(said: str) -> bool:
        ground = Ground(folder=tmp_path, cell="c", run="r")

        def act(ground: Ground) -> Seen:
            ground.said.append(said)
            return Seen(held=True, text="exit code 1")

        return Attack(name="a", tries="", honest="", says="differs from pins", act=act, cell=False).made(ground).held

    assert ended("error: the file differs from pins.toml")
    assert not ended("error: there is no engine")
