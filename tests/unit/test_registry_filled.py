"""A registry that starts with the job image in it: kept once, under a name made of what is in it."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from docker.errors import APIError
import pytest

from ci.engine.labels import LABEL, LABEL_CELL, LABEL_NAME, LABEL_OWNER, LABEL_ROLE, LABEL_RUN, LABEL_SESSION
from ci.environment import registry

if TYPE_CHECKING:
    from ci.engine.connection import Engine

NAME = "pyxis-matrix/registry-filled:0123456789ab"
ENGINE = cast("Engine", SimpleNamespace(local_name=lambda name: name))


def running(commit: Any) -> registry.Registry:  # noqa: ANN401 - docker-py's method
    return registry.Registry(container=cast("Any", SimpleNamespace(commit=commit)), port=5000)


def test_its_name_changes_with_registry_and_job_image() -> None:
    names = {registry.filled_name(first, second) for first in ("a", "b") for second in ("c", "d")}
    assert len(names) == 4
    assert registry.filled_name("a", "c") in names
    assert all(name.startswith(f"{LABEL}/registry-filled:") for name in names)


def test_what_is_kept_is_no_object_of_the_run() -> None:
    asked: list[Any] = []
    registry.keep_filled(ENGINE, running(lambda *words, **more: asked.append((words, more))), NAME)
    ((words, more),) = asked
    assert words == ("pyxis-matrix/registry-filled", "0123456789ab")
    of_the_run = (LABEL_RUN, LABEL_CELL, LABEL_SESSION, LABEL_OWNER, LABEL_ROLE, LABEL_NAME)
    assert more["changes"] == [f'LABEL {name}=""' for name in of_the_run]


def test_where_it_can_not_be_kept_the_environment_still_starts(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_words: object, **_more: object) -> None:
        raise APIError("500", explanation="no space left on device")

    registry.keep_filled(ENGINE, running(refuse), NAME)
    assert "was not kept" in capsys.readouterr().err
