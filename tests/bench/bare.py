"""A cell's cluster by bare commands of the docker client, as one would type them, with the same images and settings."""

from collections.abc import Iterator, Mapping
import io
import os
import subprocess
import tarfile
import time

from ci.engine.connection import Engine, InsideFile
from ci.engine.labels import labels
from ci.environment import cluster, registry
from ci.environment.cluster import Secrets
from ci.environment.plan import EnvironmentPlan
from ci.environment.service import Service
from ci.errors import EngineError, LaunchError
from ci.images.building import BuiltCell
from tests.support.markers import IMAGE_MARKER, IMAGE_MARKER_TEXT

_LIMIT_SECONDS = 120.0
_IDLE = 'test "$(sinfo --noheader --Node --format %T | sort -u)" = idle'


class Bare:
    """The commands that bring one environment up, use it, and take it down."""

    def __init__(self, engine: Engine, plan: EnvironmentPlan, images: BuiltCell) -> None:
        """Make ready what no command has to do: names and keys."""
        if engine.found.kind != "docker" or images.registry is None or images.job is None:
            raise EngineError(
                "the bare commands are those of Docker for a cell with containers",
                where=f"{plan.cell.id} on {engine.found.kind}",
                next_step="take another cell or engine, or leave this comparison out",
            )
        self._engine = engine
        self._plan = plan
        self._keys = Secrets.new(password=False)
        filled = registry.filled_name(images.registry.identity, images.job.identity)
        self._registry = filled if engine.image_exists(filled) else images.registry.tag
        self._node, self._job = images.node.tag, images.job.tag
        self._reference = ""

    def up(self) -> None:
        """Start network, volumes, registry and node, without waiting for Slurm."""
        names = self._plan.names
        self._docker("network", "create", *self._labels("network"), names.network)
        for volume in (names.home_volume, names.data_volumes[0]):
            self._docker("volume", "create", *self._labels("volume"), volume)
        self._start(registry.planned(self._registry, names.registry, hostname=names.registry_hostname))
        published = self._docker("port", names.registry, f"{registry.PORT}/tcp")
        port = int(published.splitlines()[0].rpartition(":")[2])
        self._reference = f"localhost:{port}/bench/job:1"
        self._start(cluster.planned_node(self._plan, 0, image=self._node, keys=self._keys, registry_port=port))

    def wait(self, every: float) -> None:
        """Ask again and again whether the node is idle."""
        until = time.monotonic() + _LIMIT_SECONDS
        while self._exec(_IDLE).returncode != 0:
            if time.monotonic() > until:
                raise LaunchError(f"the node was not idle within {_LIMIT_SECONDS:g} s", where=self._plan.names.nodes[0])
            time.sleep(every)

    def push(self) -> None:
        """Push the job image."""
        self._docker("tag", self._job, self._reference)
        self._docker("push", "--quiet", self._reference)

    def job(self) -> None:
        """Run one job in a container."""
        image = self._reference.replace("/", "#", 1)
        done = self._exec(f"srun --container-image={image} cat {IMAGE_MARKER}", user="tester")
        if done.stdout.strip() != IMAGE_MARKER_TEXT:
            raise LaunchError("a bare job did not run in its image", why=f"{done.stdout}{done.stderr}")

    def down(self) -> None:
        """Remove all of it, whether or not it is there."""
        names = self._plan.names
        self._run("rm", "--force", "--volumes", *names.nodes, names.registry)
        self._run("network", "rm", names.network)
        self._run("volume", "rm", "--force", names.home_volume, *names.data_volumes)
        if self._reference:
            self._run("image", "rm", self._reference)

    def _start(self, wanted: Service) -> None:
        self._docker(*created(wanted, self._plan.names.network, self._labels(wanted.role)))
        self._docker("cp", "-", f"{wanted.name}:/", stdin=archive(wanted.files))
        self._docker("start", wanted.name)

    def _labels(self, role: str) -> list[str]:
        """Return the project's labels, so that what a killed run leaves is found."""
        its = labels(self._plan.options.run, self._plan.cell.id, role)
        return [word for name, value in its.items() for word in ("--label", f"{name}={value}")]

    def _exec(self, command: str, user: str = "root") -> "subprocess.CompletedProcess[str]":
        return self._run("exec", "--user", user, self._plan.names.nodes[0], "/bin/bash", "-lc", f"cd && {command}")

    def _docker(self, *words: str, stdin: bytes | None = None) -> str:
        done = self._run(*words, stdin=stdin)
        if done.returncode != 0:
            raise LaunchError(f"docker {words[0]} failed", where=" ".join(words), why=done.stderr)
        return done.stdout

    def _run(self, *words: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[str]":
        client = self._engine.build_client
        done = subprocess.run(
            [str(client.path), *words],
            env={**os.environ, **self._engine.found.environment, **client.environment},
            input=stdin,
            capture_output=True,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )


def created(wanted: Service, network: str, labelled: list[str]) -> list[str]:
    """Return the words of ``docker`` that create a service's container."""
    return ["create", *_options(wanted, network), *labelled, wanted.image]


def _options(wanted: Service, network: str) -> Iterator[str]:
    yield from ("--name", wanted.name, "--hostname", wanted.hostname)
    yield from ("--network", network, "--network-alias", wanted.hostname)
    for name, value in wanted.environment.items():
        yield from ("--env", f"{name}={value}")
    for it in wanted.mounts:
        read_only = ",readonly" if it.get("ReadOnly") else ""
        yield from ("--mount", f"type={it['Type']},source={it['Source']},target={it['Target']}{read_only}")
    for inside, outside in wanted.ports.items():
        yield from ("--publish", f"127.0.0.1:{outside or ''}:{inside}")
    for folder in wanted.tmpfs:
        yield from ("--tmpfs", f"{folder}:exec,mode=755")
    rights = wanted.rights
    for name in rights.capabilities:
        yield from ("--cap-add", name)
    for name in rights.dropped:
        yield from ("--cap-drop", name)
    for name in (*rights.security_options, *(("systempaths=unconfined",) if rights.whole_proc else ())):
        yield from ("--security-opt", name)
    for name in rights.devices:
        yield from ("--device", name)


def archive(files: Mapping[str, InsideFile]) -> bytes:
    """Return files as ``docker cp -`` takes them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
            entry.uid, entry.gid = file.uid, file.gid
            out.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()
