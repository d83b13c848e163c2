"""What a report of several machines comes to, and what is seen of it."""

from pathlib import Path

import pytest

from ci.cli.main import main
from ci.report.forms import forms
from ci.report.model import Merged, State


def states(of: Merged) -> list[State]:
    return [suite.state for _, suite in of.compat.results()]


def texts(of: Merged) -> dict[str, str]:
    """Return the report in all its forms."""
    return {name: "".join(form.pieces(of)).replace("\\", "") for name, form in forms().items()}


def printed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return how `report` ends in a terminal, and what it prints."""
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(folder))
    code = main(["report", *(str(it) for it in sorted(folder.glob("machine-*")))])
    said = capsys.readouterr()
    return code, said.out + said.err
