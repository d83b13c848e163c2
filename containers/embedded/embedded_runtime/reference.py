"""Image references: enroot's `HOST#IMAGE` and the `HOST/IMAGE` that everybody else writes."""

from dataclasses import dataclass
import re

from .failure import Failure

HUB = "registry-1.docker.io"
HUB_NAMES = frozenset({"docker.io", "index.docker.io", HUB})
DIGEST = re.compile(r"(?P<rest>.+)@(?P<digest>sha256:[0-9a-f]{64})$")
TAGGED = re.compile(r"(?P<image>[^:]+):(?P<tag>\w[\w.-]{0,127})$", re.ASCII)
IMAGE = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$")
REGISTRY = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?$")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One image of one registry."""

    user: str
    """Who to log in as; empty when the reference names nobody."""
    registry: str
    image: str
    tag: str
    digest: str
    """Wins over the tag; empty when there is none."""

    @property
    def docker(self) -> str:
        """The reference as skopeo takes it. The Hub goes by the name that its tools know."""
        registry = "docker.io" if self.registry == HUB else self.registry
        return f"docker://{registry}/{self.image}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def file_name(self) -> str:
        """What `enroot import` calls its result when it is given no name."""
        return f"{self.image.replace('/', '+')}+{self.tag}.sqsh"


def parse(uri: str) -> Reference:
    """Read `docker://[USER@][REGISTRY#|REGISTRY/]IMAGE[:TAG][@DIGEST]`.

    Raises Failure for anything else, before any request is made.
    """
    scheme, separator, text = uri.partition("://")
    if scheme != "docker" or not separator:
        raise Failure(f"Invalid argument: {uri} (the embedded runtime imports docker:// images)")
    digest = ""
    if match := DIGEST.match(text):
        text, digest = match["rest"], match["digest"]
    user, _, text = text.rpartition("@")
    registry, hash_sign, image = text.partition("#")
    if not hash_sign:
        first, slash, rest = text.partition("/")
        registry, image = (first, rest) if slash and re.search(r"[.:]", first) else (HUB, text)
    tag = "latest"
    if match := TAGGED.match(image):
        image, tag = match["image"], match["tag"]
    if registry in HUB_NAMES:
        registry = HUB
        image = image if "/" in image else f"library/{image}"
    if not IMAGE.match(image) or not REGISTRY.match(registry):
        raise Failure(f"Invalid image reference: {uri}")
    return Reference(user=user, registry=registry, image=image, tag=tag, digest=digest)
