"""How the values of options are read; argparse turns what they raise into its own messages."""

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
import re
import stat

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from ci.errors import SelectionError
from ci.matrix import profile_files
from ci.matrix.arch import Arch
from ci.matrix.cells import read_version
from ci.matrix.model import VERSION_AXES
from ci.matrix.tables import did_you_mean
from ci.paths import BESIDE_RUNS, BESIDE_SUITES

_LONGEST_PASSWORD = 255
_MOST_PORT = 65535
JOB_OS = "debian12"
"""What the job image runs on, on all cells, if nothing else was asked for."""
NODE = "node"
"""What the job image runs on: the same system as the nodes."""


class RunsOn(StrEnum):
    """Where a suite of somebody's own runs."""

    HOST = "host"
    """On this machine: it reaches the cluster over SSH."""
    LOGIN = "login"
    """On the login node, as the job user: it calls sbatch and srun itself."""


def whole(least: int, most: int | None, what: str) -> Callable[[str], int]:
    """Return a reader of whole numbers between two bounds, both included."""

    def number(text: str) -> int:
        # Of the ValueError of a text argparse makes "invalid number value": it names this function.
        value = int(text)
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{value} is not {what}")
        return value

    return number


def folder(text: str) -> Path:
    """Return a path of this machine, taken from where the person is."""
    return Path(text).expanduser().absolute()


def profile(text: str) -> str:
    """Return the name of a profile that comes with this project, or the path of a folder that is one."""
    if text in profile_files.shipped():
        return text
    if (path := folder(text)).is_dir():
        return str(path)
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a profile{did_you_mean(text, profile_files.shipped())}, and there is no such folder"
    )


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    """Return a reader of words that match a pattern from begin to end."""

    def word(text: str) -> str:
        # Not a match up to $, which holds before a line break at the end, too.
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return text

    return word


def password_file(text: str) -> Path:
    """Return the path of a file with a password that can be used; the password itself stands in no option."""
    path = folder(text)
    try:
        password_in(path)
    except SelectionError as error:
        # argparse puts the name of the option before the text of this error; others pass through it.
        raise argparse.ArgumentTypeError(f"{error.what} ({error.where}): {error.why}") from error
    return path


def password_in(path: Path) -> str:
    """Return the password that a file holds: whatever can be typed, without the end of the line.

    :raises SelectionError: where it can't be read, or by everybody, or holds no password; never with its content.
    """
    why = ""
    try:
        # A pipe would be empty for whoever reads it next: options are read by nox, and again by what it starts.
        if not stat.S_ISREG(mode := path.stat().st_mode):
            why = "it is not a regular file"
        elif mode & stat.S_IROTH:
            why = f"every user of this machine may read it: chmod 600 {path}"
        else:
            # An editor ends the line; a blank at the end may be part of a password.
            password = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
            if not password or len(password) > _LONGEST_PASSWORD or not password.isprintable():
                why = f"a password has 1 to {_LONGEST_PASSWORD} printable characters, on one line"
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    if why:
        raise SelectionError(
            "the file with the password cannot be used",
            where=str(path),
            why=why,
            next_step="install -m 600 /dev/stdin PATH, type the password, Enter and Ctrl-D; then --password-file PATH",
        )
    return password


def visible_password(_text: str) -> str:
    """Refuse a password on a command line."""
    raise argparse.ArgumentTypeError(
        "a password on a command line is visible to every user of this machine, and would be kept in results; "
        "write it into a file of yours (chmod 600) and use --password-file PATH"
    )


def requirement(text: str) -> str:
    """Return a requirement (PEP 508)."""
    try:
        return str(Requirement(text))
    except InvalidRequirement as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a requirement: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a candidate's sources are: a checkout, or an archive."""

    path: Path
    revision: str = ""
    """Of a checkout; empty for its working tree."""

    def __str__(self) -> str:
        """Return it as it is typed."""
        return f"{self.path}@{self.revision}" if self.revision else str(self.path)


