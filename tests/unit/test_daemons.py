"""What is said of a node that has ended: which daemon was the first to end, its own errors, and the cause they name."""

from typing import Any, cast

import pytest

from ci.engine.connection import ExecResult
from ci.environment import daemons, usable
from ci.environment.usable import Check
from ci.errors import LaunchError
from tests.unit.test_cluster import Answering, nodes

OF_ANOTHER = "slurmctld: error: Parsing error at unrecognized key: SomethingElse\nsshd: listening\n"
WITHOUT_DBUS = """\
slurmd: error: cgroup_dbus_attach_to_scope: cannot connect to dbus system daemon: No such file or directory
slurmd: error: Couldn't load specified plugin name for cgroup/v2: Plugin init() callback failed
slurmd: error: slurmd initialization failed
"""
UNKNOWN_KEY = "[2026-11-29T01:02:00] error: _parse_next_key: Parsing error at unrecognized key: FastSchedule\n"
UNKNOWN_PLUGIN = (
    "[2026-11-29T01:02:00] error: Couldn't find the specified plugin name for disabled looking at all files\n"
)
FULL = "[2026-11-29T01:02:00] fatal: mkdir(/var/lib/slurm/slurmd): No space left on device\n"
OLD = "[2026-11-29T01:02:00] warning: cgroup/v1 is deprecated\n"


def output(daemon: str, *, before: str = "", log: str = "") -> str:
    """Return what a node's container has written when a daemon of it ends."""
    said = f"node-entrypoint: {daemon} ended with status 1; the last lines of /var/log/slurm/{daemon}.log:\n"
    return OF_ANOTHER + before + said + log


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (output("slurmd", before=WITHOUT_DBUS), "slurmd chose a cgroup plugin that can't work in a node"),
        (output("slurmd", log=WITHOUT_DBUS), "slurmd chose a cgroup plugin that can't work in a node"),
        (output("slurmctld", log=UNKNOWN_KEY), "a setting that this Slurm does not accept; slurmctld's lines above"),
        (output("slurmd", log=UNKNOWN_KEY), "a setting that this Slurm does not accept; slurmd's lines above"),
        (output("slurmd", log=UNKNOWN_PLUGIN), "a setting that this Slurm does not accept; slurmd's lines above"),
        (output("slurmctld", log=FULL), "slurmctld ended, and the node with it; its last lines above say why"),
        (output("slurmd", log=OLD + FULL), "slurmd ended, and the node with it; its last lines above say why"),
        (output("registry forwarder (IPv6)"), "registry forwarder (IPv6) ended, and the node with it"),
    ],
)
def test_the_cause_is_the_one_that_the_daemons_own_errors_name(log: str, words: str) -> None:
    assert words in daemons.hint(log)
    assert daemons.hint(daemons.last_words(log)) == daemons.hint(log)


@pytest.mark.parametrize(
    "log", ["", "node-entrypoint: /etc/munge/munge.key is missing or empty; it has to be copied in\n"]
)
def test_where_no_daemon_has_ended_its_output_is_shown_as_it_is_and_no_cause_is_named(log: str) -> None:
    assert daemons.last_words(log) == log
    assert daemons.hint(log) == ""


def test_the_daemons_own_errors_are_shown_though_others_said_more_and_its_log_was_never_opened() -> None:
    chatter = "".join(f"sshd: line {number}\n" for number in range(50))
    shown = daemons.last_words(output("slurmd", before=WITHOUT_DBUS + chatter)).splitlines()
    assert shown[1:] == WITHOUT_DBUS.splitlines()
    assert "SomethingElse" not in "".join(shown)


def test_what_is_shown_of_a_long_log_is_its_end_below_the_name_of_the_daemon() -> None:
    log = "".join(f"[2026-11-29T01:02:00] line {number}\n" for number in range(20))
    shown = daemons.last_words(output("slurmd", log=log + FULL)).splitlines()
    assert shown[0].startswith("node-entrypoint: slurmd ended")
    assert shown[-1] == FULL.strip()
    assert len(shown) < 20, "a wait shows twenty lines"


class Dead(Answering):
    """An engine whose node has ended."""

    def __init__(self, log: str) -> None:
        """Take what its container wrote."""
        super().__init__({"": ExecResult(status=126, output="cannot exec in a stopped state")}, alive="exit code 1")
        self.log = log

    def log_tail(self, _container: object, *, lines: int = 20) -> str:
        """Return its last lines."""
        return "".join(self.log.splitlines(keepends=True)[-lines:])


def every_check() -> tuple[Check, ...]:
    return usable.checks(nodes(2), user="tester", registry_port=4711, plugin=True, accounting=True)


@pytest.mark.parametrize("check", every_check(), ids=lambda check: f"{check.name} on {check.node.hostname}")
def test_whatever_is_waited_for_a_node_that_died_is_not_explained_by_that(check: Check) -> None:
    log = output("slurmd", before=WITHOUT_DBUS, log="".join(f"[2026-11-29T01:02:00] line {n}\n" for n in range(20)))
    with pytest.raises(LaunchError) as caught:
        usable.wait_for_check(cast("Any", Dead(log)), check, limit=0)
    text = str(caught.value)
    assert "died after" in text
    assert "slurmd ended with status 1" in text
    assert "cannot connect to dbus system daemon" in text
    assert caught.value.next_step == daemons.hint(log)
    assert check.hint not in text


def test_an_error_that_another_daemon_writes_meanwhile_hides_none_of_its_own() -> None:
    """Both write to the output of the container at once."""
    log = output("slurmd", before=WITHOUT_DBUS, log="slurmctld: error: MPI: Cannot create context\n[01:02:00] a line\n")
    assert "chose a cgroup plugin" in daemons.hint(log)
