"""``python -m ci``."""

import sys

from ci.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
