"""What repeated measurements come to."""

from pathlib import Path
import platform
from types import SimpleNamespace
from unittest import mock

import pytest

from tests.support.figures import Spread, busy, machine, spread, table


def test_the_middle_and_the_spread() -> None:
    values = [float(number) for number in range(1, 101)]
    assert spread(values[::-1]) == Spread(count=100, least=1.0, median=50.5, p95=95.0, most=100.0)


@pytest.mark.parametrize(("values", "p95"), [([2.0], 2.0), ([1.0, 9.0], 9.0), ([float(it) for it in range(20)], 18.0)])
def test_of_few_the_95_percent_is_still_one_that_was_measured(values: list[float], p95: float) -> None:
    assert spread(values).p95 == p95


def test_of_nothing_there_is_no_middle() -> None:
    with pytest.raises(IndexError):
        spread([])


@pytest.mark.parametrize(("load", "cores", "said"), [(2.0, 2, ""), (2.1, 2, "load 2.1, 2 cores"), (0.0, 1, "")])
def test_a_machine_with_more_to_do_than_cores_is_busy(
    monkeypatch: pytest.MonkeyPatch, load: float, cores: int, said: str
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert busy() == said


@pytest.mark.parametrize(
    ("cpuinfo", "named"),
    [("processor\t: 0\nmodel name\t: Good CPU @ 2 GHz\n", "(Good CPU @ 2 GHz)"), ("", f"({platform.machine()})")],
)
def test_a_machine_is_one_line(tmp_path: Path, cpuinfo: str, named: str) -> None:
    told = {"MemTotal": 25 * 1024**3, "OperatingSystem": "Debian", "ServerVersion": "20.10", "Driver": "overlay2"}
    engine = mock.Mock(api=mock.Mock(info=lambda: told), found=SimpleNamespace(kind="docker"))
    (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    line = machine(engine, tmp_path / "cpuinfo")
    assert named in line
    assert line.endswith("docker 20.10 (overlay2)")
    assert "25 GiB of memory, Debian, kernel" in line


def test_a_table_keeps_its_columns() -> None:
    assert table(["a", "b"], [["x|y", "2"]]) == "| a | b |\n| --- | --- |\n| x¦y | 2 |\n"
