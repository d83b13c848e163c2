"""Builds the images of a plan that the engine does not have yet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
import hashlib
import os
from pathlib import Path
import tempfile
import time
from urllib.parse import urlsplit

from filelock import FileLock

from ci import paths
from ci.artefacts import sources
from ci.artefacts.releases import Artefact
from ci.artefacts.sources import Fetched, Sources
from ci.engine import emulation
from ci.engine.connection import Engine
from ci.engine.labels import LABEL, LABEL_CONTENT
from ci.errors import BuildError, NotRunError
from ci.images import base, cache, subject
from ci.images.cache import ImageCache
from ci.images.content import Content, ContextFile
from ci.images.observing import Observed, check_slurm, observe
from ci.images.plan import CellImages, ImagePlan, Wheels
from ci.images.subject import Wheelhouse
from ci.images.wheels import Target
from ci.matrix.arch import Arch
from ci.options import Options
from ci.options.inputs import check_open_to_jobs
from ci.terminal import console
from ci.web import ca_bundle

COMPILE_EMULATED_VARIABLE = "PYXIS_MATRIX_COMPILE_EMULATED"
# In both spellings, because programs differ: curl, for one, reads http_proxy in lower case only.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class ImageOrigin(StrEnum):
    """How a session got an image."""

    BUILT = "built"
    PULLED = "pulled"
    """From a registry: an image from outside, or one of the image cache."""
    REUSED = "reused"
    """The engine had it already."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image in the engine."""

    content: Content
    identity: str
    """The engine's content-addressed id of the image (sha256:…)."""
    how: ImageOrigin
    seconds: float
    size: int
    """Bytes, including layers that are shared with other images."""
    origin: str = ""
    """Where an image from outside comes from (see `ci.images.base`); empty for all others."""

    @property
    def plan(self) -> ImagePlan:
        """The image's plan."""
        return self.content.plan

    @property
    def tag(self) -> str:
        """The image's local name."""
        return self.content.tag


@dataclass(frozen=True, kw_only=True)
class BuiltCell:
    """The images of a cell in the engine."""

    node: Built
    registry: Built | None
    job: Built | None
    accounting: Built | None
    observed: Observed
    """The versions inside its Slurm."""
    artefacts: tuple[Fetched, ...]
    """The release files that the images were built from."""
    node_wheels: Wheelhouse | None = None
    """The wheels for pip on the nodes."""
    base_wheels: Wheelhouse | None = None
    """The wheels for pip in an image that is built from one of ``--base-image``."""


def sources_of(options: Options) -> Sources:
    """Return the sources of release files that a session's options name."""
    return Sources.from_environment(options.mirror, strict=options.strict)


