"""Stand-ins for the images that Pyxis' tests name: made here, so that nothing is pulled, wherever they run.

A stand-in is not the image whose name it bears. It is Debian with what the tests look for: the release's name, an entry
point that does what the real one is known for, variables, a program in an unusual place. Names follow the test files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
import os
from pathlib import Path
import subprocess

from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.web import ca_bundle
from tests.support.oci.images import Image, push
from tests.support.oci.layers import Entry, File, Layer
from tests.support.registry_client import RegistryClient

# Where the nodes serve the packages that the tests install.
PACKAGES_PORT = 8099
# Names that lead to the cell's registry for as long as the suite runs, on the nodes only.
REGISTRIES = ("registry-1.docker.io", "docker.io", "nvcr.io", "gcr.io", "registry.gitlab.com")

_BUILD_SECONDS = 900.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """What one image has beyond Debian."""

    name: str
    """REPOSITORY:TAG in the registry; Docker Hub's official images are below ``library/``."""
    files: Mapping[str, Entry] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""


def program(text: str) -> File:
    """Make a shell script."""
    return File(content=f"#!/bin/sh\n{text}\n".encode(), mode=0o755)


def _ubuntu(version: str, pretty: str) -> StandIn:
    return StandIn(
        name=f"library/ubuntu:{version}",
        files={"/etc/os-release": f'PRETTY_NAME="{pretty}"\nID=ubuntu\nVERSION_ID="{version}"\n'},
    )


def _red_hat(name: str, release: str) -> StandIn:
    return StandIn(name=f"library/{name}", files={"/etc/redhat-release": f"{release}\n"})


def _cuda(version: str, flavour: str, ubuntu: str) -> StandIn:
    entry = "/opt/nvidia/nvidia_entrypoint.sh"
    return StandIn(
        name=f"nvidia/cuda:{version}-{flavour}-ubuntu{ubuntu}",
        files={
            "/etc/os-release": f'PRETTY_NAME="Ubuntu {ubuntu} LTS"\n',
            entry: program('echo "==========\n== CUDA ==\n=========="\nexec "$@"'),
        },
        # Not NVIDIA_VISIBLE_DEVICES: enroot's hook would look for a GPU that none of the tests that run here wants.
        env={"CUDA_VERSION": version, "LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"},
        entrypoint=(entry,) if flavour == "runtime" else (),
    )


def _pytorch(name: str, version: str) -> StandIn:
    return StandIn(name=name, env={"PYTORCH_VERSION": version}, workdir="/workspace", files={"/workspace/README": ""})


_NGINX_CONFIGURATION = "/etc/nginx/conf.d/default.conf"

