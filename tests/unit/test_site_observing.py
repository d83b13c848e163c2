"""What a cluster that exists tells of itself (`ci.site.observing`): its versions and nodes, and what it lacks."""

from collections.abc import Callable

from packaging.version import Version
import pytest

from ci.environment.ssh import RemoteAnswer
from ci.errors import LaunchError, SiteError, VersionMismatchError
from ci.matrix.behaviours import version_of
from ci.matrix.cells import Runtime
from ci.site.observing import SiteFacts, choose, observe
from ci.site.target import SiteTarget

AXES = {"slurm": "22.05.8", "enroot": "3.4.1", "pyxis": "0.19.0", "os": "rocky9.3", "arch": "amd64"}
RUN = "20261129-200000-abcd"


class Told:
    """A connection to a cluster that answers as it is told to."""

    def __init__(self, **others: str) -> None:
        """Take what differs from a cluster with everything."""
        job = "arch=x86_64\nkernel=6.1\nos=Rocky Linux 9.3\nsystem=rocky9.3\nenroot=3.4.1\nhome=shared\ndata=/d\n"
        versions = "pyxis=0.19.0\nslurm=slurm-wlm 22.05.8\n"
        self.answers: dict[str, str] = {
            "id -un": "ann\n/home/ann\nlogin1\n",
            "scancel": "",
            "scontrol show config\n": "SLURM_VERSION = 22.05.8\nMinJobAge = 300 sec\nJobRequeue = 1\n",
            "srun --help": "--container-image\n",
            "sinfo": "n1 idle debug*\nn2 idle debug*\nn3 mixed debug*\n",
            "for node in": "n1=has it\nn2=has it\nn3=has it\n",
            "srun --nodelist=n1": versions + job,
            "srun --nodelist": versions + job,
            "spank_pyxis": versions,
        }
        self.answers |= {name.replace("_", " "): text for name, text in others.items()}
        self.asked: list[str] = []
        self.failing: list[str] = []

    def run(self, command: str, *, meanwhile: Callable[[], object] = str, **_: object) -> RemoteAnswer:  # noqa: ARG002
        """Answer by the first words that the command has."""
        self.asked.append(command)
        if any(words in command for words in self.failing):
            return RemoteAnswer(command=command, status=1, stdout="", stderr="no room")
        text = next(text for words, text in self.answers.items() if words in f"{command}\n")
        return RemoteAnswer(command=command, status=0, stdout=text, stderr="")


def seen(told: Told, **target: str) -> SiteFacts:
    return observe(told, SiteTarget(host="login", name="blue", **target), RUN)  # type: ignore[arg-type]


def test_what_a_cluster_tells_is_its_cell() -> None:
    found = seen(Told())
    assert found.cell.axes == AXES
    assert found.cell.id == "slurm22.05.8-enroot3.4.1-pyxis0.19.0-rocky9.3-amd64@blue"
    assert dict(found.cell.settings)["jobrequeue"] == "1"
    assert dict(found.cell.settings)["minjobage"] == "300"
    assert (found.nodes, found.logs_in_elsewhere) == (("n1", "n2"), True)
    assert found.work == f"/home/ann/pyxis-matrix/{RUN}"
    assert version_of(found.cell, "pyxis") == Version("0.19.0")


@pytest.mark.parametrize("plugin", ["", "0.18.0 0.19.0"])
@pytest.mark.parametrize("where", ["srun --nodelist=n1", "srun --nodelist"], ids=["first node", "second node"])
def test_a_version_that_a_node_does_not_tell_is_asked_for_and_is_no_observed_one(where: str, plugin: str) -> None:
    told = Told()
    told.answers[where] = told.answers[where].replace("pyxis=0.19.0", f"pyxis={plugin}")
    with pytest.raises(SiteError, match="does not tell its version of pyxis") as caught:
        seen(told)
    assert 'pyxis = "…"' in caught.value.next_step
    found = seen(told, pyxis="0.20.0")
    assert found.cell.axes["pyxis"] == "0.20.0"
    assert found.versions == {
        "arch": "x86_64",
        "kernel": "6.1",
        "os": "Rocky Linux 9.3",
        "slurm": "22.05.8",
        "enroot": "3.4.1",
    }


@pytest.mark.parametrize(
    ("command", "one", "other", "words"),
    [
        ("srun --nodelist", "22.05.8", "22.05.11", "Slurm.*node n2: 22.05.11"),
        ("srun --nodelist=n1", "22.05.8", "22.05.11", "Slurm.*controller: 22.05.8.*node n1: 22.05.11"),
        ("spank_pyxis", "22.05.8", "23.02.1", "Slurm.*login node: 23.02.1"),
        ("srun --nodelist", "0.19.0", "0.20.0", "Pyxis.*node n2: 0.20.0"),
        ("spank_pyxis", "0.19.0", "0.20.0", "Pyxis.*login node: 0.20.0"),
        ("srun --nodelist", "3.4.1", "3.5.0", "enroot.*node n2: 3.5.0"),
        ("srun --nodelist", "rocky9.3", "rocky9.4", "operating system.*node n2: rocky9.4"),
        ("srun --nodelist", "x86_64", "aarch64", "architecture.*node n2: aarch64"),
    ],
)
def test_a_cluster_of_two_versions_is_refused(command: str, one: str, other: str, words: str) -> None:
    told = Told()
    told.answers[command] = told.answers[command].replace(one, other)
    with pytest.raises(SiteError, match=rf"(?s)more than one {words}") as caught:
        seen(told)
    assert "nodelist" in caught.value.next_step


