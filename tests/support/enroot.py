"""What the suites know of enroot: its form of a reference, and a fault that any test may meet."""

# Before 4.0.0 `enroot list --fancy` fails when any process in any container ends while it looks, and with it every step
# that names its container. test_enroot.py has that fault itself; a test that only meets it is run again.
LISTING_FAILED = "couldn't get list of existing container filesystems"

# Where enroot takes a reference for one of Docker Hub's, the request ends here and not outside.
NOWHERE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}


def enroot_form(reference: str) -> str:
    """Turn HOST:PORT/NAME:TAG into HOST:PORT#NAME:TAG, which every version of enroot understands."""
    return reference if "#" in reference else reference.replace("/", "#", 1)
