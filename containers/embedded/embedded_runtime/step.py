"""What the SPANK plugin asks for: start the container of a step on this node, and end it.

`step start` ends as the container's first process, which stops itself; the plugin sees that and lets its tasks join.
Nothing here is meant to be called by hand.
"""

import contextlib
from dataclasses import dataclass, field
import os
from pathlib import Path
import sys
from typing import NoReturn

from . import containers, mounts, store
from .failure import Failure
from .mounts import Entry
from .settings import Settings, load
from .start import Start, run

PREFIX = "pyxis_"
"""Names on disk are what Pyxis makes of --container-name, so that users find the same in `enroot list`."""
LOG_FD = 3
HOLD = ("sh", "-c", "kill -STOP $$ ; exit 0")


@dataclass(kw_only=True)
class Arguments:
    """The plugin's command line."""

    identity: str = ""
    image: str = ""
    name: str = ""
    name_flag: str = "auto"
    script: str = ""
    save: str = ""
    verbose: bool = False
    entrypoint: bool = False
    env: list[str] = field(default_factory=list)
    mounts: list[Entry] = field(default_factory=list)


def parse(words: list[str]) -> Arguments:
    """Read `--key value` pairs; `--mount` takes three values."""
    arguments = Arguments()
    rest = iter(words)
    for key in rest:
        value = next(rest)
        match key:
            case "--id":
                arguments.identity = value
            case "--mount":
                arguments.mounts.append(mounts.requested(value, next(rest), next(rest)))
            case "--env":
                arguments.env.append(value)
            case "--verbose" | "--entrypoint":
                setattr(arguments, key[2:], value == "yes")
            case _:
                setattr(arguments, key[2:].replace("-", "_"), value)
    return arguments


def say(text: str) -> None:
    """Write a line to the user, through the task's standard error."""
    sys.stderr.write(f"embedded: {text}\n")
    sys.stderr.flush()


def start(arguments: Arguments) -> NoReturn:
    """Find or make the step's container and become its first process."""
    settings = load()
    temporary = PREFIX + arguments.identity
    name = PREFIX + arguments.name if arguments.name else temporary
    joined = 0
    with store.locked(settings, name) if arguments.name else contextlib.nullcontext():
        if arguments.name:
            joined = _existing(settings, arguments, name)
        rootfs = store.rootfs(settings, name)
        if not rootfs.is_dir():
            _create(settings, arguments, name)
    if joined and arguments.mounts:
        say("ignoring --container-mounts when attaching to a running container")
        arguments.mounts.clear()
    if arguments.script:
        # In its place, so that the shell that Slurm starts finds it.
        options = ("x-create=file", "bind", "ro", "nosuid", "nodev", "private")
        arguments.mounts.append(
            Entry(source=arguments.script, target=arguments.script, options=options),
        )
    variables = {key: value for key in arguments.env if (value := os.environ.get(key))}
    run(
        settings,
        Start(
            rootfs=rootfs,
            name=name,
            command=HOLD,
            mounts=arguments.mounts,
            environment=variables,
            entrypoint=arguments.entrypoint,
            output=LOG_FD,
            join=joined,
        ),
    )


def _existing(settings: Settings, arguments: Arguments, name: str) -> int:
    """Check the name's flag against what is there; returns the process to join, or 0."""
    there = store.rootfs(settings, name).is_dir()
    processes = store.running(settings).get(name, []) if there else []
    flag = arguments.name_flag
    if flag == "create" and there:
        raise Failure('error: "create" flag was passed to --container-name but the container already exists')
    if flag == "exec" and not processes:
        raise Failure('error: "exec" flag was passed to --container-name but the container is not running')
    if not there and not arguments.image:
        raise Failure(f'error: a container with name "{name}" does not exist, and --container-image is not set')
    return processes[0] if processes and flag != "no_exec" else 0


def _create(settings: Settings, arguments: Arguments, name: str) -> None:
    image = arguments.image
    if image[0] in "./":
        try:
            containers.create_from_squashfs(settings, name, Path(image).absolute())
        except Failure as failure:
            raise Failure(f"failed to create container filesystem for image: {image}", _why(failure)) from failure
        return
    if arguments.verbose:
        say(f"importing docker image: {image}")
    uri = image if "://" in image else f"docker://{image}"
    try:
        containers.create_from_image(settings, name, uri)
    except Failure as failure:
        raise Failure(f"failed to import docker image: {image}", _why(failure)) from failure
    say(f"imported docker image: {image}")


def _why(failure: Failure) -> tuple[str, ...]:
    return (str(failure), *failure.details)


def end(arguments: Arguments) -> None:
    """Save the container if asked, and remove it if it has no name of its own."""
    settings = load()
    temporary = PREFIX + arguments.identity
    name = PREFIX + arguments.name if arguments.name else temporary
    try:
        if arguments.save:
            containers.export(settings, name, Path(arguments.save))
            say(f"exported container {name} to {arguments.save}")
    finally:
        if not arguments.name:
            store.remove_tree(store.rootfs(settings, temporary))


def epilog(arguments: Arguments) -> None:
    """Remove the containers that were named within a job, which has ended; `--id` is the job's."""
    settings = load()
    for name in store.names(settings):
        if name.startswith(f"{PREFIX}{arguments.identity}_"):
            store.remove_tree(store.rootfs(settings, name))
