"""``--container-unshare``: namespaces of the container's own."""

import pytest

from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.oci.tiny import TinyImage
from tests.support.proof import by_words

pytestmark = pytest.mark.container_packaging

_UNKNOWN = "unrecognized option '--container-unshare"
_NAMES = {"net": "network", "ipc": "IPC", "uts": "UTS"}


@pytest.mark.parametrize("namespace", _NAMES)
def test_shared_with_the_host_by_default(steps: Steps, plain: TinyImage, namespace: str) -> None:
    script = f"readlink /proc/self/ns/{namespace}"
    assert steps.inside(plain, script) == steps.on_the_host(script)


@pytest.mark.behaviour("container-unshare")
@pytest.mark.parametrize("namespace", _NAMES)
def test_its_own_on_request(steps: Steps, plain: TinyImage, namespace: str, behaviour: Ask) -> None:
    script = f"readlink /proc/self/ns/{namespace}"
    refusals = {
        _UNKNOWN: "unknown option",
        # enroot can do it only after 4.1.2, and Pyxis notices that it was not done.
        f"requested but the container is not in a separate {_NAMES[namespace]} namespace": "not made",
    }
    lines, said = steps.either(plain, script, f"--container-unshare={namespace}", refusals=refusals)
    assert lines is None or lines != steps.on_the_host(script), lines
    behaviour("container-unshare").saw(by_words(refusals, said) if lines is None else "its own", said)


@pytest.mark.behaviour("container-unshare-of-what-there-is-not")
@pytest.mark.parametrize("namespaces", ["foo", "net,foo", "", "net,"])
def test_unknown_namespaces_are_refused(steps: Steps, plain: TinyImage, namespaces: str, behaviour: Ask) -> None:
    refusals = {_UNKNOWN: "unknown option", "--container-unshare: ": "unknown namespace"}
    said = steps.refused(plain.reference, "", f"--container-unshare={namespaces}")
    behaviour("container-unshare-of-what-there-is-not").saw(by_words(refusals, said), said)
