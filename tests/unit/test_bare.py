"""The bare commands ask the engine for what the launcher asks it for."""

import io
import tarfile

from docker.types import Mount

from ci.engine.connection import InsideFile, packed
from ci.environment.service import Rights, Service, mount
from tests.bench.bare import created

NODE = Service(
    role="controller",
    image="node:1",
    name="run-n1",
    hostname="n1",
    environment={"NODE_ROLE": "controller"},
    mounts=(mount("/home", "run-home"), mount("/src", "/src", "bind", read_only=True)),
    ports={22: 0},
    tmpfs=("/run",),
    rights=Rights(
        capabilities=("SYS_ADMIN",),
        dropped=("NET_RAW",),
        security_options=("seccomp=unconfined",),
        devices=("/dev/fuse",),
        whole_proc=True,
    ),
)


def test_a_container_is_created_with_all_that_a_node_needs() -> None:
    words = created(NODE, "net", ["--label", "a=b"])
    assert words[0] == "create"
    assert words[-1] == "node:1"
    pairs = set(zip(words[1:-1:2], words[2:-1:2], strict=True))
    assert pairs == {
        ("--name", "run-n1"),
        ("--hostname", "n1"),
        ("--network", "net"),
        ("--network-alias", "n1"),
        ("--env", "NODE_ROLE=controller"),
        ("--mount", "type=volume,source=run-home,target=/home"),
        ("--mount", "type=bind,source=/src,target=/src,readonly"),
        ("--publish", "127.0.0.1::22"),
        ("--tmpfs", "/run:exec,mode=755"),
        ("--cap-add", "SYS_ADMIN"),
        ("--cap-drop", "NET_RAW"),
        ("--security-opt", "seccomp=unconfined"),
        ("--security-opt", "systempaths=unconfined"),
        ("--device", "/dev/fuse"),
        ("--label", "a=b"),
    }


def test_a_mount_is_what_the_engines_library_makes_of_it() -> None:
    assert NODE.mounts == (Mount("/home", "run-home"), Mount("/src", "/src", type="bind", read_only=True))


def test_files_keep_mode_and_owner() -> None:
    found = packed({"/etc/munge/munge.key": InsideFile(content=b"key", mode=0o400, uid=7)})
    with tarfile.open(fileobj=io.BytesIO(found)) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.mode, entry.uid, entry.size) == ("etc/munge/munge.key", 0o400, 7, 3)
