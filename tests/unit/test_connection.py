"""What is asked of Docker and of Podman, where the two want to be asked in different words."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from docker.errors import APIError, NotFound
import pytest
from requests.exceptions import ConnectionError as Unreachable
from requests.exceptions import ReadTimeout

from ci.engine.build_client import BuildClient
from ci.engine.connection import Engine
from ci.engine.finding import EngineKind, FoundEngine
from ci.engine.labels import LABEL_SCRATCH
from ci.engine.removing import OwnObjects, remove_container, remove_object, remove_volume
from ci.errors import LaunchError
from ci.terminal import console
from ci.terminal.processes import Completed

REFERENCE = "localhost:5000/test/it:1"


class Images:
    """The images of an engine, by their names; it remembers what it was asked for."""

    def __init__(self, *images: dict[str, list[str] | None], digests_go_with_tags: bool = False) -> None:
        """Have these images.

        :param digests_go_with_tags: as in Podman, where a digest that outlives its tag can't be.
        """
        self.images = list(images)
        self.digests_go_with_tags = digests_go_with_tags
        self.removed: list[str] = []
        self.asked: dict[str, str] = {}
        self.answers: list[dict[str, Any]] = [{"status": "Pushed"}]

    def listed(self) -> list[dict[str, list[str] | None]]:
        """Return them as the API lists them."""
        return [{key: list(names) if names else None for key, names in image.items()} for image in self.images]

    def remove(self, name: str) -> None:
        """Take a name away."""
        self.removed.append(name)
        for image in self.images:
            for names in image.values():
                if names and name in names:
                    names.remove(name)
            if self.digests_go_with_tags:
                repository = name.rpartition(":")[0]
                image["RepoDigests"] = [it for it in image["RepoDigests"] or () if not it.startswith(repository)]

    def push(self, repository: str, *, tag: str, stream: bool, decode: bool) -> list[dict[str, Any]]:
        """Say how a push went."""
        assert stream
        assert decode
        self.asked = {"repository": repository, "tag": tag}
        return self.answers

    def import_image(self, **asked: Any) -> str:  # noqa: ANN401 - as docker-py
        """Remember what was asked."""
        self.asked = asked
        return "sha256:1"


def client_of(images: Images) -> Any:  # noqa: ANN401 - docker-py's client is untyped
    return SimpleNamespace(api=SimpleNamespace(images=images.listed, import_image=images.import_image), images=images)


def engine(images: Images, kind: EngineKind) -> Engine:
    path = Path("/usr/bin") / kind
    return Engine(
        api=client_of(images),
        found=FoundEngine(url="unix:///e.sock", version="4.3.1", kind=kind),
        build_client=BuildClient(path=path, kind=kind, version="4.3.1", environment={"ONE": "1"}),
    )


@pytest.mark.parametrize(
    ("name", "podmans"),
    [
        ("pyxis-matrix/base:1", "localhost/pyxis-matrix/base:1"),
        ("python:3.11-slim", "python:3.11-slim"),
        ("localhost:5000/test/it:1", "localhost:5000/test/it:1"),
        ("registry.example/it:1", "registry.example/it:1"),
    ],
)
def test_podman_has_the_images_of_this_project_under_localhost(name: str, podmans: str) -> None:
    assert engine(Images(), "podman").local_name(name) == podmans
    assert engine(Images(), "docker").local_name(name) == name


@pytest.mark.parametrize(("kind", "name"), [("docker", "pyxis-matrix/it:1"), ("podman", "localhost/pyxis-matrix/it:1")])
def test_a_root_is_imported_under_its_whole_name(kind: EngineKind, name: str) -> None:
    """Podman ignores a tag that is given by itself."""
    images = Images()
    assert engine(images, kind).import_root(Path("/root.tar"), "pyxis-matrix/it:1", ["LABEL a=1"]) == "sha256:1"
    assert images.asked == {"src": "/root.tar", "repository": name, "changes": ["LABEL a=1"]}


def test_a_command_is_run_in_the_image_of_the_engines_own_name() -> None:
    asked: list[str] = []

    def run(image: str, *_words: object, **_more: object) -> bytes:
        asked.append(image)
        return b"said"

    for kind in ("docker", "podman"):
        asking = engine(Images(), kind)
        cast("Any", asking.api).containers = SimpleNamespace(run=run)
        assert asking.run_image("pyxis-matrix/node:1", "true", {}) == "said"
    assert asked == ["pyxis-matrix/node:1", "localhost/pyxis-matrix/node:1"]


# -- pushing --------------------------------------------------------------------------------------------------------


def test_docker_pushes_through_its_api() -> None:
    images = Images()
    images.answers = [{"status": "Preparing"}, {"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:1"}}]
    assert engine(images, "docker").push(REFERENCE) == "sha256:1"
    assert images.asked == {"repository": "localhost:5000/test/it", "tag": "1"}
    images.answers = [{"status": "Preparing"}, {"error": "denied"}]
    with pytest.raises(LaunchError, match="denied"):
        engine(images, "docker").push(REFERENCE)


def test_podman_pushes_with_its_client_over_plain_http_in_dockers_format(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[list[str], dict[str, str]]] = []
    code = 0

    def call(command: list[str], *, env: dict[str, str], **_more: object) -> Completed:
        called.append((command, env))
        return Completed(command=tuple(command), exit_code=code, output="denied")

    monkeypatch.setattr(console, "call", call)
    images = Images()
    assert engine(images, "podman").push(REFERENCE) is None
    ((command, env),) = called
    assert command == ["/usr/bin/podman", "push", "--tls-verify=false", "--format=v2s2", REFERENCE]
    assert env["ONE"] == "1"
    assert images.asked == {}
    code = 125
    with pytest.raises(LaunchError, match="denied"):
        engine(images, "podman").push(REFERENCE)


# -- taking names away ----------------------------------------------------------------------------------------------


def pushed() -> dict[str, list[str] | None]:
    """Return an image that was pushed from a name of its own."""
    return {
        "RepoTags": ["pyxis-matrix/job:1", REFERENCE],
        "RepoDigests": ["pyxis-matrix/job@sha256:1", "localhost:5000/test/it@sha256:1"],
    }


def test_docker_loses_tags_and_digests_of_what_was_pushed() -> None:
    moved: dict[str, list[str] | None] = {"RepoTags": None, "RepoDigests": ["localhost:5000/test/it@sha256:2"]}
    names = [REFERENCE, "localhost:5000/test/it@sha256:1", "localhost:5000/test/it@sha256:2"]
    images = Images(pushed(), moved)
    assert OwnObjects(api=client_of(images)).untag("localhost:5000/") == names
    assert images.removed == names


def test_podman_is_not_asked_to_remove_a_digest_which_is_the_whole_image() -> None:
    images = Images(pushed(), digests_go_with_tags=True)
    assert OwnObjects(api=client_of(images)).untag("localhost:5000/") == [REFERENCE]
    assert images.removed == [REFERENCE]


def test_names_that_somebody_else_gave_stay() -> None:
    images = Images({"RepoTags": ["registry.example/mine:1", "registry.example/test/it:1"], "RepoDigests": None})
    owned = OwnObjects(api=client_of(images))
    assert owned.untag("registry.example/", ["registry.example/mine:1"]) == ["registry.example/test/it:1"]
    assert owned.names_below("registry.example/") == ["registry.example/mine:1"]


@pytest.mark.parametrize("running", [True, False])
def test_a_container_is_killed_before_it_is_removed(*, running: bool) -> None:
    """Podman would wait ten seconds for it to end by itself."""
    done: list[str] = []

    def kill() -> None:
        if not running:
            raise APIError("409", explanation="it is not running")
        done.append("killed")

    container = SimpleNamespace(
        name="n1", labels={}, kill=kill, remove=lambda force, v: done.append(f"removed {force} {v}")
    )
    remove_container(cast("Any", container))
    assert done == [*(["killed"] if running else []), "removed True True"]


@pytest.mark.parametrize("problem", [None, APIError("409", explanation="it is paused"), ReadTimeout("Read timed out.")])
def test_the_files_of_a_node_are_removed_before_it_is_killed(problem: Exception | None) -> None:
    done: list[str] = []

    def run(command: list[str], *, user: str) -> None:
        assert user == "root"
        done.append(f"emptied {command[-1]}")
        if problem:
            raise problem

    container = SimpleNamespace(
        name="n1",
        labels={LABEL_SCRATCH: "/data"},
        exec_run=run,
        kill=lambda: done.append("killed"),
        remove=lambda **_: done.append("removed"),
    )
    remove_container(cast("Any", container))
    assert done == ["emptied /data", "killed", "removed"]


class Volumes:
    """An engine that takes long to remove a volume's files: it answers as told, one request after the other."""

    def __init__(self, *answers: Exception | None) -> None:
        """Have these answers ready."""
        self.answers = list(answers)

    def remove_volume(self, name: str, *, force: bool) -> None:
        """Give the next answer."""
        assert name == "data"
        assert force
        answer = self.answers.pop(0)
        if answer:
            raise answer

    def remove(self) -> None:
        """Have the volume removed by the code under test."""
        remove_volume(cast("Any", SimpleNamespace(api=self)), "data")


