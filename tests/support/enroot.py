"""What the suites know of enroot: its form of a reference, and a fault that any test may meet."""

# Before 4.0.0 `enroot list --fancy` fails when any process in any container ends while it looks, and with it every step
# that names its container. test_enroot.py has that fault itself; a test that only meets it is run again.
LISTING_FAILED = "couldn't get list of existing container filesystems"

DOCKER_HUB = "registry-1.docker.io/v2/"
"""Stands before the repository where enroot says what it asked Docker Hub for."""


def hub_at_home(registry: str) -> dict[str, str]:
    """Return the variables by which nothing is asked of the outside: the environment's registry answers as the proxy.

    It has no such image, and enroot says what it asked for: where it takes a reference for one of Docker Hub's, its
    message has `DOCKER_HUB`.
    """
    return {f"{scheme}_proxy": f"http://{registry}" for scheme in ("http", "https")}


def enroot_form(reference: str) -> str:
    """Turn HOST:PORT/NAME:TAG into HOST:PORT#NAME:TAG, which every version of enroot understands."""
    return reference if "#" in reference else reference.replace("/", "#", 1)