class Builder:
    """Builds images. ``done`` has those that were built or reused, ``fetched`` the release files."""

    def __init__(self, engine: Engine, where: Sources, *, logs: Path, share_all: bool = False) -> None:
        """Build in ``engine``, with artefacts from ``where``; each build's output goes to a file in ``logs``.

        If the environment names an image cache, what is built is pushed there; with ``share_all`` also what is reused.
        """
        self._engine = engine
        self._where = where
        self._logs = logs
        named = cache.address()
        self._cache = ImageCache(engine, named, log=logs / "image-cache.log") if named else None
        self._share = {ImageOrigin.BUILT, ImageOrigin.REUSED} if share_all else {ImageOrigin.BUILT}
        self.done: list[Built] = []
        self.fetched: list[Fetched] = []
        # Pairs in a list: a plan has mappings in it, and so no hash.
        self._failed: list[tuple[ImagePlan, Exception]] = []

    def build(self, planned: CellImages) -> BuiltCell:
        """Build all images of a cell. Missing or wrong files are found before the long builds.

        :raises EngineError: if the engine's architecture is not the cell's, and there is no emulator for that.
        :raises NotRunError: if a Slurm would have to be compiled under emulation.
        :raises ArtefactError, ChecksumError, SubjectError, BuildError: if making an image fails.
        """
        cell = planned.cell
        if self._engine.emulates(cell.arch):
            emulation.check(cell.arch)
        artefacts = tuple(self._fetch(artefact) for artefact in planned.artefacts)
        # First of all: another Slurm than the cell's id says makes all that is built on it useless.
        observed = observe(self._engine, self.ensure(planned.slurm).identity)
        check_slurm(observed, planned.slurm.name, cell.slurm)
        # Before the other images, so that a package that no index has is found before the long builds.
        node_wheels, base_wheels = (
            self._wheelhouse(wheels, cell.arch) if wheels else None
            for wheels in (planned.node_wheels, planned.base_wheels)
        )
        # Parents first. What follows finds all of them in `done`.
        for image in planned.all():
            self.ensure(image)
        return BuiltCell(
            node=self.ensure(planned.node),
            registry=self.ensure(planned.registry) if planned.registry else None,
            job=self.ensure(planned.job) if planned.job else None,
            accounting=self.ensure(planned.accounting) if planned.accounting else None,
            observed=observed,
            artefacts=artefacts,
            node_wheels=node_wheels,
            base_wheels=base_wheels,
        )

    def ensure(self, wanted: ImagePlan) -> Built:
        """Build an image and its ancestors, unless they exist. An image that failed once is not built again."""
        for member in wanted.family():
            if failed := next((error for plan, error in self._failed if plan == member), None):
                raise failed
            if self._find(member) is None:
                try:
                    self.done.append(self._ensure_one(member))
                except Exception as error:
                    # Cells share images: what took a compiler ten minutes to fail is not tried again for each of them.
                    self._failed.append((member, error))
                    raise
        return self._built(wanted)

    def has(self, wanted: ImagePlan) -> bool:
        """Tell whether an image and its ancestors exist; nothing is built to find that out."""
        for member in wanted.family():
            if self._find(member) is None:
                # A tag is made from the tags of the parents, so these have to be known, oldest first.
                ways = [*self._pulled(member), self._content(member)]
                if not any(self._engine.image_exists(way.tag) for way in ways):
                    return False
                self.done.append(self._ensure_one(member))
        return True

    def _find(self, plan: ImagePlan) -> Built | None:
        return next((built for built in self.done if built.plan == plan), None)

    def _built(self, plan: ImagePlan) -> Built:
        built = self._find(plan)
        if built is None:
            raise LookupError(f"{plan.name} was not built; family() has to come first")
        return built

    def _content(self, plan: ImagePlan) -> Content:
        """Collect the content of an image whose parents exist."""
        fetched = [self._fetch(artefact) for artefact in plan.artefacts]
        # By the sha256 of the tar inside: the same sources, compressed differently, are the same image.
        context = [
            ContextFile(
                source=file.path, target=f"artefacts/{file.artefact.name}", sha256=file.content, copied=file.sha256
            )
            for file in fetched
        ]
        if plan.wheels:
            context += wheel_context(self._wheelhouse(plan.wheels, plan.arch), editable=plan.wheels.editable)
        parents = {name: self._built(parent).tag for name, parent in plan.parents.items()}
        return Content(plan=plan, parents=parents, context=tuple(context))

    def _fetch(self, artefact: Artefact) -> Fetched:
        for fetched in self.fetched:
            if fetched.artefact == artefact:
                return fetched
        self.fetched.append(sources.fetch(artefact, self._where))
        return self.fetched[-1]

    def _wheelhouse(self, wheels: Wheels, arch: Arch) -> Wheelhouse:
        if isinstance(wheels.python, str):
            python = wheels.python
        else:
            python = observe(self._engine, self.ensure(wheels.python).identity).python
        target = Target(python=python, arch=arch, glibc=wheels.glibc)
        limits = wheels.subject.constraints
        if wheels.checkout is None:
            wanted = [wheels.subject.requirement, *wheels.beside]
            return subject.wheelhouse(wanted, limits, target=target)
        house = subject.checkout_wheelhouse(wheels.checkout, limits, beside=wheels.beside, target=target)
        # The nodes mount it, and the job user has to be able to read it.
        if wheels.editable and house.checkout:
            check_open_to_jobs(house.checkout)
        return house

    def _ensure_one(self, plan: ImagePlan) -> Built:
        started = time.monotonic()
        # Sessions that run at the same time need the same images: the second one waits here, and then finds the image.
        name = f"{plan.folder}-{plan.variant}".replace("/", "_")
        with FileLock(paths.make_directory(paths.cache_dir() / "locks") / f"{name}.lock"):
            built = self._content(plan)
            ways = [*self._pulled(plan), built]
            content = next((way for way in ways if self._engine.image_exists(way.tag)), None)
            how = ImageOrigin.REUSED
            if content is None:
                with console.step(f"image {plan.name}") as step:
                    content, how = self._obtain(ways, built)
                    step.note = how.value
        # Outside of the lock: nobody waits here for an upload.
        if self._cache and how in self._share:
            self._cache.push(content)
        image = self._engine.image(content.tag)
        self._check_architecture(content, str(image.attrs["Architecture"]))
        return Built(
            content=content,
            identity=image.id or "",
            how=how,
            seconds=round(time.monotonic() - started, 3),
            size=int(image.attrs["Size"]),
            origin=base.origin(image.attrs) if plan.folder == "base" or content.pulled else "",
        )

    def _obtain(self, ways: list[Content], built: Content) -> tuple[Content, ImageOrigin]:
        """Pull an image from a registry or from the image cache, or else build it; return its content, and how."""
        for way in ways:
            if way.pulled and self._engine.pull(way.pulled, way.plan.arch.platform):
                self._engine.tag(way.pulled, way.tag)
                return way, ImageOrigin.PULLED
        if self._cache and self._cache.pull(built):
            return built, ImageOrigin.PULLED
        self._make(built)
        return built, ImageOrigin.BUILT

    def _pulled(self, plan: ImagePlan) -> list[Content]:
        """Return the image that may be pulled instead of built: by its pinned digest, or by tag if none is pinned."""
        if not plan.pulled_as:
            return []
        pin = self._where.image_pins.get(plan.pulled_as)
        return [Content(plan=plan, parents={}, pulled=pin.pinned if pin else plan.pulled_as)]

    def _make(self, content: Content) -> None:
        plan, emulated = content.plan, self._engine.emulates(content.plan.arch)
        if plan.folder != "base":
            if plan.is_compiled and emulated:
                self._check_patience(plan)
            self._build(content, content.write)
            return
        with base.root_of(content, log=self._log(content)) as (root, labels):
            if emulated:
                # By a build and not by an import: Docker 20.10 ignores a platform given for an import, and labels the
                # image with the engine's own architecture.
                self._build(content, lambda context: base.as_context(root, context), labels)
            else:
                base.add(self._engine, root, content.tag, labels)

    def _check_patience(self, plan: ImagePlan) -> None:
        if not os.environ.get(COMPILE_EMULATED_VARIABLE):
            raise NotRunError(
                f"{plan.name} is not compiled under emulation",
                why="it takes an hour and more, where a machine of that architecture takes minutes",
                next_step=f"build it on {plan.arch} hardware and share it with an image cache ({cache.VARIABLE}), "
                f"or set {COMPILE_EMULATED_VARIABLE}=1 to compile it here",
            )

    def _check_architecture(self, content: Content, found: str) -> None:
        if found != content.plan.arch.value:
            raise BuildError(
                f"the image {content.tag} has the wrong architecture",
                why=f"wanted {content.plan.arch}, found {found}",
                next_step=f"docker image rm {content.tag}, then try again",
            )

    def _build(self, content: Content, write: Callable[[Path], None], labels: Mapping[str, str] | None = None) -> None:
        """Build an image.

        :param write: writes the context into a folder, which does not exist yet.
        """
        wanted, log = content.plan, self._log(content)
        with tempfile.TemporaryDirectory(prefix="pyxis-matrix-build-") as folder:
            context = Path(folder) / "context"
            write(context)
            more = [word for name, value in (labels or {}).items() for word in ("--label", f"{name}={value}")]
            self._engine.run_client(*self._build_command(content, context), *more, log=log).check(
                BuildError,
                f"building the image {wanted.name} failed",
                where=str(log),
                next_step=f"read the log of the build; its files are in containers/{wanted.folder}",
            )

    def _build_command(self, content: Content, context: Path) -> list[str]:
        """Return the arguments of the client."""
        wanted = content.plan
        command = ["build", "--tag", content.tag, "--label", f"{LABEL}=1"]
        # All of the digest; the tag has twelve digits of it. The image cache compares it.
        command += ["--label", f"{LABEL_CONTENT}={content.digest}"]
        command += ["--file", str(context / "Containerfile"), "--platform", wanted.arch.platform]
        if self._engine.found.kind == "docker":
            # Older Podmans refuse this option: https://github.com/cross-rs/cross/issues/1287
            command += ["--progress", "plain"]
        for name, value in {**wanted.build_args, **content.parents}.items():
            command += ["--build-arg", f"{name}={value}"]
        proxies = {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
        # Without values, which may contain a password: this command is logged. The client reads the values from its
        # environment.
        for name in proxies:
            command += ["--build-arg", name]
        # A proxy on this machine's loopback is not reachable from a build's own network.
        if any(urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"} for url in proxies.values()):
            command += ["--network", "host"]
        # As a secret it is there while a step runs, in no layer, and changes no tag.
        if bundle := ca_bundle():
            command += ["--secret", f"id=ca-bundle,src={bundle}"]
        return [*command, str(context)]

    def _log(self, content: Content) -> Path:
        return paths.make_directory(self._logs) / f"build-{content.plan.folder}-{content.plan.variant}.log"


def wheel_context(house: Wheelhouse, *, editable: bool) -> tuple[ContextFile, ...]:
    """Return the context files for installing the subject from ``house``.

    :param editable: whether a checkout is installed as editable: the nodes use it in place, under its own path.
    """
    # /mnt is where the Containerfiles mount the context.
    names = [f"/mnt/wheels/{house.editable.relative_to(house.path)}"] if editable and house.editable else []
    requirements = "".join(f"{line}\n" for line in names or house.requirements).encode()
    return (
        ContextFile(source=house.path, target="wheels", sha256=house.fingerprint),
        ContextFile(source=requirements, target="requirements.txt", sha256=hashlib.sha256(requirements).hexdigest()),
    )
