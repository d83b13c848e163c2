"""An image's configuration as files in its root file system, where enroot keeps it too.

`/etc/environment` (Env), `/etc/fstab` (Volumes) and `/etc/rc` (WorkingDir, Entrypoint, Cmd, Labels). Being part of the
file system they survive a squashfs file, and files made by either runtime can be run by the other.
"""

from collections.abc import Mapping
from pathlib import Path
import shlex
from typing import Any

RC_LOCAL = "# Read by /etc/rc before it runs the entrypoint or the command.\n"


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        return ["/bin/sh", "-c", value]
    return [str(word) for word in value] if isinstance(value, list) else []


def _quoted(words: list[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def rc_script(config: Mapping[str, Any], provenance: str) -> str:
    """Return the script that a container starts with; its arguments are the command to run."""
    entrypoint, command = _words(config.get("Entrypoint")), _words(config.get("Cmd"))
    if not entrypoint and not command:
        command = ["/bin/sh"]
    workdir = shlex.quote(str(config.get("WorkingDir") or "/"))
    labels = config.get("Labels") or {}
    # A label may hold anything, and a second line of it would be shell code.
    comments = [f"# {name} {value}".replace("\r", " ").replace("\n", " ") for name, value in sorted(labels.items())]
    return "\n".join(
        [
            f"# imported by the embedded runtime from {provenance}",
            *comments,
            f"mkdir -p {workdir} 2>/dev/null",
            f"cd {workdir} || exit 1",
            "unset OLDPWD",
            "if [ -s /etc/rc.local ]; then . /etc/rc.local; fi",
            f'if [ $# -gt 0 ]; then exec {_quoted(entrypoint)} "$@"; fi',
            f"exec {_quoted([*entrypoint, *command])}",
            "",
        ],
    )


def write(config: Mapping[str, Any], provenance: str) -> None:
    """Write the files; the caller has made the image's root file system its own root directory."""
    workdir = "/" + str(config.get("WorkingDir") or "").lstrip("/")
    Path(workdir).mkdir(parents=True, exist_ok=True)
    variables = [str(entry) for entry in config.get("Env") or []]
    volumes = sorted(config.get("Volumes") or {})
    files = {
        "/etc/environment": "".join(f"{entry}\n" for entry in variables),
        "/etc/fstab": "".join(
            f"${{ENROOT_ROOTFS}}{path} {path} none x-create=dir,bind,rw,nosuid,nodev\n" for path in volumes
        ),
        "/etc/rc": rc_script(config, provenance),
        "/etc/rc.local": RC_LOCAL,
    }
    Path("/etc").mkdir(exist_ok=True)
    for name, content in files.items():
        path = Path(name)
        path.unlink(missing_ok=True)
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
        path.chmod(0o644)


def environment(text: str) -> dict[str, str]:
    """Read `/etc/environment`: NAME=VALUE lines; others (the tail of a value with a line break) are passed over."""
    variables: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if not separator or not name.isidentifier() or name.startswith("ENROOT_"):
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        variables[name] = value
    return variables
