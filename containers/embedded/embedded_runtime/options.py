"""The container options of srun and sbatch, as the plugin hands them over: what they mean, and what is wrong with them.

An option is `NAME` or `NAME=VALUE`, without the dashes. What was not given may stand in a variable PYXIS_CONTAINER_*.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .failure import Failure
from .mounts import Entry, requested

YES = frozenset({"1", "true", "t", "yes", "y"})
NO = frozenset({"0", "false", "f", "no", "n"})
NAME_FLAGS = ("auto", "create", "exec", "no_exec")
NAMESPACES = ("net", "ipc", "uts")
# Each with the option that says yes and the one that says no.
SWITCHES = {
    "mount_home": ("container-mount-home", "no-container-mount-home"),
    "remap_root": ("container-remap-root", "no-container-remap-root"),
    "entrypoint": ("container-entrypoint", "no-container-entrypoint"),
    "entrypoint_log": ("container-entrypoint-log", ""),
    "writable": ("container-writable", "container-readonly"),
}
TEXTS = ("image", "mounts", "workdir", "name", "save", "env", "unshare")


@dataclass(kw_only=True)
class Options:
    """What a step asks for; None where an option was not given."""

    image: str = ""
    mounts: list[Entry] = field(default_factory=list)
    workdir: str = ""
    name: str = ""
    name_flag: str = "auto"
    save: str = ""
    env: list[str] = field(default_factory=list)
    unshare: set[str] = field(default_factory=set)
    mount_home: bool | None = None
    remap_root: bool | None = None
    entrypoint: bool | None = None
    entrypoint_log: bool | None = None
    writable: bool | None = None

    @property
    def ignored(self) -> list[str]:
        """The options that mean nothing because the step has no container."""
        if self.image or self.name:
            return []
        named = {
            "--container-mounts": bool(self.mounts),
            "--container-workdir": bool(self.workdir),
            "--container-save": bool(self.save),
            "--[no-]container-mount-home": self.mount_home is not None,
            "--[no-]container-remap-root": self.remap_root is not None,
            "--[no-]container-entrypoint": self.entrypoint is not None,
            "--container-entrypoint-log": self.entrypoint_log is not None,
            "--container-readonly": self.writable is False,
            "--container-writable": self.writable is True,
        }
        return [name for name, given in named.items() if given]

    def environment(self) -> dict[str, str]:
        """Return the settings that the options stand for, by enroot's names."""
        switches = {
            "ENROOT_MOUNT_HOME": self.mount_home,
            "ENROOT_REMAP_ROOT": self.remap_root,
            "ENROOT_ROOTFS_WRITABLE": self.writable,
        }
        chosen = {name: "yes" if value else "no" for name, value in switches.items() if value is not None}
        return chosen | {f"ENROOT_UNSHARE_{kind.upper()}": "yes" for kind in self.unshare}


@dataclass(kw_only=True)
class Plugin:
    """What the administrator wrote behind the plugin's path in plugstack.conf, by Pyxis' names."""

    execute_entrypoint: bool = False
    job_scope: bool = False


def parse(words: Iterable[str], environment: Mapping[str, str]) -> Options:
    """Read options and, for those not given, variables. Raises Failure with the words that the user is to see."""
    texts, switches = _given(words)
    for name in TEXTS:
        value = environment.get(f"PYXIS_CONTAINER_{name.upper()}")
        if name not in texts and value is not None:
            texts[name] = [value]
    for name in (*SWITCHES, "readonly"):
        place = "writable" if name == "readonly" else name
        value = environment.get(f"PYXIS_CONTAINER_{name.upper()}", "")
        if place not in switches and (truth := _truth(value)) is not None:
            switches[place] = truth is not (name == "readonly")
    for name, values in texts.items():
        if "" in values:
            raise Failure(f"--container-{name}: argument required")
    options = Options()
    for name, chosen in switches.items():
        setattr(options, name, chosen)
    for name in ("image", "workdir", "save"):
        setattr(options, name, _single(name, texts))
    if options.save.endswith("/"):
        raise Failure(f"--container-save: target is a directory: {options.save}")
    options.mounts = _mounts(texts.get("mounts", ()))
    options.name, options.name_flag = _name(_single("name", texts))
    options.env = _env(texts.get("env", ()))
    options.unshare = _unshare(texts.get("unshare", ()))
    return options


