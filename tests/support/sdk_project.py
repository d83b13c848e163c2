"""A small project of somebody who uses the SDK: a folder with a Dockerfile, and the tasks of the test that uses it."""

import ast
from dataclasses import dataclass
from pathlib import Path
import shutil

from tests.support.markers import TEST_MARKER

DOCKERFILE = "test_container.Dockerfile"


@dataclass(frozen=True, kw_only=True)
class Project:
    """The folder is the working directory of its test, and so what the SDK takes as build context."""

    folder: Path
    job_image: str
    """What its images are made from."""
    module: str
    """Name of the module whose tasks its images hold."""
    source: str
    """Text of that module."""
    marker: str
    """What ``TEST_MARKER`` holds in its images and nowhere else."""
    platform: str
    """What images are built for (``linux/amd64``)."""

    def dockerfile(self, *lines: str, wheels: Path | None = None) -> str:
        """Write the Dockerfile, with these lines at its end; ``wheels`` become ``/wheels``. Return its path."""
        module = self.folder / "tasks" / Path(*self.module.split(".")).with_suffix(".py")
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(tasks_of(self.source), encoding="utf-8")
        (self.folder / "wheels").mkdir()
        for wheel in wheels.glob("*.whl") if wheels else ():
            shutil.copy(wheel, self.folder / "wheels")
        text = [
            f"FROM {self.job_image}",
            "COPY tasks /opt/tasks",
            "ENV PYTHONPATH=/opt/tasks",
            "COPY wheels /wheels",
            f"RUN echo {self.marker} > {TEST_MARKER}",
            *lines,
        ]
        (self.folder / DOCKERFILE).write_text("\n".join(text) + "\n", encoding="utf-8")
        return DOCKERFILE


def tasks_of(source: str) -> str:
    """Return a module that has a test module's tasks, and nothing else, at its top level.

    The SDK sends no code: a task travels as the names of its module and its function, and the module is imported in the
    image. A task that a test defines in its own body is in the reach of no import, so images are given such a module.
    A task has to bring its imports along, and can't use what the test has around it.
    """
    found: dict[str, ast.FunctionDef] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and any(_is_task(it) for it in node.decorator_list):
            if node.name in found:
                raise ValueError(f"two tasks have the name {node.name}; the SDK would run the last one for both")
            node.decorator_list = []
            found[node.name] = node
    return ast.unparse(ast.Module(body=list(found.values()), type_ignores=[])) + "\n"


def _is_task(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "task"
