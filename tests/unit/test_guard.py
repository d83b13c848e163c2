"""The guard of the unit tests refuses what it should: programs, addresses, sockets."""

import os
from pathlib import Path
import re
import socket
import subprocess
import urllib.request

import pytest

from ci.matrix import loading
from tests.support.rows import PROJECT, SAMPLE


def start_a_program() -> None:
    subprocess.run(["true"], check=True)


def open_an_address() -> None:
    urllib.request.urlopen("http://127.0.0.1:9/", timeout=1)


def open_a_socket() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


def reach_docker() -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/var/run/docker.sock")


def run_a_shell() -> None:
    os.system("true")  # noqa: S605 (it is what must be refused)


@pytest.mark.parametrize("act", [start_a_program, open_an_address, open_a_socket, reach_docker, run_a_shell])
def test_the_guard_refuses(act: object) -> None:
    assert callable(act)
    with pytest.raises(pytest.fail.Exception, match="a unit test may not use"):
        act()


def test_a_double_may_stand_where_the_guard_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 7))
    assert subprocess.run(["true"], check=False).returncode == 7


def test_no_module_reads_the_repositorys_matrix_while_it_is_collected() -> None:
    """Within a test `load()` reads the fixed sample; outside of one nothing has put it in its place yet."""
    at_import = re.compile(r"^(?!def |class | |#).*\bload\(\)", re.MULTILINE)
    assert at_import.search("ROWS = loading.load()\n")
    files = Path(__file__).parent.glob("test_*.py")
    assert [file.name for file in files if at_import.search(file.read_text(encoding="utf-8"))] == []


def test_what_reads_the_matrix_within_a_test_of_logic_gets_the_sample() -> None:
    assert loading.load().path == SAMPLE
    assert SAMPLE != PROJECT
