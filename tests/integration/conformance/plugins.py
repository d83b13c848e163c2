"""A SPANK plugin of one's own: what stands in the installed one, changed, and loaded by nobody but the one who asks.

A SPANK plugin is a shared object that states its name and the Slurm it was compiled for in two exported objects,
``plugin_name`` and ``plugin_version`` (slurm/spank.h). To make one for another Slurm no compiler is needed then: the
object's bytes are found through the symbol table and replaced.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
import struct

from tests.support.cluster import Shell
from tests.support.not_asked import needs

_DYNSYM = 11


@dataclass(frozen=True, kw_only=True)
class _Section:
    kind: int
    address: int
    offset: int
    size: int
    link: int


def slurm_version(year: int, month: int, patch: int) -> bytes:
    """Return a release of Slurm as a plugin records it."""
    return struct.pack("<I", year << 16 | month << 8 | patch)


def changed(plugin: bytes, symbol: str, content: bytes) -> bytes:
    """Return a plugin (64 bit, little endian) in which the first bytes of an exported object are others."""
    assert plugin[:6] == b"\x7fELF\x02\x01", "this is no shared object of a 64-bit little-endian machine"
    offset = _offset(plugin, symbol)
    return plugin[:offset] + content + plugin[offset + len(content) :]


def _offset(plugin: bytes, symbol: str) -> int:
    sections = list(_sections(plugin))
    table = next(section for section in sections if section.kind == _DYNSYM)
    names = sections[table.link].offset
    for position in range(table.offset, table.offset + table.size, 24):
        name, _, _, index, value, _ = struct.unpack_from("<IBBHQQ", plugin, position)
        end = plugin.index(b"\0", names + name)
        if plugin[names + name : end].decode() == symbol:
            return int(value - sections[index].address + sections[index].offset)
    raise LookupError(f"the plugin exports no {symbol}")


def _sections(plugin: bytes) -> Iterator[_Section]:
    (start,) = struct.unpack_from("<Q", plugin, 40)
    size, count = struct.unpack_from("<HH", plugin, 58)
    for number in range(count):
        _, kind, _, address, offset, length, link = struct.unpack_from("<IIQQQQI", plugin, start + number * size)
        yield _Section(kind=kind, address=address, offset=offset, size=length, link=link)


@dataclass(frozen=True, kw_only=True)
class ClientSide:
    """A configuration that only commands with its variable see; the cluster's daemons keep theirs."""

    shell: Shell
    folder: str

    @property
    def variables(self) -> dict[str, str]:
        """What srun and sbatch need in their environment."""
        return {"SLURM_CONF": f"{self.folder}/slurm.conf"}

    def _find(self) -> None:
        """End a test on a site whose configuration lies elsewhere: nobody may guess what is loaded there."""
        usual = "ls /etc/slurm/plugstack.conf.d/*.conf && grep '^PlugStackConfig=' /etc/slurm/slurm.conf"
        if self.shell.environment.site and self.shell.run_unchecked(usual).status:
            needs("slurm.conf, with PlugStackConfig, and plugstack.conf.d in /etc/slurm")

    @property
    def installed_path(self) -> str:
        """Path of the plugin that the cluster uses."""
        self._find()
        lines = "awk '$1 ~ /^(required|optional)$/ { print $2 }' /etc/slurm/plugstack.conf.d/*.conf"
        return self.shell.run(lines).stdout.split()[0]

    def installed(self) -> bytes:
        """Return the plugin that the cluster uses."""
        return base64.b64decode(self.shell.run(f"base64 --wrap=0 {self.installed_path}").stdout)

    def place(self, plugin: bytes) -> str:
        """Put a plugin into the folder; return its path."""
        path = f"{self.folder}/{self.installed_path.rpartition('/')[2]}"
        self.shell.run(f"base64 --decode > {path}", stdin=base64.b64encode(plugin).decode())
        return path

    def use(self, *plugstack: str) -> None:
        """Write the configuration, with these lines as its plugstack.conf."""
        self._find()
        lines = "".join(f"{line}\\n" for line in plugstack)
        self.shell.run(
            f"printf '{lines}' > {self.folder}/plugstack.conf && "
            # A configless cluster's slurm.conf names no plugstack.conf.
            f"sed '/^PlugStackConfig=/d' /etc/slurm/slurm.conf > {self.folder}/slurm.conf && "
            f"printf '\\nPlugStackConfig=%s\\n' {self.folder}/plugstack.conf >> {self.folder}/slurm.conf"
        )
