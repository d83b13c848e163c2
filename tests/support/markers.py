"""What only an image has: who reads it ran inside that image and not on the node."""

IMAGE_MARKER = "/etc/pyxis-matrix-image"
IMAGE_MARKER_TEXT = "pyxis-matrix job image"
"""What the run's job image has there; a tiny image has a text of its own."""

TEST_MARKER = "/etc/pyxis-matrix-test"
"""Images that a test builds through the SDK have a text of their own here."""
