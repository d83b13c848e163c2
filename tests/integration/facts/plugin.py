"""What the suite's tests get: a cluster without containers, and the behaviours that they ask."""

pytest_plugins = ["tests.support.connected", "tests.support.behaviours", "tests.support.known_failures"]