STAND_INS = (
    _ubuntu("12.04", "Ubuntu precise (12.04 LTS)"),
    *(_ubuntu(version, f"Ubuntu {version} LTS") for version in ("14.04", "16.04", "18.04", "20.04", "22.04", "24.04")),
    _ubuntu("26.04", "Ubuntu 26.04 LTS (Resolute Raccoon)"),
    _red_hat("centos:5", "CentOS release 5.11 (Final)"),
    _red_hat("centos:6", "CentOS release 6.10 (Final)"),
    _red_hat("centos:7", "CentOS Linux release 7.9"),
    _red_hat("centos:8", "CentOS Linux release 8.4"),
    _red_hat("almalinux:9", "AlmaLinux release 9"),
    _cuda("11.8.0", "base", "20.04"),
    _cuda("11.8.0", "base", "22.04"),
    _cuda("12.5.1", "runtime", "24.04"),
    _cuda("12.9.1", "base", "24.04"),
    _cuda("12.9.1", "runtime", "24.04"),
    _pytorch("nvidia/pytorch:20.02-py3", "1.5.0a0+3bbb36e"),
    _pytorch("nvidia/pytorch:22.04-py3", "1.12.0a0+bd13bc6"),
    _pytorch("pytorch/pytorch:1.8.1-cuda11.1-cudnn8-runtime", "1.8.1"),
    # The program takes `true` for the name of a film.
    StandIn(
        name="jrottenberg/ffmpeg:3.2-alpine",
        files={"/usr/local/bin/ffmpeg": program('echo "$*: No such file or directory" >&2; exit 1')},
        entrypoint=("ffmpeg",),
    ),
    # Its entry point edits the configuration before it starts the server.
    StandIn(
        name="library/nginx:1.19.1",
        files={
            "/usr/sbin/nginx": program("echo nginx version: nginx/1.19.1 >&2"),
            _NGINX_CONFIGURATION: "server {\n    listen       80;\n}\n",
            "/docker-entrypoint.sh": program(
                "sed -i 's/listen       80;/listen       80;\\n    listen  [::]:80;/' "
                f'{_NGINX_CONFIGURATION} && exec "$@"'
            ),
        },
        entrypoint=("/docker-entrypoint.sh",),
    ),
    # Its entry point sets a variable that depends on another one.
    StandIn(
        name="library/docker:26.1.0-dind-rootless",
        files={
            "/usr/local/bin/dockerd-entrypoint.sh": program(
                'if [ -z "${DOCKER_HOST:-}" ]; then\n'
                '    port=2375; [ -z "${DOCKER_TLS_VERIFY:-}" ] || port=2376\n'
                '    export DOCKER_HOST="tcp://docker:$port"\n'
                'fi\nexec "$@"'
            )
        },
        entrypoint=("dockerd-entrypoint.sh",),
    ),
    StandIn(name="library/redis:5.0.8", files={"/usr/local/bin/redis-server": program("echo Redis server v=5.0.8")}),
    StandIn(
        name="library/rabbitmq:3.8.3",
        files={"/opt/rabbitmq/sbin/rabbitmqctl": program("echo 3.8.3")},
        env={"PATH": f"/opt/rabbitmq/sbin:{_PATH}"},
    ),
)


def build(environment: EnvironmentFile, target: str) -> str:
    """Build one stage of the Containerfile; return the image's name, which goes when the environment does."""
    folder = Path(__file__).parent
    tag = f"{environment.registry}/pyxis-matrix/upstream:{target}"
    command = [environment.engine_client, "build", "--target", target, "--tag", tag]
    command += ["--build-arg", f"JOB_IMAGE={environment.job_image}"]
    if bundle := ca_bundle():
        command += ["--secret", f"id=ca-bundle,src={bundle}"]
    done = _engine(environment, *command, "--file", str(folder / "Containerfile"), str(folder))
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return tag


def read_folder(environment: EnvironmentFile, image: str, folder: str) -> bytes:
    """Return a folder of an image as an archive, as it is in the image: without what the engine mounts over it."""
    command = [environment.engine_client, "run", "--rm", "--network", "none", image]
    command += ["tar", "--one-file-system", "--exclude", "./.dockerenv", "--directory", folder, "--create", "."]
    done = _engine(environment, *command)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def _engine(environment: EnvironmentFile, *command: str) -> subprocess.CompletedProcess[bytes]:
    variables = {**os.environ, **environment.engine_environment}
    return subprocess.run(command, env=variables, capture_output=True, timeout=_BUILD_SECONDS, check=False)


def push_all(environment: EnvironmentFile, rootfs: bytes) -> None:
    """Put all stand-ins into the cell's registry; they share everything but one small layer each."""
    assert environment.registry
    registry = RegistryClient(environment.registry)
    common = {
        "/etc/apt/sources.list": f"deb [trusted=yes] http://localhost:{PACKAGES_PORT}/ ./\n",
        # enroot starts a container through a login shell, and Debian's profile then replaces the image's PATH; Ubuntu's
        # has nothing of the kind.
        "/etc/profile": "",
    }
    base = (Layer(tar=rootfs), Layer.of(common))
    for it in STAND_INS:
        image = Image(
            layers=(*base, Layer.of(it.files)) if it.files else base,
            arch=Arch(environment.arch),
            env={"PATH": _PATH, **it.env},
            entrypoint=it.entrypoint,
            cmd=("/bin/bash",),
            workdir=it.workdir,
        )
        repository, _, tag = it.name.rpartition(":")
        push(registry, repository, tag, image)
