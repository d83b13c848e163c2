"""What Pyxis' tests expect of a cluster, added to the nodes for as long as the suite runs, and taken away again.

On the nodes only, the names of public registries lead to the cell's own one; a small repository serves the packages
that the tests install; enroot is configured as the tests take for granted (upstream's README says that they do), with
containers that can be written to and the two hooks for Slurm that it brings along; and the job user may enter their own
account by SSH.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import subprocess
from typing import IO

from ci.environment_file import EnvironmentFile
from tests.integration.upstream import stand_ins
from tests.support.cluster import Node

_PACKAGES = "/srv/upstream-packages"
_PIDS = "/run/upstream-suite.pids"
_HOSTS = "/etc/hosts.before-upstream-suite"
# The first file that says something has the last word: before the node's own.
_CONFIGURATION = "/etc/enroot/enroot.conf.d/10-upstream-suite.conf"
_HOOKS = ("50-slurm-pmi.sh", "50-slurm-pytorch.sh")
_KEY = ".ssh/id_ed25519"

# `exec` so that the process whose id is kept is the one that serves.
_START = f"""
set -eu
cp /etc/hosts {_HOSTS}
echo "127.0.0.1 {" ".join(stand_ins.REGISTRIES)}" >> /etc/hosts
echo "ENROOT_ROOTFS_WRITABLE yes" > {_CONFIGURATION}
for hook in {" ".join(_HOOKS)}; do ln -sf /usr/share/enroot/hooks.d/$hook /etc/enroot/hooks.d/$hook; done
serve() {{ setsid "$@" < /dev/null > /dev/null 2>&1 & echo $! >> {_PIDS}; }}
serve socat TCP4-LISTEN:80,bind=127.0.0.1,fork,reuseaddr TCP4:localhost:PORT
serve python3 -m http.server --bind 127.0.0.1 --directory {_PACKAGES} {stand_ins.PACKAGES_PORT}
for try in $(seq 100); do
    ! curl -sf --noproxy '*' -o /dev/null http://registry-1.docker.io/v2/ ||
    ! curl -sf --noproxy '*' -o /dev/null http://localhost:{stand_ins.PACKAGES_PORT}/Packages || exit 0
    sleep 0.1
done
echo "the stand-in for Docker Hub does not answer on this node" >&2; exit 1
"""
_STOP = f"""
[ ! -e {_PIDS} ] || kill $(cat {_PIDS})
[ ! -e {_HOSTS} ] || cat {_HOSTS} > /etc/hosts # a mount: it can't be replaced
for hook in {" ".join(_HOOKS)}; do rm -f /etc/enroot/hooks.d/$hook; done
rm -rf {_PIDS} {_HOSTS} {_CONFIGURATION} {_PACKAGES}
"""
_ADMIT = f"""
set -eu
[ -e ~/{_KEY} ] || {{
    install -d -m 0700 ~/.ssh
    ssh-keygen -q -t ed25519 -N '' -C upstream-suite -f ~/{_KEY}
    cat ~/{_KEY}.pub >> ~/.ssh/authorized_keys
}}
"""
_DISMISS = f"""
grep -qs upstream-suite ~/{_KEY}.pub || exit 0
sed -i /upstream-suite/d ~/.ssh/authorized_keys
rm -f ~/{_KEY} ~/{_KEY}.pub
"""


def prepare(environment: EnvironmentFile) -> None:
    """Make the stand-ins and have every node find them."""
    stand_ins.push_all(environment, stand_ins.read_folder(environment, stand_ins.build(environment, "rootfs"), "/"))
    packages = stand_ins.read_folder(environment, stand_ins.build(environment, "packages"), "/packages")
    assert environment.registry
    start = _START.replace("PORT", environment.registry.rpartition(":")[2])
    restore(environment)  # after a suite that was killed
    for node in _nodes(environment):
        unpack(node, _PACKAGES, packages)
        node.run(start)
    _as_user(environment, _ADMIT)


def restore(environment: EnvironmentFile) -> None:
    """Leave the nodes as they were."""
    for node in _nodes(environment):
        node.run(_STOP)
    _as_user(environment, _DISMISS)


def unpack(node: Node, folder: str, archive: bytes, user: str = "root") -> None:
    """Unpack a tar archive into a folder of a node, which is made."""
    command = f"mkdir -p {folder} && tar --extract --no-same-owner --directory {folder}"
    command += " --gzip" if archive.startswith(b"\x1f\x8b") else ""
    done = subprocess.run(
        [node.client, "exec", "--interactive", "--user", user, node.name, "/bin/sh", "-c", command],
        env={**os.environ, **dict(node.variables)},
        input=archive,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def _nodes(environment: EnvironmentFile) -> list[Node]:
    return [Node.of(environment, index) for index in range(len(environment.containers))]


def _as_user(environment: EnvironmentFile, script: str) -> None:
    # Not a login: HOME has to be said.
    user = environment.login.user
    Node.of(environment).run(f"export HOME=~{user}\n{script}", user=user)


@contextmanager
def opened(environment: EnvironmentFile) -> Iterator[None]:
    """Have the nodes prepared for the block. Of the workers of pytest-xdist the first prepares, the last restores."""
    folder = Path(environment.results)
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "upstream.ready"
    with (folder / "upstream.users").open("w") as users:
        with turn(folder / "upstream.gate"):
            first = _alone(users)
            fcntl.flock(users, fcntl.LOCK_SH)
            if first or not ready.exists():
                ready.unlink(missing_ok=True)
                prepare(environment)
                ready.touch()
        try:
            yield
        finally:
            with turn(folder / "upstream.gate"):
                if _alone(users):
                    ready.unlink(missing_ok=True)
                    restore(environment)


@contextmanager
def turn(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock between processes for the block: alone, or together with all others that share it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def _alone(users: IO[str]) -> bool:
    """Tell whether no other process holds the lock; it is held exclusively then."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