def _given(words: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, bool]]:
    """Sort options into those with values, each different one once, and switches."""
    texts: dict[str, list[str]] = {}
    switches: dict[str, bool] = {}
    for word in words:
        option, separator, value = word.partition("=")
        if separator:
            values = texts.setdefault(option.removeprefix("container-"), [])
            if value not in values:
                values.append(value)
            continue
        name, chosen = next((name, option == pair[0]) for name, pair in SWITCHES.items() if option in pair)
        if switches.setdefault(name, chosen) is not chosen:
            yes, no = SWITCHES[name]
            raise Failure(f"both --{yes} and --{no} were specified")
    return texts, switches


def _truth(text: str) -> bool | None:
    word = text.lower()
    return True if word in YES else False if word in NO else None


def _single(name: str, texts: Mapping[str, Sequence[str]]) -> str:
    values = texts.get(name, ("",))
    if len(values) > 1:
        raise Failure(f"--container-{name} specified multiple times")
    return values[0]


def _mounts(lists: Iterable[str]) -> list[Entry]:
    """Read SRC[:DST[:FLAGS]], with commas between them."""
    entries: dict[tuple[str, str, str], Entry] = {}
    for text in (text for listed in lists for text in listed.split(",")):
        source, *rest = text.split(":", 2)
        target = rest[0] if rest else source
        flags = rest[1] if len(rest) > 1 else ""
        if not source or not target:
            raise Failure(f"--container-mounts: invalid format: {text}")
        if source[0] not in "./" and source not in ("tmpfs", "umount"):
            allowed = 'a path that begins with / or ., "tmpfs" or "umount"'
            raise Failure(f"--container-mounts: the source must be {allowed}: {source}")
        if target[0] not in "./":
            raise Failure(f"--container-mounts: the target must be a path that begins with / or .: {target}")
        entries.setdefault((source, target, flags), requested(source, target, flags))
    return list(entries.values())


def _name(text: str) -> tuple[str, str]:
    name, _, flag = text.partition(":")
    if text and not name:
        raise Failure("--container-name: empty name")
    if flag and flag not in NAME_FLAGS:
        known = '"auto", "create", "exec" or "no_exec"'
        raise Failure(f"--container-name: the flag must be {known}: {flag}")
    return name, flag or "auto"


def _env(lists: Iterable[str]) -> list[str]:
    names: dict[str, None] = {}
    for listed in lists:
        wanted = listed.split(",")
        if "" in wanted:
            raise Failure(f"--container-env: invalid format: {listed}")
        names.update(dict.fromkeys(wanted))
    return list(names)


def _unshare(lists: Iterable[str]) -> set[str]:
    wanted = {name for listed in lists for name in listed.split(",")}
    for name in sorted(wanted.difference(NAMESPACES)):
        raise Failure(f"--container-unshare: unknown namespace '{name}' ({', '.join(NAMESPACES)})")
    return wanted


def parse_plugin(words: Iterable[str]) -> Plugin:
    """Read the plugin's own settings; those that choose between Pyxis' ways to the same end change nothing here."""
    plugin = Plugin()
    for word in words:
        name, _, value = word.partition("=")
        match name:
            case "execute_entrypoint" if (chosen := _truth(value)) is not None:
                plugin.execute_entrypoint = chosen
            case "sbatch_support" if _truth(value) is not None:
                pass  # the plugin itself looks at it, before there are options to read
            case "container_scope" if value in ("job", "global"):
                plugin.job_scope = value == "job"
            case "runtime_path" | "use_enroot_load" | "use_squashfuse":
                pass
            case "execute_entrypoint" | "sbatch_support" | "container_scope":
                raise _unreadable(f"invalid value: {word}")
            case "importer":
                raise _unreadable(f"the embedded runtime has no other importer: {word}")
            case _:
                raise _unreadable(f"unknown configuration option: {word}")
    return plugin


def _unreadable(what: str) -> Failure:
    return Failure(what, ("failed to parse configuration",))
