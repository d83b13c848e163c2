"""Who else of this machine can reach an environment's registry, stand in for it, or write to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
import functools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import socket
import tarfile
import threading
from typing import Any

import pytest

from ci.engine.connection import Engine
from ci.environment import registry
from ci.environment.registry_client import V2S2, digest_of
from ci.errors import PortTakenError, RegistryChangedError
from tests.component.conftest import Serve
from tests.support.registry_client import RegistryClient

CLIENT_REPOSITORY, TAG = "trust/it", "1"


@pytest.fixture
def both_loopbacks() -> None:
    """Skip a test on a machine that has one loopback only."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no ::1 ({error}); with IPv6 on its loopback it runs")


def listen(address: str, port: int) -> None:
    """Listen as another user would."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.create_server((address, port), family=family).close()


@pytest.mark.usefixtures("both_loopbacks")
@pytest.mark.parametrize("chosen", [False, True], ids=["a free port", "a chosen port"])
def test_nobody_else_can_listen_where_localhost_leads(serve: Serve, *, chosen: bool) -> None:
    port = 0
    if chosen:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    served = serve(port)
    assert served.port == port or not chosen
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(OSError, match="Address already in use"):
            listen(address, served.port)
    assert [RegistryClient(f"{it}:{served.port}").ping() for it in ("127.0.0.1", "[::1]")] == [200, 200]


@pytest.mark.usefixtures("both_loopbacks")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_somebody_has_on_one_loopback_is_not_the_registrys(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as theirs:
        port = theirs.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} is already in use") as caught:
            serve(port)
        assert address in caught.value.where
        # One that was free is somebody's when the engine comes to it.
        found = registry._free_port  # noqa: SLF001
        looks: list[int] = []

        def late(engine: Engine) -> int:
            looks.append(1)
            return port if len(looks) == 1 else found(engine)

        monkeypatch.setattr(registry, "_free_port", late)
        assert serve().port != port
        assert len(looks) > 1


@pytest.fixture
def answering(stack: ExitStack) -> Iterator[Callable[[str, int, int], int]]:
    """Return a function that has a server answer all with one status; it returns the port."""

    class Handler(BaseHTTPRequestHandler):
        def __init__(self, status: int, *given: object) -> None:
            self.status = status
            super().__init__(*given)  # type: ignore[arg-type]

        def do_GET(self) -> None:
            self.send_response(self.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_given: object) -> None:
            """Say nothing."""

    def start(address: str, port: int, status: int) -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = type("Server", (ThreadingHTTPServer,), {"address_family": family})(
            (address, port), functools.partial(Handler, status)
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        return int(server.server_address[1])

    yield start  # noqa: PT022 - the stack ends the servers


@pytest.mark.usefixtures("both_loopbacks")
def test_our_own_client_asks_127_0_0_1_wherever_localhost_leads(
    answering: Callable[[str, int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = answering("127.0.0.1", 0, 200)
    answering("::1", port, 418)
    look_up = socket.getaddrinfo

    def six_first(host: str, *more: Any) -> object:  # noqa: ANN401 - as the library has it
        return look_up("::1" if host == "localhost" else host, *more)

    monkeypatch.setattr(socket, "getaddrinfo", six_first)
    assert RegistryClient(f"[::1]:{port}").ping() == 418
    assert RegistryClient(f"localhost:{port}").ping() == 200


# -- what was pushed is what is there ----------------------------------------------------------------------------------


def manifest(client: RegistryClient, repository: str, marker: bytes) -> bytes:
    """Upload a made-up image's parts and return its manifest."""
    config = client.upload_blob(repository, b'{"architecture": "amd64", "os": "linux", "marker": "%s"}' % marker)
    text = (
        f'{{"schemaVersion": 2, "mediaType": "{V2S2}", "layers": [], "config": {{"mediaType": '
        f'"application/vnd.docker.container.image.v1+json", "size": 2, "digest": "{config}"}}}}'
    )
    return text.encode()


def overwrite(client: RegistryClient, repository: str, tag: str) -> None:
    """Push another image under a name, as any user of the machine can."""
    client.put_manifest(repository, tag, manifest(client, repository, b"theirs"), V2S2)


def remove(client: RegistryClient, repository: str, tag: str) -> None:
    """Remove an image, as any user of the machine can."""
    body = client.manifest(repository, tag, V2S2).body
    client._expect({202}, "DELETE", f"{repository}/manifests/{digest_of(body)}")  # noqa: SLF001


def nothing(_client: RegistryClient, _repository: str, _tag: str) -> None:
    """Do nothing."""


def test_an_image_that_somebody_replaced_or_removed_is_told_from_the_one_that_was_pushed(serve: Serve) -> None:
    served = serve()
    client = RegistryClient(f"127.0.0.1:{served.port}")
    for act in (nothing, overwrite, remove):
        content = manifest(client, CLIENT_REPOSITORY, b"ours")
        client.put_manifest(CLIENT_REPOSITORY, TAG, content, V2S2)
        pushed = registry.Pushed(
            reference=f"{served.address}/{CLIENT_REPOSITORY}:{TAG}", digest=digest_of(content), media_type=V2S2
        )
        registry.check_unchanged(pushed)
        act(client, CLIENT_REPOSITORY, TAG)
        if act is nothing:
            continue
        with pytest.raises(RegistryChangedError, match="is not the one that was pushed") as caught:
            registry.check_unchanged(pushed)
        assert pushed.reference in caught.value.where
        assert ("is there now" if act is overwrite else "can't be read any more") in caught.value.why


@pytest.fixture
def tiny(engine: Engine, run: str) -> Iterator[str]:
    """Return the name of an image that the engine has, of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    name = f"pyxis-matrix-trust-{run}"
    engine.api.api.import_image_from_data(buffer.getvalue(), repository=name, tag="1")
    yield f"{name}:1"
    engine.untag_exactly(f"{name}:1")


@pytest.mark.parametrize("act", [nothing, overwrite])
def test_an_image_that_somebody_replaces_while_it_is_pushed_is_told_too(
    *,
    engine: Engine,
    serve: Serve,
    tiny: str,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[RegistryClient, str, str], None],
) -> None:
    served = serve()
    stack.callback(engine.untag, f"{served.address}/")
    push = Engine.push

    def and_then(self: Engine, reference: str) -> str | None:
        digest = push(self, reference)
        act(RegistryClient(f"127.0.0.1:{served.port}"), CLIENT_REPOSITORY, reference.rpartition(":")[2])
        return digest

    monkeypatch.setattr(Engine, "push", and_then)
    if act is nothing:
        pushed = registry.push(engine, served, tag=tiny, repository=CLIENT_REPOSITORY)
        registry.check_unchanged(pushed)
        return
    with pytest.raises(RegistryChangedError, match="is not the one that was pushed"):
        registry.push(engine, served, tag=tiny, repository=CLIENT_REPOSITORY)
