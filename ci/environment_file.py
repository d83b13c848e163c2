"""The description of a started environment for tests and tools: a JSON file, named by an environment variable."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
import json
import os
from pathlib import Path
from typing import Any

from packaging.version import Version

from ci import paths
from ci.errors import LaunchError, suite_session, typed

VARIABLE = "PYXIS_MATRIX_ENVIRONMENT"
SCHEMA = 1
# Older ones refuse HOST:PORT/IMAGE:TAG ("Invalid image reference"); see `reference-with-slash` in the suite registry.
_ENROOT_TAKES_SLASHES = Version("4.0.0")


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to enter the login node."""

    host: str
    port: int
    user: str
    password: str = ""
    """Empty if there is no login by password."""
    private_key: str = ""
    known_hosts: str = ""
    """A file with the node's host key. The key is known in advance, so that none is accepted unseen."""
    home: str
    """A folder for use as HOME by tools that read only ``~/.ssh``; it exists as long as the environment."""
    own: bool = False
    """Whether to log in with this user's own configuration, keys, agent and known hosts.

    Then ``host`` may be an alias of ``~/.ssh/config``, and neither port nor user need be known (0, empty).
    """
    prelude: str = ""
    """Shell text before every command: the variables that a site's jobs need."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentFile:
    """A started environment, as tests see it."""

    run: str
    cell: str
    session: str = ""
    """The id in the labels of all its objects. Whatever is added later gets it, too, and is then removed with them."""
    owner: str = ""
    """Who started it, on which machine; empty if unknown."""
    suite: str
    runtime: str
    arch: str
    slurm: str
    enroot: str | None = None
    pyxis: str | None = None
    nodes: tuple[str, ...]
    """Host names; the first is controller and login node."""
    containers: tuple[str, ...]
    """Container names, in the order of ``nodes``."""
    login: Login
    second_user: str
    registry: str | None = None
    """``localhost:PORT``: the same address on the host and on every node. None for the legacy cluster."""
    registry_name: str | None = None
    """``NAME:PORT``: its second name, given with ``--registry-name``."""
    emulated: bool = False
    """Whether an emulator runs the nodes' code; then no container starts."""
    accounting: bool = False
    """Whether sacct works: slurmdbd records jobs."""
    gpus: int = 0
    """Number of GPUs that Slurm gives out on each node (``--gres=gpu:N``)."""
    job_image: str | None = None
    """Local name of the image that test images are built from: Debian, ``python``, the subject."""
    job_reference: str | None = None
    """The same image in the registry, as engines write it: ``localhost:PORT/NAME:TAG``."""
    job_python: str = ""
    """Major and minor version of the Python in the job image."""
    subject: str = ""
    """What the subject was installed from: a requirement, or the path of a checkout."""
    subject_python: str = ""
    """The interpreter on the nodes that can import the subject."""
    engine_client: str
    """Path of a client that can build for this engine."""
    engine_environment: Mapping[str, str] = field(default_factory=dict)
    observed: Mapping[str, str] = field(default_factory=dict)
    """The versions found inside the first node."""
    matrix_cell: str = ""
    """The id of the cell in the matrix, without candidates and profile; empty for a cell that has neither."""
    candidates: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By axis: what the cell has in place of a release (``version``, ``release``, ``row``, ``commit``)."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """By axis: the version whose answers are expected in place of the cell's own."""
    profile: str = ""
    """The name of the profile that is laid over the nodes; empty for none."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The profile's settings; keys in lower case."""
    artefacts: Mapping[str, str] = field(default_factory=dict)
    """The upstream releases that the nodes were made from: path below the upstream's address, and the file here."""
    results: str
    """Folder for files that the suite wants to keep."""
    site: str = ""
    """For an existing cluster, its name: no container runs here, and nobody is root. Empty for a cell."""
    os: str = ""
    """Of a site: the operating system of its nodes, as in cell ids (``debian12``)."""
    folder: str = ""
    """Of a site: the only folder that tests write to; all nodes see it."""
    enroot_data: str = ""
    """Of a site: where enroot keeps this user's containers."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Of a site: partition and account of its jobs, for tools with settings of their own for these."""
    beyond_the_sdk: str = ""
    """Of a site: further options that its jobs need, and for which slurm-sdk has no setting."""
    logs_in_elsewhere: bool = False
    """Of a site: whether the login node is none of ``nodes``. Then enroot has to be run by a job."""

    @property
    def work(self) -> str:
        """The folder on the cluster in which tests create their own folders."""
        return self.folder or f"/home/{self.login.user}"

    @property
    def container_image(self) -> str | None:
        """The job image as this cell's ``--container-image`` takes it: enroot before 4 needs ``#`` after the port."""
        if self.job_reference and self.enroot and Version(self.enroot) < _ENROOT_TAKES_SLASHES:
            return self.job_reference.replace("/", "#", 1)
        return self.job_reference


def save(path: Path, environment: EnvironmentFile) -> None:
    """Write the file, readable by its owner alone: it may hold a password."""
    # Replaced at once, because tests of another process may be reading it.
    with paths.replaced(path, "the environment's file", LaunchError, mode=0o600) as file:
        file.write(json.dumps({"schema": SCHEMA, **asdict(environment)}, indent=2).encode() + b"\n")


def load(path: str | Path) -> EnvironmentFile:
    """Read the file; ``LaunchError`` if it is missing or was written by another version."""
    try:
        return _parsed(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LaunchError(
            "the environment's file is missing or invalid",
            where=str(path),
            why=str(error),
            next_step=f"start an environment with `{typed('up CELL')}`, or unset {VARIABLE}",
        ) from error


def _parsed(data: dict[str, Any]) -> EnvironmentFile:
    if data.pop("schema", None) != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    data["login"] = Login(**data["login"])
    # JSON has lists only.
    data["nodes"], data["containers"] = tuple(data["nodes"]), tuple(data["containers"])
    return EnvironmentFile(**data)


def current() -> EnvironmentFile:
    """Return the environment that ``PYXIS_MATRIX_ENVIRONMENT`` names."""
    path = os.environ.get(VARIABLE)
    if not path:
        suites = f"{suite_session('legacy_integration')}, {suite_session('pyxis_basic')}"
        raise LaunchError(
            "there is no environment to run against",
            why=f"{VARIABLE} is not set",
            next_step=f"{suites}, or {typed('run CELL -- COMMAND')}",
        )
    return load(path)
