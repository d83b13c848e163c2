"""An environment that nobody started, as its file tells of it: a test gives what it is about, the rest is made up."""

from typing import Any

from ci.environment_file import EnvironmentFile, Login

_RUNTIMES = ("embedded", "legacy")


def login(**given: Any) -> Login:  # noqa: ANN401 - its fields
    """Return a login that leads nowhere."""
    every = {"host": "h", "port": 1, "user": "tester", "password": "", "private_key": "/k", "known_hosts": "/h"}
    return Login(**{**every, "home": "/home", **given})


def environment(cell: str, **given: Any) -> EnvironmentFile:  # noqa: ANN401 - its fields
    """Return the file of an environment of a cell with one node."""
    every: dict[str, Any] = {
        "run": "run",
        "suite": "suite",
        "runtime": next((it for it in _RUNTIMES if f"-{it}-" in cell), "nvidia"),
        "arch": "amd64",
        "slurm": "22.05",
        "nodes": ("n1",),
        "containers": ("c1",),
        "login": login(),
        "second_user": "tester2",
        "engine_client": "/bin/docker",
        "results": "/results",
    }
    return EnvironmentFile(cell=cell, **{**every, **given})
