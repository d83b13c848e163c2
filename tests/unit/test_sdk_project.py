"""Projects for tests of the SDK: an image's module holds the tasks that a test defines in its own body."""

from pathlib import Path

import pytest

from tests.support.markers import TEST_MARKER
from tests.support.sdk_project import Project, tasks_of

SOURCE = """
import pytest
from slurm import task

def helper():
    pass

@pytest.mark.integration_test
def test_one(local_registry):
    @task(time="00:01:00", packaging_registry=f"{local_registry}/test/")
    def double(value: int) -> int:
        import math
        return math.floor(value * 2)

    assert double

@task(time="00:01:00")
def at_the_top() -> str:
    return "top"
"""


def test_tasks_stand_at_the_top_of_a_module_that_needs_nothing_else() -> None:
    names: dict[str, object] = {}
    exec(tasks_of(SOURCE), names)  # noqa: S102 - what the image's interpreter does with it
    assert names.keys() - {"__builtins__"} == {"double", "at_the_top"}
    double, top = names["double"], names["at_the_top"]
    assert callable(double)
    assert callable(top)
    assert (double(21), top()) == (42, "top")


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tasks have the name"):
        tasks_of(SOURCE + SOURCE.replace("test_one", "test_two"))


def test_a_dockerfile_holds_the_tasks_the_marker_and_the_tests_own_lines(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "some.whl").touch()
    project = Project(
        folder=tmp_path,
        job_image="job:1",
        module="tests.x.test_y",
        source=SOURCE,
        marker="mine",
        platform="linux/arm64",
    )
    lines = (
        (tmp_path / project.dockerfile("RUN true", wheels=tmp_path / "house")).read_text(encoding="utf-8").split("\n")
    )
    assert lines[0] == "FROM job:1"
    assert lines[-3:] == [f"RUN echo mine > {TEST_MARKER}", "RUN true", ""]
    assert (tmp_path / "tasks/tests/x/test_y.py").read_text(encoding="utf-8") == tasks_of(SOURCE)
    assert (tmp_path / "wheels/some.whl").is_file()
