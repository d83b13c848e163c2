"""What names a cluster that exists: ``USER@HOST[:PORT]``, or a file that also says what can't be read there. Pure."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
import re
import shlex
from typing import Self

from packaging.version import InvalidVersion, Version

from ci.environment_file import Login
from ci.errors import SelectionError, session
from ci.matrix.profile_files import NAME
from ci.matrix.tables import TomlTable, read_table
from ci.site import registry

FOLDER = "pyxis-matrix"
"""In the user's home there: the folders of runs."""
# "ann@login:2222", "ann@[fe80::1]:22", or an alias of ~/.ssh/config.
_ADDRESS = re.compile(
    r"(?:(?P<user>[^@\s:]+)@)?(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[1-5]?\d{1,4}|6[0-5]\d{3}))?"
)
_REGISTRY_FORM = "the host has a dot or a port; a folder, which may be left out, has small letters"
_VERSIONS = ("slurm", "enroot", "pyxis")
# By key: what sbatch and srun have it from, with their own prefix.
_JOBS = {"partition": "PARTITION", "account": "ACCOUNT", "qos": "QOS", "reservation": "RESERVATION"}
_LIMIT = "TIMELIMIT"
# First variables that say which cluster and who pays are passed over, then the names of all others are printed.
_FORGET = (
    r"unset SSH_CLIENT SSH2_CLIENT LANG LANGUAGE $(env | sed -n '/^\(SLURM\|SBATCH\|SALLOC\)_"
    r"\(CONF\|CLUSTERS\|JWT\|SACK\|ACCOUNT\|PARTITION\|QOS\|RESERVATION\|WCKEY\|CONSTRAINT\)/d; "
    r"s/^\(\(SLURM\|SBATCH\|SALLOC\|SRUN\|SQUEUE\|SINFO\|SACCT\|SCANCEL\|SCONTROL\|PYXIS\|LC\)_[A-Z0-9_]*\)=.*/\1/p')"
)
"""A user's own language, forms of Slurm's lists, and what jobs of theirs get: tests read the usual ones, and say what
theirs get.

Which cluster it is, who pays and where jobs may run stays the user's to say. By ``SSH_CLIENT`` a job's bash
takes itself for that of a login, and runs ``~/.bashrc``, which may print.
"""


@dataclass(frozen=True, kw_only=True)
class SiteTarget:
    """A cluster that exists, and how it may be used. The fields are the keys of its file."""

    host: str
    """A name, an address, or an alias of ``~/.ssh/config``."""
    user: str = ""
    port: int = 0
    """0: that of ``~/.ssh/config``, else 22."""
    name: str = ""
    """What results call it."""
    slurm: str = ""
    enroot: str = ""
    pyxis: str = ""
    """What the cluster itself does not tell."""
    partition: str = ""
    account: str = ""
    qos: str = ""
    reservation: str = ""
    nodelist: str = ""
    """The node that jobs run on."""
    time_limit: str = ""
    registry: str = ""
    """HOST[:PORT][/FOLDER], the same from here and from its nodes; it is written to."""
    path: Path | None = None
    """The file that says it."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read an address or a file.

        :raises SelectionError: for what is neither. :raises MatrixError: with all faults of a file.
        """
        path = Path(text).expanduser()
        if path.is_file():
            return cls._read(path)
        found = _ADDRESS.fullmatch(text)
        # The path of a file that is not there would pass for a host's name.
        if not found or text.endswith(".toml"):
            raise SelectionError(
                f"{text!r} is neither an address nor a file",
                why="a cluster is named as USER@HOST, USER@HOST:PORT, or by the path of a TOML file",
                next_step="docs/your-cluster.md has the keys of the file",
            )
        user, host, port = found["user"] or "", found["host"].strip("[]"), int(found["port"] or 0)
        return cls(user=user, host=host, port=port, name=_alias(text))

    @classmethod
    def _read(cls, path: Path) -> Self:
        table = read_table(path)
        keys = ("user", "name", *_VERSIONS, *_JOBS, "nodelist", "time_limit", "registry")
        texts = {key: table.text(key, "") for key in keys}
        host, port = table.text("host"), table.integer("port", 0, least=0)
        table.finish()
        _check(table, texts)
        table.faults.raise_if_any()
        texts["name"] = texts["name"] or _alias(f"{texts['user']}@{host}:{port}")
        return cls(host=host, port=port, path=path, **texts)

    def with_registry(self, address: str) -> Self:
        """Return it with the registry of the command line in place of the file's.

        :raises SelectionError: for another form.
        """
        if address and not registry.FORM.fullmatch(address):
            raise SelectionError(f"{address!r} is not HOST:PORT/FOLDER", where="--registry", why=_REGISTRY_FORM)
        return replace(self, registry=address or self.registry)

    @property
    def login(self) -> Login:
        """How to log in: by the user's own means, and with nothing in front of a command."""
        return Login(host=self.host, port=self.port, user=self.user, home=str(Path.home()), own=True)

    @property
    def address(self) -> str:
        """Tells where one logs in from everywhere else, and not the address."""
        return _digest(f"{self.user}@{self.host}:{self.port}")

    @property
    def again(self) -> str:
        """The command that asks it again; an address is written nowhere."""
        return session("site", shlex.quote(str(self.path)) if self.path else "USER@HOST")

    @property
    def beyond_the_sdk(self) -> str:
        """What jobs have to have that slurm-sdk has no setting for."""
        return ", ".join(key for key in ("qos", "reservation", "nodelist") if getattr(self, key))

    @staticmethod
    def folder(run: str) -> str:
        """Return the one folder of a run, below the user's home there."""
        return f"{FOLDER}/{run}"

    def prelude(self, run: str) -> str:
        """Return the shell text in front of every command there: by it jobs have their name, and what they have to."""
        values = {name: getattr(self, key) for key, name in _JOBS.items()} | {_LIMIT: self.time_limit}
        values["JOB_NAME"] = job_name(run)
        given = {name: shlex.quote(value) for name, value in values.items() if value}
        # sbatch reads SBATCH_*, srun reads SLURM_*.
        words = [f"{prefix}_{name}={value}" for name, value in given.items() for prefix in ("SBATCH", "SLURM")]
        return f"{_FORGET}\nexport {' '.join(words)}\n"


def job_name(run: str) -> str:
    """Return what the jobs of a run are called that tests give no name to; all others have the run's id in theirs."""
    return f"pyxis-matrix-{run}"


def _alias(address: str) -> str:
    """Return a name for results: the same for the same address, which it does not tell."""
    return f"site-{_digest(address)[:6]}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _check(table: TomlTable, texts: dict[str, str]) -> None:
    for key in _VERSIONS:
        try:
            Version(texts[key] or "0")
        except InvalidVersion:
            table.fault(key, f"{texts[key]!r} is no version")
    if texts["name"] and not NAME.fullmatch(texts["name"]):
        table.fault("name", f"{texts['name']!r} has more than small letters, digits and hyphens")
    if texts["registry"] and not registry.FORM.fullmatch(texts["registry"]):
        table.fault("registry", f"{texts['registry']!r} is not HOST:PORT/FOLDER: {_REGISTRY_FORM}")
    if any(sign in texts["nodelist"] for sign in ",["):
        table.fault("nodelist", "name one node: tests look for what a job leaves on the node where it ran")
