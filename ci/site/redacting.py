"""Results of a site that are kept without its names: what these are is asked there, and they go at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
import getpass
from pathlib import Path
import platform

from ci import paths
from ci.environment import ssh
from ci.record import files
from ci.site.collecting import HOSTS
from ci.site.redaction import Redaction, of_host
from ci.site.running import Site
from ci.terminal import console, signals

# Lines of a word, and what it stands for; of a node all its names.
_NAMES = r"""
echo HOST $(hostname -s; hostname -f); echo USER $(id -un); echo /HOME "$HOME" $(cd && pwd -P); echo GROUP $(id -Gn)
sinfo --noheader --Node --format='NODE %N %o'; echo PARTITION $(sinfo --noheader --format=%R)
for it in ACCOUNT QOS; do
    echo $it $(timeout 20 sacctmgr -nP show associations user=$(id -un) format=$it | tr , ' ')
done
"""


def redaction_of(site: Site) -> Redaction:
    """Ask the cluster what it, its nodes and its user are called, and add what is known here.

    :raises LaunchError: if it does not answer.
    """
    target, settings = site.target, dict(site.seen.cell.settings)
    registry, _, repository = target.registry.partition("/")
    with ssh.connect(site.login) as connection:
        said = [line.split() for line in connection.run(_NAMES).stdout.splitlines() if line.strip()]
    if untold := {"NODE", "PARTITION", "USER"} - {words[0] for words in said if len(words) > 1}:
        console.warn(f"the cluster did not say all of its names; results may have some: {', '.join(sorted(untold))}")
    nodes = {node: [node] for node in site.seen.nodes}
    nodes |= {names[0]: names for word, *names in said if word == "NODE" and names}
    hosts = [target.host, *(name for word, *names in said if word == "HOST" for name in names)]
    hosts += [value.partition("(")[0] for key, value in settings.items() if key.startswith(HOSTS)]
    pairs = [(name, f"NODE{number}") for number, names in enumerate(nodes.values(), start=1) for name in names]
    pairs += [(settings.get("clustername", ""), "CLUSTER"), (str(target.path or ""), "FILE")]
    pairs += [pair for host in hosts for pair in of_host(host)]
    pairs += [*of_host(registry.partition(":")[0], "REGISTRY"), (repository, "REPOSITORY")]
    pairs += of_host(platform.node(), "MACHINE")
    pairs += [(getattr(target, key), key.upper()) for key in ("user", "partition", "account", "qos", "reservation")]
    pairs += [(name, word) for word, *names in said if word not in ("HOST", "NODE") for name in names]
    return Redaction([*pairs, (getpass.getuser(), "USER"), (str(Path.home()), "/HOME")])


@contextmanager
def redacted(folder: Path, redaction: Redaction) -> Iterator[None]:
    """Redact all files of a folder at the end of the block, however that comes; what is written later is not.

    :raises ResultsError: naming the file at which it failed; those after it have the names.
    """
    try:
        yield
    finally:
        with signals.shielded(), console.step("replacing names and addresses in the results"):
            for path in sorted(filter(files.is_regular, folder.rglob("*"))):
                with paths.replaced(path, "a result without the names in it", mode=path.stat().st_mode) as file:
                    file.write(redaction.content(path.name, path.read_bytes()))
        if redaction.left:
            console.say(f"not replaced, too short or anybody's words: {', '.join(redaction.left)}")
