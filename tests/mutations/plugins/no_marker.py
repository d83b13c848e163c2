"""A pytest plugin: the tiny images that tests make have no marker where it belongs."""

from tests.support.oci import tiny

vars(tiny)["IMAGE_MARKER"] = "/etc/another-place"
