"""Who asks servers, what is asked again, and how what fails is told."""

from collections.abc import Iterator
from pathlib import Path
import socket
import ssl
from types import SimpleNamespace

import pytest
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
import requests.exceptions
import urllib3
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError

from ci import web

POOL = urllib3.HTTPSConnectionPool("github.com")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def answered(status: int, **headers: str) -> urllib3.HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib3.HTTPResponse(status=status, headers=named, reason="Said")


def asked_again(*answers: urllib3.HTTPResponse, told: list[str] | None = None) -> web.Patience:
    """Go through answers as urllib3 does; return the policy after the last one."""
    adapter = web.Session(tell=(told if told is not None else []).append).get_adapter("https://github.com/")
    assert isinstance(adapter, HTTPAdapter)
    policy = adapter.max_retries
    for answer in answers:
        assert policy.is_retry("GET", answer.status, has_retry_after="retry-after" in answer.headers)
        policy = policy.increment("GET", "/file", response=answer, _pool=POOL)
        policy.sleep(answer)
    assert isinstance(policy, web.Patience)
    return policy


# -- what is asked again --------------------------------------------------------------------------------------------


def test_a_busy_server_is_asked_again_when_it_says_and_each_wait_is_told(waits: list[float]) -> None:
    told: list[str] = []
    asked_again(answered(429, retry_after="7"), answered(503), told=told)
    assert waits == [7, 5]
    assert told == ["HTTP 429 Said; waiting 7 s", "HTTP 503 Said; waiting 5 s"]


def test_github_says_when_in_its_own_way(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    asked_again(answered(403, x_ratelimit_remaining="0", x_ratelimit_reset="1030"))
    assert waits == [30]


@pytest.mark.parametrize(
    "answers",
    [
        [answered(429, retry_after="3600")],
        [answered(429, retry_after="100"), answered(429, retry_after="100")],
        [answered(403)],
        [answered(403, x_ratelimit_remaining="0", x_ratelimit_reset="99999999999")],
        [answered(429, retry_after="0")] * 3,
    ],
    ids=["too long", "too long together", "forbidden", "used up", "too often"],
)
def test_patience_ends(waits: list[float], answers: list[urllib3.HTTPResponse]) -> None:
    with pytest.raises(MaxRetryError):
        asked_again(*answers)
    assert sum(waits) <= web.LONGEST_WAIT


# -- what is sent, and where ----------------------------------------------------------------------------------------


@pytest.fixture
def led() -> Response:
    found = Response()
    found.status_code, found.url = 302, "https://github.com/file"
    found.headers["Location"] = "http://mirror.example/file?signature=secret"
    return found


def test_a_redirect_to_plain_http_is_followed_by_a_client_of_loopback_only(led: Response) -> None:
    with pytest.raises(web.WebError, match=r"^redirects to http://mirror\.example/file, but only https is allowed$"):
        web.Session().get_redirect_target(led)
    assert web.Session(https_only=False).get_redirect_target(led) == led.headers["Location"]
    led.headers["Location"] = "/elsewhere"
    assert web.Session().get_redirect_target(led) == "/elsewhere"


def test_no_password_of_a_netrc_is_sent_and_no_token_to_where_a_server_leads(
    led: Response, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine github.com login me password secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(file))
    session = web.Session()
    request = session.prepare_request(requests.Request("GET", "https://github.com/file"))
    assert "Authorization" not in request.headers
    led.request = request
    following = PreparedRequest()
    following.prepare("GET", "https://github.com/other", headers={"Authorization": "Bearer mine"})
    session.rebuild_auth(following, led)
    assert "Authorization" not in following.headers


# -- what fails -----------------------------------------------------------------------------------------------------


def wrapped(inner: Exception) -> requests.exceptions.ConnectionError:
    """Return an error as requests raises it, with urllib3's in it."""
    return requests.exceptions.ConnectionError(MaxRetryError(POOL, "/file", inner))


def caused(problem: Exception, by: Exception) -> Exception:
    problem.__cause__ = by
    return problem


def problems() -> Iterator[tuple[Exception, str]]:
    connection = urllib3.connection.HTTPSConnection("github.com")
    unknown = socket.gaierror(-2, "Name or service not known")
    yield (
        wrapped(caused(NameResolutionError("github.com", connection, unknown), unknown)),
        "the name does not resolve (Name or service not known)",
    )
    refused = ConnectionRefusedError(111, "Connection refused")
    yield wrapped(caused(NewConnectionError(connection, "it failed"), refused)), "Connection refused"
    yield wrapped(urllib3.exceptions.ConnectTimeoutError("timed out")), "no answer in time"
    strange = ssl.SSLCertVerificationError(1, "verify failed")
    strange.verify_message = "unable to get local issuer certificate"
    yield (
        wrapped(urllib3.exceptions.SSLError(strange)),
        "its certificate is not trusted (unable to get local issuer certificate); SSL_CERT_FILE can name a CA bundle",
    )
    yield (
        wrapped(urllib3.exceptions.ProxyError("no proxy", OSError("Tunnel connection failed: 403"))),
        "Tunnel connection failed: 403",
    )


@pytest.mark.parametrize(("problem", "said"), list(problems()))
def test_what_fails_is_told_in_a_few_words_however_deep_it_is_wrapped(problem: Exception, said: str) -> None:
    with pytest.raises(web.WebError) as caught, web.translated():
        raise problem
    assert str(caught.value) == said


def test_plain_http_is_not_even_asked() -> None:
    with pytest.raises(web.WebError, match="only https is allowed"), web.opened("http://github.com/", timeout=1):
        pytest.fail("it was asked")


# -- whom to trust --------------------------------------------------------------------------------------------------


def test_a_ca_bundle_that_is_not_there_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_SYSTEM_CA_BUNDLE", tmp_path / "system.crt")
    assert web.ca_bundle({"SSL_CERT_FILE": str(tmp_path / "gone.pem")}) is None
    (tmp_path / "system.crt").write_text("certificates", encoding="utf-8")
    assert web.ca_bundle({"SSL_CERT_FILE": str(tmp_path / "gone.pem")}) == tmp_path / "system.crt"


@pytest.mark.parametrize(
    ("bundle", "usual", "wanted"),
    [
        ("/etc/ssl/certs/ca-certificates.crt", "/pki/cert.pem", "/etc/ssl/certs/ca-certificates.crt"),
        (None, "/pki/cert.pem", "/pki/cert.pem"),
        (None, None, "/pki/certs"),
    ],
    ids=["a bundle", "another system's file", "another system's folder"],
)
def test_servers_are_trusted_by_what_is_named_and_else_by_what_the_system_trusts(
    monkeypatch: pytest.MonkeyPatch, bundle: str | None, usual: str | None, wanted: str
) -> None:
    monkeypatch.setattr(web, "ca_bundle", lambda: bundle)
    paths = SimpleNamespace(cafile=usual, capath="/pki/certs")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert web.trusted() == wanted


def test_where_the_system_trusts_nobody_the_certificates_of_requests_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ca_bundle", lambda: None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None, capath=None))
    assert web.trusted() is True
