"""Started by ``ci/bootstrap`` with a Python that is new enough, in whatever folder the person is."""

from pathlib import Path
import sys

# Not ci/machine itself, which Python put there: its modules are reached as ci.machine.NAME only.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from ci.machine.setup import run  # noqa: E402

sys.exit(run(sys.argv[1:]))
