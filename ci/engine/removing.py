"""Removing what this project has created on a container engine.

All of it has the labels of `ci.engine.labels`. ``reap`` finds it by label alone, so that leftovers of a killed run can
always be removed, and objects of others are never touched.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ci.engine.labels import LABEL, LABEL_NAME, LABEL_OWNER, LABEL_ROLE, LABEL_SCRATCH
from ci.engine.refusals import asking
from ci.terminal import console

if TYPE_CHECKING:  # docker-py is loaded by whoever connects to an engine: see ci/engine/connection.py
    import docker
    from docker.models.containers import Container
    from docker.models.networks import Network
    from docker.models.volumes import Volume

# An engine answers when all files of a volume are removed. On a busy machine, those of a node that ran many containers
# can take longer than one request may last; the engine continues meanwhile.
_REQUESTS_FOR_A_VOLUME = 5
# An engine removes a volume's files one by one. On a disk that discards the blocks of each at once (the mount option
# `discard`) most of that time is waiting: 60,000 files took an engine 6.5 to 9.7 s, and sixteen processes 2.9 to 4.0.
_EMPTY = 'find "$0" -xdev ! -type d -print0 | xargs -0 -r -n 256 -P 16 rm -f'
_EMPTY_SECONDS = 100
"""Less than a request may last (120 s); files that are left then are removed with the volume."""


class _Found(NamedTuple):
    """An object with this project's label."""

    name: str
    labels: Mapping[str, str]
    remove: Callable[[], list[str]]
    """Removes the object, and returns the names of all that was removed with it."""


@dataclass(frozen=True, kw_only=True)
class OwnObjects:
    """The containers, networks, volumes and images of this project on an engine.

    Its methods raise the errors of `ci.engine.refusals`, except that a refused removal is only a warning.
    """

    api: "docker.DockerClient"

    def names_below(self, prefix: str) -> list[str]:
        """Return the names of local images that start with ``prefix``, those with a tag before those with a digest."""
        return [*self._names(prefix, "RepoTags"), *self._names(prefix, "RepoDigests")]

    def untag(self, prefix: str, but: Collection[str] = ()) -> list[str]:
        """Remove the local images whose names start with ``prefix``, except names in ``but``; return the names."""
        removed = []
        # Digests too: an image whose tag was moved to a newer one has only its digest. They are listed after the tags
        # were removed: Podman removes an image's digests with its tags, and would remove an image with all its names
        # for one digest.
        for kind in ("RepoTags", "RepoDigests"):
            for name in (each for each in self._names(prefix, kind) if each not in but):
                removed += remove_object(name, lambda image=name: self.api.images.remove(image))
        return removed

    def untag_exactly(self, name: str) -> None:
        """Remove one name of a local image."""
        remove_object(name, lambda: self.api.images.remove(name))

    def owners(self) -> Counter[str]:
        """Return the number of objects that `reap` would remove, by owner; "" for objects without one."""
        return Counter(found.labels.get(LABEL_OWNER, "") for found in self._all())

    def left(self, labels: Mapping[str, str]) -> list[str]:
        """Return the names of all that `reap` would remove, except images that were pushed to a registry."""
        return [found.name for found in self._with(labels)]

    def reap(self, labels: Mapping[str, str]) -> list[str]:
        """Remove every container, network and volume with this project's label and the given ones; return their names.

        With a registry, the local names of images that were pushed to it are removed, too; so are the names that a run
        gave to images. It is safe to call this twice, and while another process removes the same objects.
        """
        return [name for found in self._with(labels) for name in found.remove()]

    def _names(self, prefix: str, kind: str) -> list[str]:
        with asking(f"looking for images of {prefix}"):
            # The plain list: docker-py's objects would look up each image again, and others may remove some meanwhile.
            images: list[dict[str, Any]] = self.api.api.images()
        return [name for image in images for name in image.get(kind) or () if name.startswith(prefix)]

    def _with(self, labels: Mapping[str, str]) -> list[_Found]:
        # The engine filters by one label only, and the others are compared here: with several, Podman lists volumes
        # that have any of them, and misses images.
        return [found for found in self._all() if labels.items() <= found.labels.items()]

    def _all(self) -> list[_Found]:
        api = self.api
        query: dict[str, Any] = {"label": f"{LABEL}=1"}
        with asking("looking for what is left"):
            containers = api.containers.list(all=True, filters=query, ignore_removed=True)  # as in `_names`
            images: list[dict[str, Any]] = api.api.images(filters=query)  # as in `_names`
            networks, volumes = api.networks.list(filters=query), api.volumes.list(filters=query)
        return [
            # Containers first, because networks and volumes are in use as long as they exist.
            *(_Found(_name(each), each.labels, partial(self._remove_with_pushed, each)) for each in containers),
            *(
                _Found(name, image["Labels"], partial(remove_object, name, partial(api.images.remove, name)))
                for image in images
                if (name := _own_name(image))
            ),
            *(
                _Found(each.name or "", _labels(each), partial(remove_object, each.name or "", each.remove))
                for each in networks
            ),
            *(_Found(each.name, _labels(each), partial(remove_volume, api, each.name)) for each in volumes),
        ]

    def _remove_with_pushed(self, container: "Container") -> list[str]:
        """Remove a container; if it is a registry, first remove the local names of images that were pushed to it."""
        removed: list[str] = []
        # Only a running registry has a port; images were pushed only to one that ran.
        if container.labels.get(LABEL_ROLE) == "registry":
            ports = {binding["HostPort"] for bindings in container.ports.values() for binding in bindings or ()}
            hosts = {"localhost", container.labels.get(LABEL_NAME, "localhost")}
            removed += [tag for port in ports for host in hosts for tag in self.untag(f"{host}:{port}/")]
        return removed + remove_container(container)


def _labels(found: "Network | Volume") -> Mapping[str, str]:
    # An engine writes null for none.
    return found.attrs.get("Labels") or {}


def _name(container: "Container") -> str:
    return container.name or container.id or ""


def _own_name(image: Mapping[str, Any]) -> str:
    """Return the name that a run gave to an image; empty for an image built on that one, which inherits the label."""
    name: str = (image.get("Labels") or {}).get(LABEL_NAME, "")
    # Podman lists names in full.
    return name if {name, f"docker.io/{name}", f"docker.io/library/{name}"} & set(image.get("RepoTags") or ()) else ""


def remove_container(container: "Container") -> list[str]:
    """Kill and remove a container with its anonymous volumes; return its name if this removed it."""
    return remove_object(_name(container), lambda: _kill_and_remove(container))


def remove_volume(api: "docker.DockerClient", name: str) -> list[str]:
    """Remove a volume; return its name if this removed it."""
    return remove_object(name, lambda: api.api.remove_volume(name, force=True), requests=_REQUESTS_FOR_A_VOLUME)


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


def remove_object(name: str, remove: Any, *, requests: int = 1) -> list[str]:  # noqa: ANN401 - docker-py's methods are untyped
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
            # After a timeout the engine went on, so that it was this request that removed it.
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
