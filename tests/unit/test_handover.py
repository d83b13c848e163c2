"""Where a suite's client is told that its settings are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ci.session.handover import client_settings, facts
from tests.support.environments import environment, login

DOCKERS, PODMANS = {"DOCKER_BUILDKIT": "1"}, {"CONTAINER_HOST": "unix:///p.sock"}


# Docker's plugins may be there without that file.
@pytest.mark.parametrize(
    ("client", "there", "handed_on"),
    [(DOCKERS, [], True), (DOCKERS, ["config.json"], True), (PODMANS, [], False), (PODMANS, ["config.json"], True)],
)
def test_podman_is_promised_no_settings_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: dict[str, str], there: list[str], *, handed_on: bool
) -> None:
    usual = tmp_path / ".docker"
    usual.mkdir()
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in there:
        (usual / name).write_text("{}", encoding="utf-8")
    environ = {"PATH": "/usr/bin", "HOME": "/elsewhere"}
    assert client_settings(client, environ) == ({"DOCKER_CONFIG": str(usual)} if handed_on else {})
    assert client_settings(client, {**environ, "DOCKER_CONFIG": "/mine"}) == {"DOCKER_CONFIG": "/mine"}


def test_a_cluster_that_exists_has_no_container_and_the_usual_port() -> None:
    file = environment("x@blue", site="blue", containers=(), login=login(port=0))
    told = facts(cast("Any", SimpleNamespace(file=file, path="/e.json")))
    assert (told["container"], told["port"]) == (None, "22")
