"""Removing what this project has created on a container engine.

All of it has the labels of `ci.engine.labels`. ``reap`` finds it by label alone, so that leftovers of a killed run can
always be removed, and objects of others are never touched.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
import time
from typing import TYPE_CHECKING, Any

from ci.engine.labels import LABEL, LABEL_NAME, LABEL_OWNER, LABEL_ROLE, LABEL_SCRATCH
from ci.terminal import console

if TYPE_CHECKING:  # docker-py is loaded by whoever connects to an engine: see ci/engine/connection.py
    import docker
    from docker.models.containers import Container

# An engine answers when all files of a volume are removed. On a busy machine, those of a node that ran many containers
# can take longer than one request may last; the engine continues meanwhile.
_REQUESTS_FOR_A_VOLUME = 5
# An engine removes a volume's files one by one. On a disk that discards the blocks of each at once (the mount option
# `discard`) most of that time is waiting: 60,000 files took an engine 6.5 to 9.7 s, and sixteen processes 2.9 to 4.0.
_EMPTY = 'find "$0" -xdev ! -type d -print0 | xargs -0 -r -n 256 -P 16 rm -f'
_EMPTY_SECONDS = 100
"""Less than a request may last (120 s); files that are left then are removed with the volume."""


def names_below(
    api: "docker.DockerClient", prefix: str, kinds: tuple[str, ...] = ("RepoTags", "RepoDigests")
) -> list[str]:
    """Return the names of local images that start with ``prefix``, those with a tag before those with a digest."""
    # The plain list: docker-py's objects would look up each image again, and others may remove some meanwhile.
    images: list[dict[str, Any]] = api.api.images()
    names: list[str] = [name for kind in kinds for image in images for name in image.get(kind) or ()]
    return [name for name in names if name.startswith(prefix)]


def untag(api: "docker.DockerClient", prefix: str) -> list[str]:
    """Remove the local images whose names start with ``prefix``; return the names."""
    removed = []
    # Digests too: an image whose tag was moved to a newer one has only its digest. They are listed after the tags were
    # removed: Podman removes an image's digests with its tags, and would remove an image with all its names for one.
    for kind in ("RepoTags", "RepoDigests"):
        for name in names_below(api, prefix, (kind,)):
            removed += gone(name, lambda image=name: api.images.remove(image, noprune=False))
    return removed


def _find(api: "docker.DockerClient", filters: Mapping[str, str] | None) -> list[tuple[str, Callable[[], list[str]]]]:
    """Return each object that has this project's label and the given ones: its name, and the function to remove it."""
    # The engine filters by one label only, and the others are compared here: with several, Podman lists volumes that
    # have any of them, and misses images.
    wanted = (filters or {}).items()
    return [(name, remove) for name, labels, remove in _all(api) if wanted <= labels.items()]


def _all(api: "docker.DockerClient") -> list[tuple[str, Mapping[str, str], Callable[[], list[str]]]]:
    """Return each object that has this project's label: its name, its labels, and the function to remove it."""
    query: dict[str, Any] = {"label": f"{LABEL}=1"}

    images: list[dict[str, Any]] = api.api.images(filters=query)  # as in `names_below`
    named = [(name, image.get("Labels") or {}) for image in images if (name := _own_name(image))]
    containers = api.containers.list(all=True, filters=query, ignore_removed=True)
    networks, volumes = api.networks.list(filters=query), api.volumes.list(filters=query)
    return [
        *(
            (container.name or container.id or "", container.labels, partial(_remove_with_pushed, api, container))
            for container in containers
        ),
        *((name, labels, partial(gone, name, partial(api.images.remove, name))) for name, labels in named),
        *(
            (network.name or "", network.attrs.get("Labels") or {}, partial(gone, network.name or "", network.remove))
            for network in networks
        ),
        *(
            (volume.name, volume.attrs.get("Labels") or {}, partial(remove_volume, api, volume.name))
            for volume in volumes
        ),
    ]