@pytest.mark.parametrize("last", [None, NotFound("no such volume")], ids=["removed", "gone"])
def test_a_volume_whose_removal_outlasts_a_request_is_asked_for_again(
    last: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = Volumes(ReadTimeout("Read timed out."), last)
    volumes.remove()
    assert volumes.answers == []
    assert "could not be removed" not in capsys.readouterr().err


def test_a_volume_that_an_engine_never_has_removed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Volumes(*[ReadTimeout("Read timed out.")] * 5).remove()
    assert "data could not be removed: Read timed out." in capsys.readouterr().err


def test_only_a_volume_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def remove() -> None:
        asked.append("net")
        raise ReadTimeout("Read timed out.")

    remove_object("net", remove)
    assert asked == ["net"]
    assert "net could not be removed: Read timed out." in capsys.readouterr().err


def test_an_engine_that_cannot_be_asked_is_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    volumes = Volumes(Unreachable("refused"), None)
    volumes.remove()
    assert volumes.answers == [None]
    assert "data could not be removed: refused" in capsys.readouterr().err


def answering(exit_code: int | None) -> Any:  # noqa: ANN401 - docker-py's containers are untyped
    result = SimpleNamespace(exit_code=exit_code, output=b"said")
    return SimpleNamespace(name="n1", exec_run=lambda _command, **_given: result)


@pytest.mark.parametrize("status", [0, 3])
def test_a_commands_status_is_the_engines(status: int) -> None:
    answer = engine(Images(), "docker").run_inside(answering(status), ["true"])
    assert (answer.status, answer.output) == (status, "said")


def test_no_exit_status_is_not_success() -> None:
    with pytest.raises(LaunchError, match="did not report how a command ended") as caught:
        engine(Images(), "docker").run_inside(answering(None), ["true"])
    assert caught.value.where == "true in n1"
