"""How registries and images are named, as container engines read it."""

import re

PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
"""Each of the names between the slashes of a repository."""
# Without a dot or a port, engines take the name for that of a user at Docker Hub.
HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+(?=:))(?::\d+)?"
"""HOST[:PORT] of a registry."""
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[?::1\]?)(:\d+)?(/|$)")


def is_loopback(reference: str) -> bool:
    """Tell whether a registry, or that of an image, is on this machine: engines speak plain http with it."""
    return _LOOPBACK.match(reference) is not None


def podman_words(reference: str) -> list[str]:
    """Return the option with which Podman does so, too; it is for no other registry."""
    return ["--tls-verify=false"] if is_loopback(reference) else []