def test_a_second_node_that_runs_no_job_is_not_used() -> None:
    told = Told()
    del told.answers["srun --nodelist"]
    told.failing.append("srun --nodelist=n2")
    assert seen(told).nodes == ("n1",)


class Busy(Told):
    """One whose first job waits, and is asked about meanwhile."""

    def run(self, command: str, *, meanwhile: Callable[[], object] = str, **_: object) -> RemoteAnswer:
        """Answer, but for a job on the first node."""
        if not command.startswith("srun --nodelist=n1"):
            return super().run(command)
        for _again in range(3):
            meanwhile()
        raise LaunchError("no answer within 300 s")


def test_a_cluster_that_is_busy_says_why_meanwhile_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    told = Busy(squeue="7 is PENDING: Resources\n")
    with pytest.raises(SiteError, match="the first job did not run within 300 s") as caught:
        seen(told)
    assert (caught.value.where, caught.value.why) == ("on n1", "7 is PENDING: Resources")
    assert capsys.readouterr().err.count("waiting for n1, job 7 is PENDING: Resources\n") == 1
    assert told.asked[-1] == f"scancel --name=pyxis-matrix-{RUN}"


class Refusing(Told):
    """One whose Slurm refuses the first job, in its own words (22.05.8)."""

    says = "srun: error: Unable to allocate resources: User's group not permitted to use this partition"

    def run(self, command: str, *, meanwhile: Callable[[], object] = str, **_: object) -> RemoteAnswer:  # noqa: ARG002
        """Answer, but for a job on the first node."""
        if command.startswith("srun --nodelist=n1"):
            return RemoteAnswer(command=command, status=1, stdout="", stderr=f"{self.says}\n")
        return super().run(command)


def test_an_account_that_may_not_submit_is_told_in_slurms_words() -> None:
    with pytest.raises(SiteError, match="the first job failed") as caught:
        seen(Refusing())
    assert (caught.value.where, caught.value.why) == ("on n1", Refusing.says)
    assert "an account, a partition or a QOS" in caught.value.next_step


def test_a_node_without_the_plugin_is_named_though_no_test_would_run_there() -> None:
    told = Told()
    told.answers["for node in"] = "a line of a prolog\nn1=has it\nn2=has it\nn3=lacks it\n"
    with pytest.raises(SiteError, match="not all nodes have Pyxis") as caught:
        seen(told)
    assert caught.value.where == "n3"
    assert "for node in n1 n2 n3; do" in "".join(told.asked)


@pytest.mark.parametrize("line", ["", "n2=srun: error: Unable to allocate resources: Immediate execution impossible\n"])
def test_a_node_that_does_not_tell_whether_it_has_the_plugin_is_said(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    told.answers["for node in"] = f"n1=has it\n{line}n3=has it\n"
    seen(told)
    said = capsys.readouterr().err
    assert "whether n2 has Pyxis is not known" in said
    assert "n1" not in said
    assert ("Immediate execution impossible" in said) == bool(line)


def test_a_file_that_says_another_version_than_the_cluster_is_refused() -> None:
    with pytest.raises(VersionMismatchError, match=r"pyxis is 0\.19\.0, not 0\.20\.0"):
        seen(Told(), pyxis="0.20.0")


def test_the_embedded_runtime_has_no_versions_of_enroot_and_pyxis() -> None:
    told = Told()
    for it in ("srun --nodelist=n1", "srun --nodelist"):
        told.answers[it] = told.answers[it].replace("enroot=3.4.1", "enroot=embedded-0.1")
    found = seen(told).cell
    assert found.runtime is Runtime.EMBEDDED
    assert found.id == "slurm22.05.8-embedded-rocky9.3-amd64@blue"


@pytest.mark.parametrize(
    ("command", "answer", "words"),
    [
        ("srun --help", "", "no option --container-image"),
        ("scontrol show config\n", "", "Slurm did not answer"),
        ("sinfo", "", "no node is up"),
        ("srun --nodelist=n1", "arch=x86_64\nhome=\n", "does not have the folder"),
    ],
)
def test_what_is_missing_there(command: str, answer: str, words: str) -> None:
    told = Told()
    told.answers[command] = answer
    with pytest.raises(SiteError, match=words):
        seen(told)


@pytest.mark.parametrize(
    ("listed", "anywhere", "chosen"),
    [
        ("n1 idle a*\nn2 idle a*\nn3 idle a*", False, ("n2", "n1", "n3")),
        ("\n".join(f"m{it} idle a*" for it in range(99)), False, tuple(f"m{it}" for it in range(8))),
        ("n1 down a*\nn3 mixed a*\nn4 idle* a*\nn5 drained a*", False, ("n3",)),
        ("n1 idle b\nn3 idle a*", False, ("n3",)),
        ("n1 idle b\nn3 down b", True, ("n1",)),
    ],
)
def test_jobs_go_to_nodes_that_are_up_that_of_the_login_first(
    *,
    listed: str,
    anywhere: bool,
    chosen: tuple[str, ...],
) -> None:
    assert choose(listed, "n2", anywhere=anywhere) == chosen


def test_a_node_that_is_named_is_the_only_one() -> None:
    assert seen(Told(), nodelist="n7").nodes == ("n7",)
