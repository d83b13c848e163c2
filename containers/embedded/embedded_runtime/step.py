"""What the SPANK plugin asks for: check the options of a step, start its container on this node, and end it.

`step start` ends as the container's first process, which stops itself; the plugin sees that and lets its tasks join.
Nothing here is meant to be called by hand.
"""

from collections.abc import Mapping, Sequence
import contextlib
import os
from pathlib import Path
import sys
from typing import NoReturn

from . import containers, store
from .failure import Failure
from .mounts import Entry
from .options import Options, parse, parse_plugin
from .settings import Settings, load
from .start import Start, enter, execute

PREFIX = "pyxis_"
"""Names on disk are what Pyxis makes of --container-name, so that users find the same in `enroot list`."""
LOG_FD, REPLY_FD = 3, 4
HOLD = ("sh", "-c", "kill -STOP $$ ; exit 0")
LOCALE = ("LANG", "LANGUAGE", "LC_ALL")
"""The job's locale is rarely installed in the image."""
# A job must not decide where the node keeps images, nor how it talks to registries.
DENIED = frozenset(
    {
        "ENROOT_LIBRARY_PATH",
        "ENROOT_SYSCONF_PATH",
        "ENROOT_RUNTIME_PATH",
        "ENROOT_CACHE_PATH",
        "ENROOT_DATA_PATH",
        "ENROOT_TEMP_PATH",
        "ENROOT_TRANSFER_RETRIES",
        "ENROOT_CONNECT_TIMEOUT",
        "ENROOT_MAX_CONNECTIONS",
        "ENROOT_ALLOW_HTTP",
    },
)


def run(words: Sequence[str]) -> None:
    """Run `VERB FACT=VALUE... [-- OPTION... -- SETTING...]`, the plugin's command line."""
    parts: list[list[str]] = [[]]
    for word in words[1:]:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    facts = dict(word.split("=", 1) for word in parts[0])
    match words[0], *parts[1:]:
        case "check", options, settings:
            check(options, settings)
        case "start", options, settings:
            start(facts, options, settings)
        case "end", *_:
            end(facts)
        case "epilog", *_:
            epilog(facts)
        case _:
            raise Failure(f"step {words[0]}: unknown")


def say(text: str) -> None:
    """Write a line to the user, through the task's standard error."""
    sys.stderr.write(f"embedded: {text}\n")
    sys.stderr.flush()


def check(options: Sequence[str], settings: Sequence[str]) -> None:
    """Refuse wrong options and settings before anything is allocated, and warn of options that mean nothing.

    What it writes to the plugin's log is what the user reads.
    """
    problems: list[str] = []
    try:
        parse_plugin(settings)
        because = "because neither --container-image nor --container-name is set"
        problems += [f"ignoring {option} {because}" for option in parse(options, os.environ).ignored]
    except Failure as failure:
        problems += [str(failure), *failure.details]
        raise SystemExit(1) from failure
    finally:
        os.write(LOG_FD, "".join(f"{line}\n" for line in problems).encode(errors="surrogateescape"))


def _settings(chosen: Mapping[str, str] | None = None) -> Settings:
    allowed = {name: value for name, value in os.environ.items() if name not in DENIED}
    return load({**allowed, **(chosen or {})})


def _reply(options: Options, *, name: str, entrypoint: bool) -> None:
    """Tell the plugin what it needs to know of the options; it hands all of it to `step end`."""
    facts = [f"env={variable}" for variable in options.env]
    facts += [f"unset={variable}" for variable in LOCALE if variable not in options.env]
    if options.workdir:
        facts.append(f"workdir={options.workdir}")
    if options.save:
        facts.append(f"save={Path(options.save).absolute()}")
    if options.name:
        facts.append(f"name={name}")
    if entrypoint and options.entrypoint_log:
        facts.append("log=yes")
    if entrypoint:
        facts.append("hint=if the image has an unusual entrypoint, try using --no-container-entrypoint")
    with os.fdopen(os.dup(REPLY_FD), "wb") as stream:
        stream.write("".join(f"{fact}\0" for fact in facts).encode(errors="surrogateescape"))


