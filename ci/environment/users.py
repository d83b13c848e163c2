"""The users of the nodes: those of the image, and a job user with another name, created when a node starts."""

from collections.abc import Mapping
from pathlib import Path

from ci.engine.connection import InsideFile
from ci.environment.service import Place
from ci.errors import SelectionError
from ci.options import Options

USERS = ("tester", "tester2")
"""The users of every node's image: the job user, and a second one."""

SLURM_USER = "slurm"
"""The user of Slurm's daemons. Suites for images that have no other user need it as their job user."""

_HOOK = "/usr/local/lib/node-entrypoint.d/05-job-user.sh"
_PASSWORD = "/etc/pyxis-matrix/job-user"  # noqa: S105 - the name of a file


def job_user(options: Options) -> str:
    """Return the name of the user that submits jobs."""
    return options.user or USERS[0]


def logins(options: Options) -> tuple[str, ...]:
    """Return the users who may log in over SSH."""
    return tuple(dict.fromkeys((*USERS, job_user(options))))


def variables(options: Options) -> dict[str, str]:
    """Return the variables for the script that creates the job user on a node."""
    return {"JOB_USER": options.user} if _is_new(options) else {}


def files(options: Options, password: str) -> Mapping[str, InsideFile]:
    """Return the files with which a node creates the job user of ``--user``; none for a user of the image."""
    if not _is_new(options):
        return {}
    files = {
        _HOOK: InsideFile(content=Path(__file__).with_name("job-user.sh").read_bytes()),
        # sshd adds up the names of all AllowUsers lines.
        "/etc/ssh/sshd_config.d/06-job-user.conf": InsideFile(content=f"AllowUsers {options.user}\n".encode()),
    }
    if password:
        files[_PASSWORD] = InsideFile(content=f"{options.user}:{password}\n".encode(), mode=0o600)
    return files


def check(place: Place, image: str, options: Options) -> None:
    """Refuse a name for the job user that another user of the nodes' image has.

    :raises SelectionError: for such a name.
    """
    if not _is_new(options) or options.user == SLURM_USER:
        return
    script = f"getent passwd {options.user} || test $? -eq 2"  # getent ends with 2 if there is no such user
    if found := place.engine.run_image(image, script, place.labels("question")).strip():
        raise SelectionError(
            f"the user name {options.user} exists already on the nodes",
            where="--user",
            why=found,
            next_step=f"choose another name, {USERS[0]} (the default), or {SLURM_USER} (SlurmUser)",
        )


def _is_new(options: Options) -> bool:
    return options.user not in {"", USERS[0]}
