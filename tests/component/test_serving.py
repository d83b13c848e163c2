"""`ci.report.serving` and `report --serve`, over real sockets: what is shown and refused, how it follows."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from email.message import Message
import http.client
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from ci.errors import PortTakenError
from ci.record.outcomes import Outcome
from ci.report import serving, writing
from ci.report.merging import ReportRequest
from ci.report.serving import Served
from tests.support import results as made
from tests.support.results import BEGIN, cell, result

ROOT = Path(__file__).resolve().parents[2]
REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
RESULT = result(REAL)
FOLDER = f"{RESULT.run}/{REAL.id}/pyxis_basic"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder of results beside which something lies that is nobody's business."""
    (tmp_path / "secret.txt").write_text("secret")
    made.write(tmp_path / "results", RESULT)
    (tmp_path / "results/notes.txt").write_text("secret")
    folder = tmp_path / "results" / FOLDER
    (folder / "logs/out").symlink_to(tmp_path)
    (folder / "logs/passwd").symlink_to("/etc/passwd")
    (folder / "logs/<b>.html").write_text("<script>alert(1)</script>")
    return tmp_path / "results"


@pytest.fixture
def served(results: Path) -> Served:
    """Return what a server shows."""
    found = serving.Served(folder=results / "report", top=results)
    found.show(writing.merge(ReportRequest(roots=(results,), base=results / "report")), "s1")
    return found


@pytest.fixture
def address(served: Served) -> Iterator[str]:
    """Return the address of a server."""
    with serving.serving(served) as address:
        yield address


def ask(address: str, path: str = "", **headers: str) -> tuple[int, str, Message]:
    """Send a request with the path exactly as given; return status, text and headers."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", path or parts.path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_it_shows_the_page_its_state_and_the_files_it_links_to(address: str) -> None:
    status, text, headers = ask(address)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert REAL.id in text
    home = urlsplit(address).path
    assert ask(address, home.replace("report.html", "state"))[:2] == (200, "s1")
    log = home.replace("report/report.html", f"{FOLDER}/logs/slurmctld.log")
    assert ask(address, log)[:2] == (200, "slurmctld started\n")
    listing = ask(address, log.replace("slurmctld.log", ""))[1]
    assert "slurmctld.log" in listing
    assert "passwd" not in listing, "links are not shown"
    assert "&lt;b&gt;.html" in listing
    assert ask(address, log.replace("/slurmctld.log", ""))[0] == 301


def test_a_folder_is_listed_whatever_is_in_it(address: str, results: Path) -> None:
    """A file of this name would be shown in place of the list, and followed where it is a link."""
    (results / FOLDER / "logs/index.html").symlink_to("/etc/passwd")
    status, text, _ = ask(address, urlsplit(address).path.replace("report/report.html", f"{FOLDER}/logs/"))
    assert status == 200
    assert "slurmctld.log" in text
    assert "root:" not in text


def test_a_log_whose_name_is_no_text_is_listed_and_shown(address: str, results: Path) -> None:
    (results / FOLDER / "logs" / os.fsdecode(b"\xff.log")).write_text("of a job")
    logs = urlsplit(address).path.replace("report/report.html", f"{FOLDER}/logs/")
    assert 'href="./%FF.log"' in ask(address, logs)[1]
    assert ask(address, f"{logs}%FF.log")[:2] == (200, "of a job")
    assert ask(address, "/%FF/report/report.html")[0] == 404


def test_a_browser_that_leaves_is_no_error_on_the_terminal(
    address: str, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.page = bytes(64 << 20)
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as browser:
        browser.sendall(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        assert browser.recv(1)
    until(lambda: not any("process_request" in thread.name for thread in threading.enumerate()))
    assert capsys.readouterr().err == ""


def test_what_lies_in_results_is_text_to_the_browser_whatever_it_is_called(address: str) -> None:
    path = urlsplit(address).path.replace("report/report.html", f"{FOLDER}/logs/%3Cb%3E.html")
    status, _, headers = ask(address, path)
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/SECRET/secret.txt",
        "/SECRET/notes.txt",
        "/SECRET/",
        "/SECRET/report/",
        "/SECRET/report/compat.json",
        f"/SECRET/{FOLDER}/../../../notes.txt",
        f"/SECRET/{FOLDER}/%2e%2e/%2e%2e/%2e%2e/notes.txt",
        f"/SECRET/{FOLDER}/logs/passwd",
        f"/SECRET/{FOLDER}/logs/out/secret.txt",
        f"/SECRET/{FOLDER}/logs/nope",
        f"/SECRET/{FOLDER}/%00",
        "/SECRET//etc/passwd",
        "/report/report.html",
        f"/{FOLDER}/result.json",
        "/",
        "//",
        "/wrong/report/report.html",
    ],
)
def test_nothing_else_is_shown(address: str, served: Served, path: str) -> None:
    status, text, _ = ask(address, path.replace("SECRET", served.secret))
    assert (status, text) == (404, "not found\n")


def test_pages_of_other_sites_can_not_read_along(address: str) -> None:
    assert ask(address, Host="evil.example")[0] == 404
    assert ask(address, Host=f"localhost:{urlsplit(address).port}")[0] == 200


def test_it_listens_on_loopback_only(address: str) -> None:
    port = urlsplit(address).port or 0
    with suppress(OSError), socket.create_connection((socket.gethostbyname(socket.gethostname()), port), timeout=1):
        assert socket.gethostbyname(socket.gethostname()).startswith("127.")


def test_a_port_that_is_taken_is_an_error_with_a_way_out(address: str, served: Served) -> None:
    with (
        pytest.raises(PortTakenError, match="failed to serve on port") as caught,
        serving.serving(served, urlsplit(address).port or 0),
    ):
        pass
    assert "leave out --port" in str(caught.value)


def test_the_command_follows_a_run_and_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    command = [sys.executable, "-m", "ci", "report", str(results), "--serve", "--output", str(tmp_path / "report")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            line = next(line for line in server.stderr if "serving " in line)
            address = line.partition("serving ")[2].strip()
            assert "There are no results yet." in ask(address)[1]
            state = urlsplit(address).path.replace("report.html", "state")
            first = ask(address, state)[1]
            made.write(results, RESULT, result(REAL, "registry", Outcome.FAILED, started=BEGIN + timedelta(hours=1)))
            until(lambda: ask(address, state)[1] != first)
            until(lambda: "registry" in ask(address)[1])
            assert (tmp_path / "report/compat.json").is_file()
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


def until(condition: Callable[[], bool], limit: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.2)
