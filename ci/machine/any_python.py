"""Started by ``ci/bootstrap`` with the Python that is there: go on with one that is new enough.

This file is kept readable for old Pythons, so that they get a sentence and not a syntax error; the work is done beside
it: venv.py makes the virtual environment, setup.py runs inside it.
"""

import os
import subprocess
import sys

MINIMUM = (3, 11)
NEWER = ["python3.14", "python3.13", "python3.12", "python3.11"]
HERE = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 -- an old Python reads this
ROOT = os.path.dirname(os.path.dirname(HERE))  # noqa: PTH120 -- the same


def main():  # type: ignore[no-untyped-def]  # noqa: ANN201 -- an old Python reads this
    """Hand over to a Python that is new enough, or say which one is needed."""
    if sys.version_info[:2] >= MINIMUM:
        # Not ci/machine itself, which Python put there: its modules are reached as ci.NAME only.
        sys.path[0] = ROOT
        from ci.machine.venv import run  # noqa: PLC0415 -- an old Python can't parse it

        return run(sys.argv[1:])
    for name in NEWER:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            path = os.path.join(folder, name)  # noqa: PTH118 -- an old Python reads this
            if os.access(path, os.X_OK) and works(path):  # type: ignore[no-untyped-call]
                os.execv(path, [path, os.path.realpath(__file__)] + sys.argv[1:])  # noqa: RUF005, S606 -- the same
    sys.stderr.write(
        "bootstrap: Python 3.11 or newer is needed, this is %d.%d (%s), and no newer one is on PATH\n"  # noqa: UP031
        "  next: install one (Debian 12 or newer: apt-get install python3), or put it on PATH as python3.11\n"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
    return 26


def works(path):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 -- an old Python reads this
    """Tell whether a Python starts at all; a version manager's stand-in for one that is not chosen does not."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- an old Python reads this
        return subprocess.call([path, "-c", ""], stdout=nowhere, stderr=nowhere) == 0


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[no-untyped-call]
