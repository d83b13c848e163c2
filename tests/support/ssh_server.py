"""A real SSH server on loopback, for tests of what logs in by its user's own means."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import threading

import asyncssh

from ci.environment.ssh import KeyPair


@contextmanager
def serving(keys: dict[str, KeyPair], answer: Callable[[asyncssh.SSHServerProcess[str]], object]) -> Iterator[int]:
    """Serve on a free port, which is yielded, with the key ``host`` for whoever has the key ``user``.

    :param answer: answers a command.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.import_private_key(keys["host"].private)],
            authorized_client_keys=asyncssh.import_authorized_keys(keys["user"].public.decode()),
            process_factory=answer,
        )

    async def end() -> None:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.2)  # the transports of refused logins close behind it

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    try:
        yield server.get_port()
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