def origin(text: str) -> Origin:
    """Return a path and, after an ``@``, a revision; both may hold an ``@``: the path is the first part that exists."""
    whole = folder(text)
    # A path that begins with an @ is a path. Revisions of git may have one, too: ``HEAD@{1}``.
    parts = [at for at, letter in enumerate(text) if letter == "@" and at]
    cut = next((at for at in parts if folder(text[:at]).exists()), None)
    if whole.exists() or not parts:
        return Origin(path=whole)
    # Where no part exists, the first one is what the message names as missing.
    at = parts[0] if cut is None else cut
    if not text[at + 1 :]:
        raise argparse.ArgumentTypeError(f"{text!r} has no revision after the @")
    return Origin(path=folder(text[:at]), revision=text[at + 1 :])


def answers(text: str) -> tuple[str, Version]:
    """Return an axis and the version whose answers are expected, from ``AXIS=VERSION``."""
    axis, _, version = text.partition("=")
    if axis in VERSION_AXES and (parsed := read_version(version)):
        return axis, parsed
    raise argparse.ArgumentTypeError(f"{text!r} is not AXIS=VERSION, such as pyxis=0.21.0")


def variable(text: str) -> tuple[str, str]:
    """Return the name and the value of an environment variable, from ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def version(text: str) -> str:
    """Return the text of a version, as its project writes it."""
    if read_version(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version, such as 25.05.8")
    return text


def arch(text: str) -> Arch:
    """Return an architecture, by any of its names."""
    try:
        return Arch.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def runner(text: str) -> tuple[Arch, str]:
    """Return an architecture and the label of the machines that take its jobs, from ``ARCH=LABEL``."""
    name, _, label = text.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", label):
        raise argparse.ArgumentTypeError(f"{text!r} is not ARCH=LABEL, such as arm64=ubuntu-24.04-arm")
    return arch(name), label


def runs_on(text: str) -> RunsOn:
    """Return where a suite runs."""
    if text not in set(RunsOn):
        raise argparse.ArgumentTypeError(f"{text!r} is neither {' nor '.join(RunsOn)}")
    return RunsOn(text)


def _free(pattern: str, what: str, taken: Collection[str]) -> Callable[[str], str]:
    """Return a reader of names of folders among results that are not those of something else there."""
    plain = _matching(pattern, what)

    def name(text: str) -> str:
        if plain(text).lower() in taken:  # on some disks, these are one name
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be used: it is the name of another folder or file there; take another name"
            )
        return text

    return name


# 0 is the default, and lets the system choose a free port.
port = whole(0, _MOST_PORT, "a port")
# A run stands in the names of containers, networks and volumes, behind it cell and node.
run_id = _free(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", "a run id: up to 60 of letters, digits, '.', '_' and '-'", BESIDE_RUNS
)
result_name = _free(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}",
    "a name of a result: up to 100 of letters, digits, '.', '_' and '-', and no path",
    BESIDE_SUITES,
)
# As useradd takes it.
user = _matching(r"[a-z_][a-z0-9_-]{0,31}", "a user name: up to 32 of small letters, digits, '_' and '-'")
container = _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,62}", "a container name: 2 to 63 of letters, digits, '.', '_', '-'")
partition = _matching(
    r"(?!(?i:default|debug)$)[A-Za-z0-9][A-Za-z0-9_-]{0,62}",
    "the name of one more partition: up to 63 of letters, digits, '_' and '-' (debug is there, DEFAULT is Slurm's)",
)
job_image = _matching(f"{JOB_OS}|{NODE}", f"{JOB_OS} or {NODE}")
host = _matching(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", "a host name (without a port)")
# The grammar of https://github.com/distribution/reference, without port and digest; a tag has at most 128 characters.
image = _matching(
    r"[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?", "an image name such as python:3.11-slim"
)
