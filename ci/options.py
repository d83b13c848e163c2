"""The options of a session, shared by ``python -m ci run`` and by what stands behind ``--`` on nox' command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """Add what a person may ask of a session."""
    add_image_options(parser)
    group = parser.add_argument_group("options of a session")
    group.add_argument("--nodes", type=_nodes, default=None, metavar="N", help="number of Slurm nodes (default: 1)")
    group.add_argument("--gpus", type=_gpus, default=0, metavar="N", help="pass the engine's first N GPUs to each node")
    group.add_argument("--keep", action="store_true", help="leave the environment up and say how to enter it")
    for name in ("--registry-port", "--ssh-port"):
        group.add_argument(name, type=_port, default=0, metavar="PORT", help="a fixed port (default: a free one)")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide which images there are, and what is in them."""
    group = parser.add_argument_group("options of images")
    group.add_argument("--subject", type=Path, metavar="PATH", help="a checkout to test in place of the release")
    group.add_argument("--mirror", type=Path, metavar="DIR", help="folder with upstream's releases (air-gapped sites)")
    group.add_argument("--accounting", action="store_true", help="record jobs (slurmdbd, MariaDB), so that sacct works")


def split(posargs: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Split nox' posargs into the session's own options, the same as arguments again, and what is pytest's.

    Two more options exist here: ``--suite PATH``, somebody else's suite, with ``--cell CELL`` to run it on; and
    ``--strict``, which makes an error of what would be skipped.
    """
    parser = argparse.ArgumentParser(prog="nox -s SESSION --", allow_abbrev=False, add_help=False)
    add_session_options(parser)
    parser.add_argument("--suite", type=Path, metavar="PATH")
    parser.add_argument("--cell", metavar="CELL")
    parser.add_argument("--strict", action="store_true")
    parsed, rest = parser.parse_known_args(list(posargs))
    return parsed, as_arguments(parsed), [argument for argument in rest if argument != "--"]


def as_arguments(parsed: argparse.Namespace) -> list[str]:
    """Return a session's options as arguments of ``python -m ci run``."""
    arguments = [f"--{name}" for name in ("accounting", "keep") if getattr(parsed, name)]
    for name in ("nodes", "gpus", "subject", "mirror", "registry_port", "ssh_port"):
        if value := getattr(parsed, name):
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


def _nodes(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 16:  # noqa: PLR2004 - more is not tried, and one machine would not bear it
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and 16")
    return number


def _gpus(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is no number of GPUs")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:  # noqa: PLR2004 - what a port can be
        raise argparse.ArgumentTypeError(f"{number} is no port")
    return number
