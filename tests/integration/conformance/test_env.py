"""Environment variables: the job's, the image's, and which of them wins."""

import shlex

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import NOT_IMPORTED, PATIENCE, Steps
from tests.support.behaviours import Ask
from tests.support.expectations import not_promised
from tests.support.markers import IMAGE_MARKER
from tests.support.not_asked import needs
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

pytestmark = pytest.mark.container_packaging

_NO_PROXY_THERE = "http://localhost:9"


@pytest.fixture(scope="module")
def image_with_v(make_image: MakeImage, unpacked: Unpack) -> TinyImage:
    """Return an image that sets V."""
    return unpacked(make_image(env={"PATH": "/bin:/usr/bin", "V": "image"}))


def test_the_image_wins(steps: Steps, image_with_v: TinyImage) -> None:
    assert steps.inside(image_with_v, "echo $V", variables={"V": "job"}) == ["image"]


def test_container_env_lets_the_job_win(steps: Steps, image_with_v: TinyImage) -> None:
    assert steps.inside(image_with_v, "echo $V", "--container-env=V", variables={"V": "job"}) == ["job"]


def test_what_the_job_does_not_set_stays_the_images(steps: Steps, image_with_v: TinyImage) -> None:
    assert steps.inside(image_with_v, "echo $V", "--container-env=V") == ["image"]


def test_a_variable_that_the_image_does_not_have_passes(steps: Steps, image_with_v: TinyImage) -> None:
    assert steps.inside(image_with_v, "echo $ONLY_JOB", variables={"ONLY_JOB": "job"}) == ["job"]


def test_several_names(steps: Steps, make_image: MakeImage) -> None:
    image = make_image(env={"PATH": "/bin", "A": "image", "B": "image", "C": "image"})
    variables = {"A": "job", "B": "job", "C": "job"}
    assert steps.inside(image, "echo $A $B $C", "--container-env=A,C", variables=variables) == ["job image job"]


def test_a_value_with_spaces_and_quotes_arrives_whole(steps: Steps, image_with_v: TinyImage) -> None:
    value = "two  words, 'single' and \"double\" = $HOME"
    lines = steps.inside(image_with_v, 'printf "%s\\n" "$WHOLE"', variables={"WHOLE": value})
    assert lines == [value]


@pytest.mark.parametrize("names", ["", "V,", ",V", "V,,W"])
def test_malformed_lists_are_refused(steps: Steps, image_with_v: TinyImage, names: str) -> None:
    says = f"--container-env: invalid format: {names}" if names else "--container-env: argument required"
    steps.refused(image_with_v.reference, says, f"--container-env={names}")


def test_the_locale_stays_outside_unless_asked_for(steps: Steps, plain: TinyImage) -> None:
    variables = {"LC_ALL": "C.UTF-8"}
    assert steps.inside(plain, "echo [$LC_ALL]", variables=variables) == ["[]"]
    assert steps.inside(plain, "echo [$LC_ALL]", "--container-env=LC_ALL", variables=variables) == ["[C.UTF-8]"]


def test_slurms_own_variables_arrive(steps: Steps, plain: TinyImage) -> None:
    lines = steps.inside(plain, "echo $SLURM_PROCID $SLURM_NTASKS $SLURM_STEP_ID", "--ntasks=1")
    assert lines == ["0 1 0"]


# -- what reaches enroot --------------------------------------------------------------------------------------------


def _curl(steps: Steps, silent_registry: str, name: str) -> str:
    """Return the command line of an import's curl, where the job sets a variable of enroot's to 599 seconds."""
    image = f"{silent_registry}#silent/image:1"
    with steps.running(image, "true", ready="importing docker image", variables={name: "599"}):
        return steps.wait_for_output(f"pgrep --list-full --full 'https?://[l]{silent_registry[1:]}'")


@pytest.mark.behaviour("transfer-timeout")
def test_what_a_job_may_tell_enroot(steps: Steps, silent_registry: str, cell: Cell, behaviour: Ask) -> None:
    not_promised(cell, "curl, whose options this test looks at")
    curl = _curl(steps, silent_registry, "ENROOT_TRANSFER_TIMEOUT")
    behaviour("transfer-timeout").saw("taken" if "--max-time 599" in curl else "ignored", curl)


def test_what_a_job_may_not_tell_enroot(steps: Steps, silent_registry: str, cell: Cell) -> None:
    not_promised(cell, "curl, whose options this test looks at")
    assert "--connect-timeout 599" not in _curl(steps, silent_registry, "ENROOT_CONNECT_TIMEOUT")


@pytest.mark.behaviour("proxy-of-a-job")
@pytest.mark.parametrize(
    ("name", "no_proxy"), [("http_proxy", ""), ("http_proxy", "127.0.0.1"), ("all_proxy", ""), ("ALL_PROXY", "")]
)
def test_a_proxy_that_is_not_there(
    *, steps: Steps, tiny_image: TinyImage, registry_client: RegistryClient, behaviour: Ask, name: str, no_proxy: str
) -> None:
    """The registry is called localhost, and a list of exceptions is one of names."""
    host = registry_client.address.split(":")[0]
    asked = behaviour("proxy-of-a-job")
    if asked.expects("directly") and host != "localhost":
        needs("a registry that is called localhost")
    name = name.replace("http_", "https_") if registry_client.ca_bundle else name
    variables = {name: _NO_PROXY_THERE, "no_proxy": no_proxy}
    lines, said = steps.either(tiny_image, "true", refusals=[NOT_IMPORTED], variables=variables)
    # Without this, anything might have kept it from being imported.
    steps.inside(tiny_image, "true", variables={**variables, "no_proxy": host})
    asked.saw("through the proxy" if lines is None else "directly", said)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "HTTPS_PROXY"])