def owners(api: "docker.DockerClient") -> Counter[str]:
    """Return the number of objects that ``reap`` would remove, by owner; "" for objects without one."""
    return Counter(labels.get(LABEL_OWNER, "") for _, labels, _ in _all(api))


def left(api: "docker.DockerClient", filters: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of all that ``reap`` would remove, except images that were pushed to a registry."""
    return [name for name, _ in _find(api, filters)]


def reap(api: "docker.DockerClient", filters: Mapping[str, str] | None = None) -> list[str]:
    """Remove every container, network and volume with this project's label (and the given ones); return their names.

    With a registry, the local names of images that were pushed to it are removed, too; so are the names that a run gave
    to images. It is safe to call this twice, and while another process removes the same objects.
    """
    return [name for _, remove in _find(api, filters) for name in remove()]


def _remove_with_pushed(api: "docker.DockerClient", container: "Container") -> list[str]:
    """Remove a container; if it is a registry, first remove the local names of images that were pushed to it."""
    removed: list[str] = []
    # Only a running registry has a port; images were pushed only to one that ran.
    if container.labels.get(LABEL_ROLE) == "registry":
        ports = {binding["HostPort"] for bindings in container.ports.values() for binding in bindings or ()}
        hosts = {"localhost", container.labels.get(LABEL_NAME, "localhost")}
        removed += [tag for port in ports for host in hosts for tag in untag(api, f"{host}:{port}/")]
    return removed + remove_container(container)


def _own_name(image: Mapping[str, Any]) -> str:
    """Return the name that a run gave to an image; empty for an image built on that one, which inherits the label."""
    name: str = (image.get("Labels") or {}).get(LABEL_NAME, "")
    # Podman lists names in full.
    return name if {name, f"docker.io/{name}", f"docker.io/library/{name}"} & set(image.get("RepoTags") or ()) else ""


def remove_container(container: "Container") -> list[str]:
    """Kill and remove a container with its anonymous volumes; return its name if this removed it."""
    return gone(container.name or container.id or "", lambda: _kill_and_remove(container))


def remove_volume(api: "docker.DockerClient", name: str) -> list[str]:
    """Remove a volume; return its name if this removed it."""
    return gone(name, lambda: api.api.remove_volume(name, force=True), requests=_REQUESTS_FOR_A_VOLUME)


def _kill_and_remove(container: "Container") -> None:
    from docker.errors import APIError
    from requests.exceptions import RequestException

    if folder := container.labels.get(LABEL_SCRATCH):
        # Files that this leaves are removed with the folder's volume.
        with suppress(APIError, RequestException):  # the container does not run, or does not answer any more
            container.exec_run(["timeout", str(_EMPTY_SECONDS), "sh", "-c", _EMPTY, folder], user="root")
    # For Docker, removing by force is enough. Podman would first stop the container, and wait ten seconds for its end.
    with suppress(APIError):  # the container does not run
        container.kill()
    container.remove(force=True, v=True)


def gone(name: str, remove: Any, *, requests: int = 1) -> list[str]:  # noqa: ANN401 - docker-py's methods are untyped
    """Remove one object and return its name; nothing if another process removed it. After a failure, only warn.

    :param requests: how many requests may stay without an answer.
    """
    from docker.errors import APIError, NotFound
    from requests.exceptions import ReadTimeout, RequestException

    problem: Exception | None = None
    for _ in range(5):
        try:
            remove()
        except NotFound:
            return [name] if isinstance(problem, ReadTimeout) else []
        except APIError as error:
            problem = error
            # With these an engine refuses an object while another process is removing it, or a container that uses it.
            if error.status_code not in {409, 500, 403}:
                break
            time.sleep(0.2)
        except RequestException as error:
            problem = error
            requests -= 1
            # After a timeout the engine may still be at work. After any other failure it can't be reached.
            if not requests or not isinstance(error, ReadTimeout):
                break
        else:
            return [name]
    console.warn(f"{name} could not be removed: {problem}")
    return []
