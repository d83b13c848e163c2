"""The users of the nodes: those that the image has, and a job user of another name, made when a node starts."""

from collections.abc import Mapping
from pathlib import Path

from ci.engine.connection import InsideFile
from ci.environment.service import Place
from ci.errors import SelectionError
from ci.options import Options

USERS = ("tester", "tester2")
"""Of every node's image: the job user, and a second one."""

SLURM_USER = "slurm"
"""Runs Slurm's daemons. Suites of containers that have no other user ask for it as their job user."""

_HOOK = "/usr/local/lib/node-entrypoint.d/05-job-user.sh"
_PASSWORD = "/etc/pyxis-matrix/job-user"  # noqa: S105 - the name of a file


def job_user(options: Options) -> str:
    """Return the name of the user that submits jobs."""
    return options.user or USERS[0]


def logins(options: Options) -> tuple[str, ...]:
    """Return the users who may enter over SSH."""
    return tuple(dict.fromkeys((*USERS, job_user(options))))


def variables(options: Options) -> dict[str, str]:
    """Return what the hook of a node finds in its environment."""
    return {"JOB_USER": options.user} if _made(options) else {}


def files(options: Options, password: str) -> Mapping[str, InsideFile]:
    """Return the files with which a node makes the job user that was asked for; none for one that the image has."""
    if not _made(options):
        return {}
    files = {
        _HOOK: InsideFile(content=Path(__file__).with_name("job-user.sh").read_bytes()),
        # sshd adds the names of all such lines together.
        "/etc/ssh/sshd_config.d/06-job-user.conf": InsideFile(content=f"AllowUsers {options.user}\n".encode()),
    }
    if password:
        files[_PASSWORD] = InsideFile(content=f"{options.user}:{password}\n".encode(), mode=0o600)
    return files


def check(place: Place, image: str, options: Options) -> None:
    """Refuse a job user whose name is taken in the nodes' image.

    :raises SelectionError: for such a name.
    """
    if not _made(options) or options.user == SLURM_USER:
        return
    script = f"getent passwd {options.user} || test $? -eq 2"  # it ends with 2 where there is no such user
    if found := place.engine.run_in(image, script, place.labels("question")).strip():
        raise SelectionError(
            f"the user name {options.user} exists already on the nodes",
            where="--user",
            why=found,
            next_step=f"choose another name, {USERS[0]} (the default), or {SLURM_USER} (SlurmUser)",
        )


def _made(options: Options) -> bool:
    return options.user not in {"", USERS[0]}
