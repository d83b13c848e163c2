"""Ready-made tiny images: a static busybox, links for its applets, and a marker."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
import secrets
import shlex

from ci.matrix.arch import Arch
from ci.reproducing.case import ASIDE
from tests.support.cluster import Node
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import Image, Pushed
from tests.support.oci.layers import Directory, Entry, File, Layer, Symlink


@dataclass(frozen=True, kw_only=True)
class TinyImage:
    """A tiny image in the environment's registry."""

    reference: str
    """HOST:PORT#NAME:TAG."""
    marker: str
    """What ``/etc/pyxis-matrix-image`` holds in this image and nowhere else."""
    pushed: Pushed
    image: Image


def new_marker() -> str:
    """Return a text that no other image has."""
    return f"tiny-{secrets.token_hex(8)}"


@cache
def busybox_layer(node: Node) -> Layer:
    """Return a layer with a static busybox, taken from the node, and a link for each of its applets."""
    answer = node.run(f"base64 --wrap=0 /bin/busybox{ASIDE}", user=node.user)
    applets = node.run(f"/bin/busybox --list{ASIDE}", user=node.user).stdout.split()
    assert "sh" in applets, "the node's busybox has no shell"
    links: dict[str, Entry] = {f"/bin/{applet}": Symlink("busybox") for applet in applets if applet != "busybox"}
    empty = ("/dev", "/home", "/mnt", "/opt", "/proc", "/run", "/srv", "/sys", "/var/tmp")
    return Layer.of(
        {
            **links,
            **{path: Directory() for path in empty},
            "/bin/busybox": File(content=base64.b64decode(answer.stdout), mode=0o755),
            "/usr/bin/env": Symlink("/bin/busybox"),
            "/root": Directory(mode=0o700),
            "/tmp": Directory(mode=0o1777),
            "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
            "/etc/os-release": 'ID=pyxis-matrix-tiny\nPRETTY_NAME="pyxis-matrix tiny image"\n',
        }
    )


def busybox_image(node: Node, marker: str, arch: Arch | None = None) -> Image:
    """Return an image of about 1 MB with a shell and the usual programs; ``marker`` is what only it has."""
    return Image(
        layers=(busybox_layer(node), Layer.of({IMAGE_MARKER: f"{marker}\n"})),
        arch=arch or Arch.host(),
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        cmd=("/bin/sh",),
    )


def recipe(entries: Mapping[str, Entry], configuration: Iterable[str]) -> str:
    """Return, as lines of shell in the image's root, what is put into a tiny image; what shell can't, as a comment."""
    lines = [f"# its {name}" for name in configuration]
    for path, entry in entries.items():
        place = shlex.quote(path.removeprefix("/"))
        match entry:
            case Directory(opaque=False):
                lines.append(f"mkdir -p {place}")
            case Symlink(target=target):
                lines.append(f"ln -sfn {shlex.quote(target)} {place}")
            case File(content=content, mode=mode) if content.isascii() and content.endswith(b"\n"):
                lines.append(f"cat > {place} <<'END_OF_FILE' && chmod {mode:o} {place}\n{content.decode()}END_OF_FILE")
            case _:
                lines.append(f"# its {path}")
    return "\n".join(lines)
