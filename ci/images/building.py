"""Building what the plan asks for and the engine does not hold yet."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import shutil
import tempfile
import time
from urllib.parse import urlsplit

from docker.errors import APIError
from filelock import FileLock
from requests.exceptions import RequestException

from ci import paths
from ci.engine.connection import LABEL, Engine, explain
from ci.errors import ArtefactError, BuildError
from ci.images import plan
from ci.images.plan import ContextFile, ImagePlan
from ci.images.subject import Wheelhouse
from ci.terminal import console

DEBIAN_MIRROR_VARIABLE = "PYXIS_MATRIX_DEBIAN_MIRROR"
DEFAULT_DEBIAN_MIRROR = "http://deb.debian.org/debian"

_CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that the engine holds now."""

    plan: ImagePlan
    identity: str
    """The engine's content-addressed id of the image (sha256:…)."""
    built: bool
    """Whether it was made just now, or was there already."""
    seconds: float
    size: int
    """Bytes, layers shared with other images included."""

    @property
    def tag(self) -> str:
        """The image's local name."""
        return self.plan.tag


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is inside a Slurm image, asked of the image itself."""

    slurm: str
    python: str


def debian_mirror(environ: Mapping[str, str] = os.environ) -> str:
    """Return where Debian's packages come from: ``PYXIS_MATRIX_DEBIAN_MIRROR`` or Debian's own address."""
    mirror = environ.get(DEBIAN_MIRROR_VARIABLE) or DEFAULT_DEBIAN_MIRROR
    if urlsplit(mirror).username is not None:
        raise ArtefactError(
            "the address of Debian's mirror holds a password",
            where=DEBIAN_MIRROR_VARIABLE,
            why="the address is kept in images and logs",
            next_step="give it without USER:PASSWORD@; a mirror that asks for them can be reached through a proxy",
        )
    return mirror


class Builder:
    """Makes images in the engine; what it made or reused is kept in ``done`` in order."""

    def __init__(self, engine: Engine, *, logs: Path, environ: Mapping[str, str] = os.environ) -> None:
        """Build in ``engine``; each build's output goes to a file in ``logs``."""
        self._engine = engine
        self._logs = logs
        self._environ = environ
        self.done: dict[str, Built] = {}

    def ensure(self, wanted: ImagePlan) -> Built:
        """Make sure that an image and its ancestors are there; ``BuildError`` and its kin say why one can't be had."""
        for member in wanted.family():
            if member.tag not in self.done:
                self.done[member.tag] = self._ensure_one(member)
        return self.done[wanted.tag]

    def observe(self, slurm_image: ImagePlan) -> Observed:
        """Return the versions inside a Slurm image; asked once per image and remembered by its content hash."""
        memory = paths.cache_dir(self._environ) / "observed" / f"{slurm_image.variant}-{slurm_image.fingerprint}.json"
        with suppress(OSError, ValueError, TypeError):  # not there, or written by a run that was killed meanwhile
            return Observed(**json.loads(memory.read_text(encoding="utf-8")))
        script = 'slurmctld -V; python3 -c "import sys; print(*sys.version_info[:2], sep=chr(46))"'
        try:
            output = self._engine.api.containers.run(
                self.ensure(slurm_image).tag,
                ["-c", script],
                entrypoint="/bin/sh",
                remove=True,
                labels={LABEL: "1"},
                network_disabled=True,
            )
        except (APIError, RequestException) as error:
            raise explain(error, f"asking {slurm_image.tag} for its versions") from error
        first, second = output.decode().split("\n")[:2]
        observed = Observed(slurm=first.split()[-1], python=second.strip())
        paths.make_directory(memory.parent)
        memory.write_text(json.dumps(vars(observed)), encoding="utf-8")
        return observed

    def _ensure_one(self, wanted: ImagePlan) -> Built:
        started = time.monotonic()
        # Sessions side by side want the same images; whoever comes second finds them made.
        lock = paths.make_directory(paths.cache_dir(self._environ) / "locks") / f"{wanted.tag.replace('/', '_')}.lock"
        with FileLock(lock):
            made = not self._engine.image_exists(wanted.tag)
            if made:
                title = f"image {wanted.folder} {wanted.variant}"
                with console.step(title):
                    if wanted.folder == "base":
                        self._make_base(wanted)
                    elif not (wanted.folder == "registry" and self._pull("registry:2", wanted)):
                        self._build(wanted)
        image = self._engine.api.images.get(wanted.tag)
        self._check_architecture(wanted, str(image.attrs["Architecture"]))
        return Built(
            plan=wanted,
            identity=image.id or "",
            built=made,
            seconds=round(time.monotonic() - started, 3),
            size=int(image.attrs["Size"]),
        )

    def _check_architecture(self, wanted: ImagePlan, found: str) -> None:
        if found != wanted.arch.value:
            raise BuildError(
                f"an image of the wrong architecture stands under {wanted.tag}",
                why=f"wanted {wanted.arch}, found {found}",
                next_step=f"docker image rm {wanted.tag}, then try again",
            )

    def _pull(self, reference: str, wanted: ImagePlan) -> bool:
        if not self._engine.pull(reference, wanted.arch.platform):
            return False
        self._engine.api.images.get(reference).tag(*wanted.tag.rsplit(":", 1))
        return True

    def _make_base(self, wanted: ImagePlan) -> None:
        """Pull Debian, or make it from Debian's packages: always so where the user names a package mirror."""
        suite, mirror = wanted.build_args["SUITE"], wanted.build_args["DEBIAN_MIRROR"]
        if mirror == DEFAULT_DEBIAN_MIRROR and self._pull(f"debian:{suite}-slim", wanted):
            return
        program = shutil.which("mmdebstrap")
        if program is None:
            raise ArtefactError(
                f"Debian's base image for {suite} can't be had",
                where=f"debian:{suite}-slim from Docker Hub, then mmdebstrap",
                why="no registry answers, and mmdebstrap is not installed",
                next_step="apt-get install mmdebstrap (ci/bootstrap does it), or docker pull the image by hand",
            )
        options = [
            line
            for line in (paths.CONTAINERS / "base" / "mmdebstrap.conf").read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        with tempfile.TemporaryDirectory(prefix="pyxis-matrix-base-") as folder:
            archive = Path(folder) / "base.tar"
            console.call(
                [program, *options, f"--architectures={wanted.arch}", suite, archive, mirror], log=self._log(wanted)
            ).check(BuildError, f"mmdebstrap did not make {suite}", where=str(self._log(wanted)))
            repository, tag = wanted.tag.rsplit(":", 1)
            try:
                answer = self._engine.api.api.import_image(
                    src=str(archive), repository=repository, tag=tag, changes=[f"LABEL {LABEL}=1", 'CMD ["/bin/bash"]']
                )
            except (APIError, RequestException) as error:
                raise explain(error, f"importing {wanted.tag}") from error
            if not self._engine.image_exists(wanted.tag):
                raise BuildError(f"the engine did not take {wanted.tag}", why=str(answer))

    def _build(self, wanted: ImagePlan) -> None:
        with tempfile.TemporaryDirectory(prefix="pyxis-matrix-build-") as folder:
            context = Path(folder) / "context"
            shutil.copytree(paths.CONTAINERS / wanted.folder, context)
            for extra in wanted.context:
                target = context / extra.target
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(extra.source, bytes):
                    target.write_bytes(extra.source)
                elif extra.source.is_dir():
                    shutil.copytree(extra.source, target)
                else:
                    shutil.copyfile(extra.source, target)
            console.call(
                self._build_command(wanted, context), env=self._build_environment(), log=self._log(wanted)
            ).check(
                BuildError,
                f"the image {wanted.folder} {wanted.variant} did not build",
                where=str(self._log(wanted)),
                next_step="the log holds the whole build; the files are in containers/" + wanted.folder,
            )

    def _build_command(self, wanted: ImagePlan, context: Path) -> list[str]:
        client = self._engine.build_client
        command = [str(client.path), "build", "--tag", wanted.tag, "--label", f"{LABEL}=1"]
        command += ["--file", str(context / "Containerfile"), "--platform", wanted.arch.platform]
        if client.kind == "docker":
            command += ["--progress", "plain"]
        arguments = {**wanted.build_args, **{name: parent.tag for name, parent in wanted.parents.items()}}
        proxies = {name: self._environ[name] for name in _PROXIES if self._environ.get(name)}
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        # The client finds the values in its environment: they may hold a password, and the command line is logged.
        for name in proxies:
            command += ["--build-arg", name]
        # A proxy on this machine's own loopback is out of reach of a build's own network.
        if any(urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"} for url in proxies.values()):
            command += ["--network", "host"]
        if bundle := ca_bundle(self._environ):
            command += ["--secret", f"id=ca-bundle,src={bundle}"]
        return [*command, str(context)]

    def _build_environment(self) -> dict[str, str]:
        return {**self._environ, **self._engine.found.environment, **self._engine.build_client.environment}

    def _log(self, wanted: ImagePlan) -> Path:
        return paths.make_directory(self._logs) / f"build-{wanted.folder}-{wanted.variant}.log"


def wheel_context(house: Wheelhouse, *, editable: bool) -> tuple[ContextFile, ...]:
    """Return what an image's context needs so that the subject is installed from ``house``.

    ``editable`` installs a checkout so that it is used where it lies; the nodes see it under its own path.
    """
    names = [f"/context/wheels/{house.editable.relative_to(house.path)}"] if editable and house.editable else []
    requirements = "".join(f"{line}\n" for line in names or house.requirements).encode()
    return (
        ContextFile(source=house.path, target="wheels", sha256=house.fingerprint),
        ContextFile(source=requirements, target="requirements.txt", sha256=hashlib.sha256(requirements).hexdigest()),
    )


def ca_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the host's CA bundle, which builds need where a proxy re-signs TLS; None where there is none."""
    named = (Path(environ[name]) for name in _CA_BUNDLES if environ.get(name))
    return next((path for path in (*named, _SYSTEM_CA_BUNDLE) if path.is_file()), None)


def slurm_matches(observed: str, wanted: str) -> bool:
    """Tell whether an observed Slurm (``22.05.8``) is of the wanted series (``22.05``)."""
    return observed == wanted or observed.startswith((f"{wanted}.", f"{wanted}-"))


def check_slurm(observed: Observed, plan_of_slurm: plan.ImagePlan, wanted: str) -> None:
    """Refuse an image whose Debian suite has moved on to another Slurm: its cell's id would lie."""
    if not slurm_matches(observed.slurm, wanted):
        raise BuildError(
            f"the suite of {plan_of_slurm.variant} has Slurm {observed.slurm}, not {wanted}",
            where="matrix.toml, [[slurm]]",
            why="Debian's suite has moved on",
            next_step=f"change the row's version to {'.'.join(observed.slurm.split('.')[:2])}",
        )