def test_a_proxy_that_is_none_for_plain_http(
    steps: Steps, tiny_image: TinyImage, registry_client: RegistryClient, name: str
) -> None:
    """In capitals http_proxy is not read at all: a web server would have it from whoever asks (curl(1))."""
    if registry_client.ca_bundle:
        needs("a registry that speaks plain http")
    assert steps.inside(tiny_image, "true", variables={name: _NO_PROXY_THERE}) == []


def test_a_proxy_that_is_not_exported(steps: Steps, tiny_image: TinyImage) -> None:
    assert steps.inside(tiny_image, "true", "--export=NONE", variables={"http_proxy": _NO_PROXY_THERE}) == []


def test_a_step_that_is_started_without_any_variable(steps: Steps, tiny_image: TinyImage) -> None:
    words = ["env", "-i", "srun", steps.shell.here, f"--container-image={tiny_image.reference}", "cat", IMAGE_MARKER]
    assert behind(steps.shell.run(shlex.join(words), limit=PATIENCE), tiny_image.marker) == []


# -- PYXIS_CONTAINER_*: defaults for the options, from 0.21 on. Before, they are variables like any other.


@pytest.mark.behaviour("pyxis-variables")
def test_the_image_can_be_named_by_a_variable(steps: Steps, plain: TinyImage, behaviour: Ask) -> None:
    variables = {"PYXIS_CONTAINER_IMAGE": plain.reference}
    done = steps.srun_unchecked("", "true", variables=variables)
    if done.status == 0:
        assert behind(done, plain.marker) == []
    else:
        assert steps.on_the_host("echo $PYXIS_CONTAINER_IMAGE", variables=variables) == [plain.reference]
    behaviour("pyxis-variables").saw("taken" if done.status == 0 else "ignored", done)


def test_the_command_line_wins_over_the_variable(steps: Steps, plain: TinyImage, image_with_v: TinyImage) -> None:
    assert steps.inside(plain, "true", variables={"PYXIS_CONTAINER_IMAGE": image_with_v.reference}) == []


_TOUCH = "touch /new 2> /dev/null && echo writable || echo read-only"

_THE_OTHER_WAY = {
    "MOUNT_HOME=true": ("ENROOT_MOUNT_HOME=yes", "MOUNT_HOME=false"),
    "WRITABLE=1": ("ENROOT_ROOTFS_WRITABLE=yes", "WRITABLE=0"),
    "READONLY=0": ("ENROOT_ROOTFS_WRITABLE=yes", "READONLY=1"),
}
"""What to ask where the node's setting has the effect already, which a profile may say."""


@pytest.mark.behaviour("pyxis-variables")
@pytest.mark.parametrize(
    ("setting", "script", "answers"),
    [
        ("WORKDIR=/opt", "pwd", ("/opt", "/")),
        ("REMAP_ROOT=1", "id -u", ("0", "{uid}")),
        ("REMAP_ROOT=yes", "id -u", ("0", "{uid}")),
        ("MOUNTS=/etc/slurm:/m", "test -e /m/slurm.conf && echo mounted || echo absent", ("mounted", "absent")),
        ("MOUNT_HOME=true", "mount | grep -q ' {home} ' && echo home || echo none", ("home", "none")),
        ("WRITABLE=1", _TOUCH, ("writable", "read-only")),
        ("READONLY=0", _TOUCH, ("writable", "read-only")),
        ("ENV=V", "echo $V", ("job", "image")),
    ],
    ids=lambda it: "-".join(it) if isinstance(it, tuple) else it,
)
def test_options_by_variable(
    *, steps: Steps, image_with_v: TinyImage, behaviour: Ask, setting: str, script: str, answers: tuple[str, str]
) -> None:
    """The second answer is that of a Pyxis that knows no such variables."""
    uid, home = steps.shell.run("id -u; echo ~").stdout.split()
    script = script.replace("{home}", home)
    of_the_node, opposite = _THE_OTHER_WAY.get(setting, ("", setting))
    if of_the_node and steps.cell.says(of_the_node):
        setting, answers = opposite, answers[::-1]
    variable, _, value = setting.partition("=")
    said = steps.inside(image_with_v, script, variables={f"PYXIS_CONTAINER_{variable}": value, "V": "job"})
    taken, ignored = (it.replace("{uid}", uid) for it in answers)
    behaviour("pyxis-variables").saw_by(tuple(said), {(taken,): "taken", (ignored,): "ignored"})


@pytest.mark.behaviour("pyxis-variables")
def test_a_name_by_variable(steps: Steps, plain: TinyImage, container_name: str, behaviour: Ask) -> None:
    where = steps.job_of([f"--container-name={container_name}"])  # the variable itself tells no job
    steps.inside(plain, "true", *where, variables={"PYXIS_CONTAINER_NAME": container_name})
    kept = steps.enroot_name(container_name) in steps.containers()
    behaviour("pyxis-variables").saw("taken" if kept else "ignored")
