"""What is said of a container that the engine did not start."""

import pytest

from ci.environment.service import OPEN_FILES, Service, start_error
from ci.errors import EngineError, PortTakenError, RefusedError

SERVICE = Service(role="registry", image="image", name="name", hostname="registry", ports={5000: 5000})


@pytest.mark.parametrize(
    "words",
    [
        "driver failed programming external connectivity: Bind for 127.0.0.1:5000 failed: port is already allocated",
        "Error starting userland proxy: listen tcp4 127.0.0.1:5000: bind: address already in use",
        "failed to bind host port for 127.0.0.1:5000:172.17.0.2:5000/tcp: address already in use",
    ],
)
def test_a_port_that_is_taken_is_told_in_the_words_of_every_engine(words: str) -> None:
    error = start_error(RefusedError("the engine refused", why=words), SERVICE)
    assert isinstance(error, PortTakenError)
    assert "ss -tlnp 'sport = :5000'" in error.next_step


def test_an_engine_with_too_low_a_limit_of_open_files_is_told_how_to_raise_it() -> None:
    """As Docker with runc says it."""
    why = "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted: unknown"
    error = start_error(RefusedError("the engine refused", why=why), SERVICE)
    assert isinstance(error, EngineError)
    assert (str(OPEN_FILES) in error.what, "LimitNOFILE" in error.next_step) == (True, True)


def test_another_refusal_is_not_taken_for_a_port() -> None:
    refused = RefusedError("the engine refused: starting the registry", why="no such image")
    assert start_error(refused, SERVICE) is refused
