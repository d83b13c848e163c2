"""The image cache: a repository of any registry that keeps built images, so that other machines need not build them.

The tag of an image there has the hash of its content, as its local tag has. A cache only saves time: if it fails, that
is said once, and images are built.

Images with the package under test are not kept there: they are cheap, and a checkout may be private.
"""

from collections.abc import Mapping
from contextlib import suppress
import os
from pathlib import Path
import re

from ci.engine import references
from ci.engine.connection import Engine, Image
from ci.engine.labels import LABEL_CONTENT
from ci.errors import ArtefactError, PyxisMatrixError
from ci.images.content import Content
from ci.terminal import console
from ci.terminal.processes import Completed

VARIABLE = "PYXIS_MATRIX_IMAGE_CACHE"
READ_ONLY_VARIABLE = "PYXIS_MATRIX_IMAGE_CACHE_READ_ONLY"
"""If set to anything, nothing is pushed. For CI of unreviewed changes, whose images other machines must not use."""

_LONGEST_TAG = 128  # https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_ADDRESS = re.compile(rf"{references.HOST}(?:/{references.PART})+")

# The clients' messages, which differ between registries. Some deny access to an image that they do not have, so that
# nobody learns which images they have.
_HAS_NOT = re.compile(r"manifest unknown|name unknown|manifest for \S+ not found|: not found$", re.MULTILINE)
_DENIED = re.compile(r"denied|unauthorized|forbidden|basic auth credentials|authentication required", re.IGNORECASE)


def address(environ: Mapping[str, str] = os.environ) -> str:
    """Return the repository of the image cache, as ``HOST/REPOSITORY``; empty where none is named.

    :raises ArtefactError: if the value is no such name.
    """
    named = environ.get(VARIABLE, "").strip().rstrip("/")
    if named and not _ADDRESS.fullmatch(named):
        raise ArtefactError(
            "the name of the image cache is invalid",
            # Not shown if it may contain a password.
            where=f"{VARIABLE}={named}" if "@" not in named else VARIABLE,
            why="it has to be a registry and a repository there, without https://, tag or password",
            next_step="write it like ghcr.io/OWNER/image-cache; for a password there is `docker login HOST`",
        )
    return named


def read_only(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the image cache may be read only."""
    return bool(environ.get(READ_ONLY_VARIABLE, "").strip())


class ImageCache:
    """One repository, in which each image has a tag of its own."""

    def __init__(self, engine: Engine, repository: str, *, log: Path) -> None:
        """Use a repository, with the logins of the engine's client, whose output is added to ``log``."""
        self._engine = engine
        self._repository = repository
        self._log = log
        self._readable, self._writable = True, not read_only()
        self._foreign: set[str] = set()

    def reference(self, content: Content) -> str:
        """Return the name that an image has in the cache."""
        plan, end = content.plan, f"-{content.fingerprint}"
        # If it is too long the variant is cut, never the hash.
        return f"{self._repository}:{f'{plan.folder}-{plan.variant}'[: _LONGEST_TAG - len(end)]}{end}"

    def keeps(self, content: Content) -> bool:
        """Tell whether an image belongs into the cache: it is built here, and has no package under test."""
        return not content.pulled and content.plan.wheels is None

    def pull(self, content: Content) -> bool:
        """Pull an image and give it its local name; False if the cache does not have it, or does not work."""
        if not (self._readable and self.keeps(content)):
            return False
        reference = self.reference(content)
        try:
            done = self._client("pull", "--platform", content.plan.arch.platform, reference)
            if not done.ok:
                self._not_pulled(reference, done)
                return False
            return self._accepted(self._engine.image(reference), content)
        except PyxisMatrixError as problem:
            self._useless(reference, problem.why)
            return False
        finally:
            self._forget(reference)

    def push(self, content: Content) -> None:
        """Add an image, unless the cache has it; after the first failure nothing more is pushed."""
        reference = self.reference(content)
        if not (self._writable and self.keeps(content)) or reference in self._foreign:
            return
        try:
            image = self._engine.image(content.tag)
            # Images from before this label existed would be refused when they are pulled, so they are not pushed.
            if image.labels.get(LABEL_CONTENT) != content.digest or self._engine.registry_digest(reference) is not None:
                return
            self._engine.tag(str(image.id), reference)
            done = self._client("push", reference)
            why = "" if done.ok else _last_words(done)
        except PyxisMatrixError as problem:
            why = problem.why
        finally:
            self._forget(reference)
        if why:
            self._writable = False
            self._warn("the image cache could not be written; new images stay on this machine", reference, why)

    def _client(self, verb: str, *words: str) -> Completed:
        # Docker assumes plain http for a registry on loopback; Podman needs an option for it.
        option = references.podman_words(self._repository) if self._engine.found.kind == "podman" else []
        return self._engine.run_client(verb, *option, *words, log=self._log)

    def _not_pulled(self, reference: str, done: Completed) -> None:
        words = done.output
        if _HAS_NOT.search(words):
            return
        if _DENIED.search(words):
            # Only reading is given up: some registries deny a repository that does not exist yet, and the first push
            # creates it.
            self._readable = False
            self._warn("the image cache could not be read; images are built here", reference, _last_words(done))
        else:
            self._useless(reference, _last_words(done))

    def _useless(self, reference: str, why: str) -> None:
        self._readable = self._writable = False
        self._warn("the image cache does not work; images are built here", reference, why)

    def _accepted(self, image: Image, content: Content) -> bool:
        """Give a pulled image its local name, if it is what its tag says."""
        label, architecture = image.labels.get(LABEL_CONTENT, "missing"), image.attrs["Architecture"]
        said = (("label", label, content.digest), ("architecture", architecture, content.plan.arch.value))
        if not (wrong := [f"its {name} is {found}, not {wanted}" for name, found, wanted in said if found != wanted]):
            self._engine.tag(str(image.id), content.tag)
            return True
        # The tag belongs to somebody else, so it is not overwritten either.
        reference = self.reference(content)
        self._foreign.add(reference)
        problem = ArtefactError(
            "the image cache holds another image under this tag; it is refused, and the image is built here",
            where=reference,
            why="; ".join(wrong),
            next_step="remove that tag from the cache; nothing else may write there",
        )
        console.warn(str(problem))
        return False

    def _forget(self, reference: str) -> None:
        """Remove the cache's name from the engine; the image has its local one."""
        with suppress(PyxisMatrixError):
            # Only the name: the layers stay, as the image has its local name as well.
            if self._engine.image_exists(reference):
                self._engine.untag_exactly(reference)

    def _warn(self, what: str, where: str, why: str) -> None:
        host = self._repository.partition("/")[0]
        login, repair = f"docker login {host}, as somebody who may", f"unset {VARIABLE}, or repair the registry"
        remedy = login if _DENIED.search(why) else repair
        console.warn(str(ArtefactError(what, where=where, why=why, next_step=remedy)))


def _last_words(done: Completed) -> str:
    return done.tail(1) or f"exit code {done.exit_code}, no output"
