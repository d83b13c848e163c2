"""What Slurm and munge make of a wrong configuration: the messages by which the launcher's users know the cause."""

import pytest

from ci.environment.wait import NotYet, wait_for
from ci.matrix.cells import Cell
from tests.integration.conformance.support import PATIENCE
from tests.support.behaviours import Ask
from tests.support.cluster import Node, Shell
from tests.support.not_asked import needs

pytestmark = [pytest.mark.container_packaging, pytest.mark.starts_no_container]

_AS_MUNGE = "setpriv --reuid=munge --regid=munge --clear-groups"


def _with_line(shell: Shell, folder: str, line: str) -> str:
    """Return the path of the cluster's configuration with one more line, for clients alone."""
    shell.run(f"cp /etc/slurm/slurm.conf {folder}/slurm.conf && echo '{line}' >> {folder}/slurm.conf")
    return f"{folder}/slurm.conf"


def test_clients_say_that_munge_is_missing(cluster_shell: Shell, folder: str) -> None:
    conf = _with_line(cluster_shell, folder, f"AuthInfo=socket={folder}/none")
    done = cluster_shell.run_unchecked(f"SLURM_CONF={conf} sinfo")
    assert done.status != 0
    assert "Protocol authentication error" in done.stderr
    assert "Munge encode failed" in done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("JobRequeue", "0"),
        ("KillWait", "2 sec"),
        ("MinJobAge", "300 sec"),
        ("OverTimeLimit", "0 min"),
        ("ReturnToService", "2"),
    ],
)
def test_what_the_suites_count_on(cluster_shell: Shell, cell: Cell, key: str, value: str) -> None:
    # Each is another one by default, and nothing fails with that: tests wait longer, or meet a job that runs twice.
    if cluster_shell.environment.site:
        needs("nodes that this project has configured")
    number, *unit = value.split()
    wanted = " ".join([dict(cell.settings).get(key.lower(), number), *unit])  # a profile may say otherwise
    lines = cluster_shell.run("scontrol show config").stdout.splitlines()
    assert [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == key] == [wanted], key


def test_a_job_is_never_run_twice(cluster_shell: Shell, cell: Cell) -> None:
    """Unless the cell's profile has all jobs requeued."""
    job = cluster_shell.run("cd && sbatch --parsable --hold --wrap true").stdout.strip()
    shown = cluster_shell.run(f"scontrol show job {job}").stdout.split()
    cluster_shell.run(f"scancel {job}")
    assert f"Requeue={dict(cell.settings).get('jobrequeue', '0')}" in shown


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        ("true", "No such file or directory"),
        ("head -c 128 /dev/urandom > key && chown munge key && chmod 0644 key", "Keyfile is insecure"),
        # Readable for munged all the same, so that it is the owner which is complained of.
        ("head -c 128 /dev/urandom > key && chown tester:munge key && chmod 0440 key", "Keyfile is insecure"),
    ],
)
def test_munged_refuses_a_key_that_is_missing_open_or_somebody_elses(
    login_node: Node, root_folder: str, prepare: str, complaint: str
) -> None:
    options = " ".join(f"--{name}-file={root_folder}/{name}" for name in ("key", "pid", "seed", "log"))
    done = login_node.run_unchecked(
        f"cd {root_folder} && {prepare} && {_AS_MUNGE} munged --foreground --socket={root_folder}/socket {options}"
    )
    assert done.status != 0, str(done)
    assert complaint.lower() in done.stderr.lower(), str(done)


def test_a_key_that_slurm_does_not_know_is_fatal(cluster_shell: Shell, folder: str) -> None:
    done = cluster_shell.run_unchecked(f"SLURM_CONF={_with_line(cluster_shell, folder, 'NoSuchKey=1')} sinfo")
    assert done.status != 0, str(done)
    assert "unrecognized key: NoSuchKey" in done.stderr


@pytest.mark.behaviour("select-cons-res")
def test_a_plugin_that_later_slurms_lack(login_node: Node, root_folder: str, behaviour: Ask) -> None:
    # A controller of its own, which knows no node of the cluster.
    changes = [
        "s|^SelectType=.*|SelectType=select/cons_res|",
        "/^NodeName=/d",
        "/^PartitionName=/d",
        # The database would take it for the cluster's own, and send clients to its port for ever after.
        "/^AccountingStorage/d",
        f"s|^StateSaveLocation=.*|StateSaveLocation={root_folder}/state|",
        f"s|^SlurmctldPidFile=.*|SlurmctldPidFile={root_folder}/pid|",
        f"s|^SlurmctldLogFile=.*|SlurmctldLogFile={root_folder}/log|",
    ]
    own = "NodeName=nobody NodeAddr=127.0.0.2 CPUs=1\\nPartitionName=none Nodes=nobody\\n"
    free_port = "import socket; s = socket.socket(); s.bind(('', 0)); print(s.getsockname()[1])"
    sed = " ".join(f"-e '{change}'" for change in changes)
    started = login_node.run(
        f"cd {root_folder}; install --directory --owner=slurm state; touch log; chown slurm log\n"
        f"sed {sed} /etc/slurm/slurm.conf > {root_folder}/slurm.conf\n"
        f"printf '{own}' >> {root_folder}/slurm.conf\n"
        f'echo SlurmctldPort=$(python3 -c "{free_port}") >> {root_folder}/slurm.conf\n'
        f"nohup slurmctld -D -f {root_folder}/slurm.conf > {root_folder}/out 2>&1 < /dev/null & echo $!"
    )

    def probe() -> str | NotYet:
        said = login_node.run(f"cat {root_folder}/log {root_folder}/out").stdout
        return said if "fatal" in said or "Running as primary controller" in said else NotYet(said)

    said = wait_for("a controller that starts or gives up", probe, limit=PATIENCE)
    # One that gave up is gone; one that has not writes its state before it goes.
    pid = started.stdout.strip()
    login_node.run_unchecked(f"kill {pid}; timeout 60 tail --pid={pid} --follow /dev/null")
    starts = "Running as primary controller" in said
    assert starts or ("fatal" in said and "cons_res" in said), said
    behaviour("select-cons-res").saw("starts" if starts else "fatal", said)
