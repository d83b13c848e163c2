"""The file that hands an environment to tests and tools."""

from dataclasses import replace
import json
from pathlib import Path
import stat

import pytest

from ci import environment_file
from ci.environment_file import current, load, save
from ci.errors import LaunchError
from tests.support.environments import environment, login

LOGIN = login(host="127.0.0.1", port=4711)
FILE = environment(
    "slurm22.05-legacy-debian12-amd64",
    nodes=("n1", "n2"),
    containers=("c1", "c2"),
    login=LOGIN,
    engine_environment={"DOCKER_BUILDKIT": "1"},
    observed={"slurm": "22.05.8"},
)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "run" / "environment.json"
    save(path, FILE)
    assert load(path) == load(str(path)) == FILE


def test_it_is_its_owners_alone_also_when_written_again(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    for port in (1, 2):
        save(path, replace(FILE, login=replace(LOGIN, port=port)))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path).login.port == 2


def test_it_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "environment.json"

    def killed(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(path, FILE)
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="half"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param('{"schema": 0}', id="another schema"),
        pytest.param('{"schema": 1, "login": {"unknown": 1}}', id="an unknown login"),
    ],
)
def test_a_file_of_another_kind_is_one_error_with_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "environment.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LaunchError) as caught:
        load(path)
    assert caught.value.where == str(path)
    assert "nox -s ci -- up CELL" in caught.value.next_step


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    save(path, FILE)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"more": 1}), encoding="utf-8")
    with pytest.raises(LaunchError, match="more"):
        load(path)


def test_a_file_that_is_gone_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        load(tmp_path / "gone.json")
    assert "No such file" in caught.value.why


def test_the_current_one_is_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "environment.json", FILE)
    monkeypatch.setenv(environment_file.VARIABLE, str(tmp_path / "environment.json"))
    assert current() == FILE


@pytest.mark.parametrize("value", [None, ""])
def test_without_one_the_commands_that_start_one_are_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(environment_file.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(environment_file.VARIABLE, value)
    with pytest.raises(LaunchError) as caught:
        current()
    assert environment_file.VARIABLE in caught.value.why
    assert "nox -s pyxis_basic" in caught.value.next_step
