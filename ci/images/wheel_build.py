"""``python -m ci.images.wheel_build CHECKOUT FOLDER``: build a project's wheel and its editable wheel (PEP 660).

`uv build` makes no editable wheels, hence the package ``build``, for which uv installs the build requirements. This is
a process of its own because ``build`` starts uv with its own environment, and uv needs pip's settings in that.
"""

import sys
from typing import Literal

from build import BuildBackendException, BuildException, FailedProcessError, ProjectBuilder
from build.env import DefaultIsolatedEnv

_KINDS: tuple[Literal["wheel", "editable"], ...] = ("wheel", "editable")


def main(checkout: str, folder: str) -> None:
    """Build the wheels into ``FOLDER/wheel`` and ``FOLDER/editable``."""
    with DefaultIsolatedEnv(installer="uv") as isolated:
        builder = ProjectBuilder.from_isolated_env(isolated, checkout)
        isolated.install(builder.build_system_requires)
        for kind in _KINDS:
            # A backend can say what else it needs only once it is installed (PEP 517).
            isolated.install(builder.get_requires_for_build(kind))
            builder.build(kind, f"{folder}/{kind}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (BuildBackendException, BuildException, FailedProcessError) as problem:
        # The messages of the backend or of uv are printed already.
        sys.exit(f"{problem}")
