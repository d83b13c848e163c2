"""The legacy container, fixtures and tests are what they were: nobody changes them in passing.

A change on purpose is recorded with ``python tests/unit/test_legacy_untouched.py --update``, run from anywhere.
"""

from collections.abc import Iterator, Mapping
import hashlib
from pathlib import Path
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).parent / "data" / "legacy.sha256"
UPDATE = "python tests/unit/test_legacy_untouched.py --update"


def legacy_files(root: Path) -> Iterator[Path]:
    """Yield what belongs to legacy: its container, its fixtures, and its tests with their helpers."""
    yield from (path for path in (root / "containers" / "slurm-integration").rglob("*") if path.is_file())
    tests = root / "tests" / "integration"
    yield tests / "conftest.py"
    yield from tests.glob("legacy_*.py")
    yield from tests.glob("test_legacy_*.py")


def checksums(root: Path) -> dict[str, str]:
    """Return the present checksums, by path relative to ``root``."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in legacy_files(root)
        if path.is_file()
    }


def parse(text: str) -> dict[str, str]:
    """Read lines as ``sha256sum`` writes them."""
    rows = [line.split("  ", maxsplit=1) for line in text.splitlines()]
    return {name: checksum for checksum, name in rows}


def render(present: Mapping[str, str]) -> str:
    """Write what ``parse`` reads, and ``sha256sum --check`` too."""
    return "".join(f"{present[name]}  {name}\n" for name in sorted(present))


def differences(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Name each file that was added, removed or changed."""
    found = [f"added: {name}" for name in sorted(present.keys() - recorded.keys())]
    found += [f"removed: {name}" for name in sorted(recorded.keys() - present.keys())]
    found += [f"changed: {name}" for name in sorted(recorded) if present.get(name, recorded[name]) != recorded[name]]
    return found


def test_legacy_is_untouched() -> None:
    found = differences(parse(RECORD.read_text(encoding="utf-8")), checksums(ROOT))
    if found:
        lines = "\n  ".join(found)
        pytest.fail(f"legacy is not what was recorded:\n  {lines}\nif that is on purpose: {UPDATE}", pytrace=False)


def test_record_covers_each_part() -> None:
    recorded = parse(RECORD.read_text(encoding="utf-8"))
    assert "tests/integration/conftest.py" in recorded
    assert "tests/integration/legacy_tasks.py" in recorded
    assert "containers/slurm-integration/Containerfile" in recorded
    assert sum(name.startswith("tests/integration/test_legacy_") for name in recorded) >= 2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a small project with one file of each kind, and one that is no part of legacy."""
    for name in (
        "containers/slurm-integration/deep/slurm.conf",
        "tests/integration/conftest.py",
        "tests/integration/legacy_tasks.py",
        "tests/integration/test_legacy_jobs.py",
        "tests/integration/test_container_packaging_basic.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return tmp_path


def test_record_round_trips(tree: Path) -> None:
    present = checksums(tree)
    assert len(present) == 4
    assert parse(render(present)) == present


def test_each_kind_of_edit_is_named(tree: Path) -> None:
    before = checksums(tree)
    (tree / "containers/slurm-integration/deep/slurm.conf").write_text("edited", encoding="utf-8")
    (tree / "tests/integration/test_legacy_jobs.py").unlink()
    (tree / "tests/integration/test_legacy_more.py").write_text("new", encoding="utf-8")
    (tree / "tests/integration/test_container_packaging_basic.py").write_text("not legacy", encoding="utf-8")
    assert differences(before, checksums(tree)) == [
        "added: tests/integration/test_legacy_more.py",
        "removed: tests/integration/test_legacy_jobs.py",
        "changed: containers/slurm-integration/deep/slurm.conf",
    ]
    assert differences(before, before) == []


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(f"usage: {UPDATE}")
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(render(checksums(ROOT)), encoding="utf-8")