def start(facts: Mapping[str, str], words: Sequence[str], plugin_words: Sequence[str]) -> NoReturn:
    """Find or make the step's container and become its first process."""
    plugin = parse_plugin(plugin_words)
    options = parse(words, os.environ)
    temporary = PREFIX + facts["id"]
    scope = facts["id"].partition(".")[0] + "_" if plugin.job_scope else ""
    name = f"{PREFIX}{scope}{options.name}" if options.name else temporary
    entrypoint = plugin.execute_entrypoint if options.entrypoint is None else options.entrypoint
    _reply(options, name=name, entrypoint=entrypoint)
    settings = _settings(options.environment())
    rootfs = store.rootfs(settings, name)
    # Held until the container can be seen to run: steps that start together must not start it twice.
    with store.locked(settings, name) if options.name else contextlib.nullcontext():
        joined = _existing(settings, options, name) if options.name else 0
        if not rootfs.is_dir():
            _create(settings, options, name, verbose=facts["tasks"] in ("0", "1"))
        wanted = list(options.mounts)
        if joined and wanted:
            say("ignoring --container-mounts when attaching to a running container")
            wanted.clear()
        if script := facts.get("script"):
            # In its place, so that the shell that Slurm starts finds it.
            flags = ("x-create=file", "bind", "ro", "nosuid", "nodev", "private")
            wanted.append(Entry(source=script, target=script, options=flags))
        beginning = Start(
            rootfs=rootfs,
            name=name,
            command=HOLD,
            mounts=wanted,
            environment={key: value for key in options.env if (value := os.environ.get(key))},
            entrypoint=entrypoint,
            output=LOG_FD,
            join=joined,
        )
        variables = enter(settings, beginning)
    execute(settings, beginning, variables)


def _existing(settings: Settings, options: Options, name: str) -> int:
    """Check the name's flag against what is there; returns the process to join, or 0."""
    there = store.rootfs(settings, name).is_dir()
    processes = store.running(settings).get(name, []) if there else []
    flag = options.name_flag
    if flag == "create" and there:
        raise Failure('error: "create" flag was passed to --container-name but the container already exists')
    if flag == "exec" and not processes:
        raise Failure('error: "exec" flag was passed to --container-name but the container is not running')
    if not there and not options.image:
        raise Failure(f'error: a container with name "{name}" does not exist, and --container-image is not set')
    return processes[0] if processes and flag != "no_exec" else 0


def _create(settings: Settings, options: Options, name: str, *, verbose: bool) -> None:
    image = options.image
    if image[0] in "./":
        try:
            containers.create_from_squashfs(settings, name, Path(image).absolute())
        except Failure as failure:
            raise Failure(f"failed to create container filesystem for image: {image}", _why(failure)) from failure
        return
    if verbose:
        say(f"importing docker image: {image}")
    uri = image if "://" in image else f"docker://{image}"
    try:
        containers.create_from_image(settings, name, uri)
    except Failure as failure:
        raise Failure(f"failed to import docker image: {image}", _why(failure)) from failure
    say(f"imported docker image: {image}")


def _why(failure: Failure) -> tuple[str, ...]:
    return (str(failure), *failure.details)


def end(facts: Mapping[str, str]) -> None:
    """Save the container if asked, and remove it if it has no name of its own."""
    settings = _settings()
    temporary = PREFIX + facts["id"]
    name = facts.get("name", temporary)
    try:
        # A step that was interrupted before all of it ran has nothing worth saving.
        if "save" in facts and facts["complete"] == "yes":
            containers.export(settings, name, Path(facts["save"]))
            say(f"exported container {name} to {facts['save']}")
    finally:
        if name == temporary:
            store.remove_tree(store.rootfs(settings, temporary))


def epilog(facts: Mapping[str, str]) -> None:
    """Remove the containers that were named within a job, which has ended; `id` is the job's."""
    settings = _settings()
    for name in store.names(settings):
        if name.startswith(f"{PREFIX}{facts['id']}_"):
            store.remove_tree(store.rootfs(settings, name))
