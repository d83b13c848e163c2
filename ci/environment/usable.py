"""The conditions of a usable environment, in order, and waiting for them."""

from collections.abc import Sequence
from dataclasses import dataclass
import time

from ci.engine.connection import Engine, ExecResult
from ci.environment import daemons, ssh
from ci.environment.cluster import Cluster, Node, last_words
from ci.environment.ssh import SSH_PORT
from ci.environment.wait import NotYet, Watched, wait_for
from ci.environment_file import Login

READY_SECONDS = 60.0
"""Time limit of each condition."""

# The check on each node of a container cell. It runs as one job of the job user on all nodes, because a command on each
# node would take longer, and would not show that a user's job can read plugstack.conf.
_CONTAINERS = (
    "sh -c 'srun --help | grep -q -- --container-image || "
    '{ echo "$SLURMD_NODENAME: srun does not know --container-image" >&2; exit 1; }; '
    "enroot version'"
)
# Time limits of one command of a check, so that a daemon that hangs does not block the wait.
_ANSWER_SECONDS = 10
_JOB_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition: a command on a node that succeeds when the condition holds."""

    name: str
    node: Node
    command: str
    hint: str
    user: str = "root"
    seconds: int = _ANSWER_SECONDS
    """Time limit of one answer."""
    credential_of: Node | None = None
    """A node that makes a munge credential; the command has it in ``$CREDENTIAL``."""


def checks(
    cluster: Cluster, *, user: str, registry_port: int | None, plugin: bool, accounting: bool = False
) -> tuple[Check, ...]:
    """Return the conditions for submitting a job; each depends on the ones before it.

    :param user: the job user.
    :param plugin: whether the cell runs containers.
    """
    first = cluster.login
    count = len(cluster.nodes)
    wanted = [
        Check(
            name="munge",
            node=node,
            command="munge -n | unmunge",
            hint="munged refuses keys of the wrong owner or mode",
        )
        for node in cluster.nodes
    ]
    wanted += [
        Check(
            name=f"munge credential of {first.hostname}",
            node=node,
            command='echo "$CREDENTIAL" | unmunge',
            credential_of=first,
            hint="all nodes need the same munge key, and clocks that agree",
        )
        for node in cluster.nodes[1:]
    ]
    wanted.append(
        Check(
            name="controller",
            node=first,
            # "Slurmctld(primary) at n1 is UP".
            command="scontrol ping | grep -q UP",
            hint="slurmctld runs, but does not answer; slurmctld.log says what it is doing",
        )
    )
    wanted.append(
        Check(
            name="nodes idle",
            node=first,
            command=(
                f'test "$(sinfo --noheader --Node --format %T | sort -u)" = idle && '
                # --Node lists a node once for each of its partitions, so names are counted once.
                f'test "$(sinfo --noheader --Node --format %N | sort -u | wc -l)" = {count} || '
                "{ sinfo --Node --long; sinfo --list-reasons; exit 1; }"
            ),
            hint="a node with a wrong RealMemory or name is drained; the reason is shown above",
        )
    )
    if registry_port is not None:
        wanted += [
            Check(
                name="registry from node",
                node=node,
                command=f"curl --silent --show-error --fail --noproxy '*' http://localhost:{registry_port}/v2/",
                hint="the node forwards this port to the registry's container; is that still running?",
            )
            for node in cluster.nodes
        ]
    wanted.append(
        Check(
            name="job on every node",
            node=first,
            user=user,
            seconds=_JOB_SECONDS,
            command="sinfo --noheader --list-reasons; "  # a prolog that fails has drained a node by then
            f"srun --job-name=usable --nodes={count} --ntasks-per-node=1 {_CONTAINERS if plugin else 'true'}",
            hint="plugstack.conf must name a plugin that was compiled for this Slurm, and users must be able to read it"
            if plugin
            else "slurmd.log of the node says why",
        )
    )
    if accounting:
        wanted.append(
            Check(
                name="accounting",
                node=first,
                command="sacct --noheader --allusers",
                hint="slurmdbd.log in the result folder says what the database refused",
            )
        )
    return tuple(wanted)


def wait_for_check(engine: Engine, check: Check, limit: float) -> None:
    """Wait until a condition holds; ``LaunchError`` with state, last log lines and hint if it does not in time."""

    def ask(node: Node, command: str, environment: dict[str, str]) -> ExecResult:
        # By a program in the node: the engine's API can't end a command that it has started there (exec).
        bounded = ["timeout", str(check.seconds), "/bin/sh", "-c", command]
        return engine.run_inside(node.container, bounded, user=check.user, environment=environment)

    def probe() -> bool | NotYet:
        environment = {}
        if check.credential_of:
            environment["CREDENTIAL"] = ask(check.credential_of, "munge -n", {}).output.strip()
        answer = ask(check.node, check.command, environment)
        return True if answer.status == 0 else NotYet(answer.output.strip() or f"exit status {answer.status}")

    wait_for(
        f"{check.name} on {check.node.hostname}",
        probe,
        limit=limit,
        watched=_watched(engine, check.node, check.hint),
    )


def wait_for_port(engine: Engine, cluster: Cluster) -> int:
    """Return the loopback port of sshd; ``LaunchError`` with the last log lines if the node ended at once."""
    node = cluster.login
    return wait_for(
        f"start of {node.hostname}",
        lambda: engine.published_port(node.container, SSH_PORT),
        limit=5.0,
        watched=_watched(engine, node),
    )


def wait_for_login(engine: Engine, node: Node, login: Login) -> None:
    """Wait until the job user can log in over SSH."""

    def probe() -> bool | NotYet:
        with ssh.connect(login) as connection:
            answer = connection.run("true", limit=10)
        return True if answer.status == 0 else NotYet(str(answer))

    wait_for(
        "login over SSH",
        probe,
        limit=READY_SECONDS,
        watched=_watched(
            engine, node, "sshd.log says why; the key was made for this run and is in /etc/ssh/authorized_keys.d"
        ),
    )


def _watched(engine: Engine, node: Node, hint: str = "") -> Watched:
    return Watched(
        alive=lambda: engine.alive(node.container),
        diagnose=lambda: last_words(engine, node),
        hint=hint,
        hint_of_death=daemons.hint,
    )


def wait_until_usable(engine: Engine, wanted: Sequence[Check], login: Login, *, started: float) -> dict[str, float]:
    """Wait for every condition in turn, the login over SSH last.

    :param started: when the first container was started (``time.monotonic``).
    :return: the seconds from then until each condition held.
    """
    ready: dict[str, float] = {}
    for check in wanted:
        wait_for_check(engine, check, READY_SECONDS)
        ready[check.name] = round(time.monotonic() - started, 3)
    # The first condition is one of the login node.
    wait_for_login(engine, wanted[0].node, login)
    ready["sshd"] = round(time.monotonic() - started, 3)
    return ready
