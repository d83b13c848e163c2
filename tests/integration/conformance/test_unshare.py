"""``--container-unshare``: namespaces of the container's own."""

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.expectations import since
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

_NAMES = {"net": "network", "ipc": "IPC", "uts": "UTS"}


@pytest.mark.parametrize("namespace", _NAMES)
def test_shared_with_the_host_by_default(steps: Steps, plain: TinyImage, namespace: str) -> None:
    script = f"readlink /proc/self/ns/{namespace}"
    assert steps.inside(plain, script) == steps.on_the_host(script)


@pytest.mark.parametrize("namespace", _NAMES)
def test_its_own_on_request(steps: Steps, plain: TinyImage, namespace: str, cell: Cell) -> None:
    script = f"readlink /proc/self/ns/{namespace}"
    option = f"--container-unshare={namespace}"
    if not since(cell, pyxis="0.24"):
        steps.refused(plain.reference, "unrecognized option", option)
    elif since(cell, enroot="4.1.3"):
        assert steps.inside(plain, script, option) != steps.on_the_host(script)
    else:
        # enroot can do it only after 4.1.2, and Pyxis notices that it was not done.
        steps.refused(
            plain.reference, f"requested but the container is not in a separate {_NAMES[namespace]} namespace", option
        )


@pytest.mark.parametrize("namespaces", ["foo", "net,foo", "", "net,"])
def test_unknown_namespaces_are_refused(steps: Steps, plain: TinyImage, namespaces: str, cell: Cell) -> None:
    says = "--container-unshare: " if since(cell, pyxis="0.24") else "unrecognized option"
    steps.refused(plain.reference, says, f"--container-unshare={namespaces}")
