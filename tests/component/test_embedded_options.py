"""The options of srun and the plugin's own settings, as the embedded runtime's command reads them."""

import os
from pathlib import Path

import pytest

from containers.embedded.embedded_runtime import options, step
from containers.embedded.embedded_runtime.failure import Failure
from containers.embedded.embedded_runtime.mounts import requested


def test_all_of_them() -> None:
    words = ["image=a#b:1", "mounts=/a:/b:ro+nosuid,./c", "mounts=/a:/b:ro+nosuid", "workdir=/w", "name=it:create"]
    words += ["save=/s", "env=A,B", "env=B,C", "unshare=net,ipc"]
    flags = ["no-container-mount-home", "container-remap-root", "container-readonly", "container-entrypoint"]
    found = options.parse([*(f"container-{word}" for word in words), *flags], {})
    assert (found.image, found.workdir, found.save, found.env) == ("a#b:1", "/w", "/s", ["A", "B", "C"])
    assert found.mounts == [requested("/a", "/b", "ro+nosuid"), requested("./c", "./c", "")]
    assert (found.name, found.name_flag, found.unshare) == ("it", "create", {"net", "ipc"})
    assert (found.entrypoint, found.entrypoint_log) == (True, None)
    assert found.environment() == {
        "ENROOT_MOUNT_HOME": "no",
        "ENROOT_REMAP_ROOT": "yes",
        "ENROOT_ROOTFS_WRITABLE": "no",
        "ENROOT_UNSHARE_NET": "yes",
        "ENROOT_UNSHARE_IPC": "yes",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["container-image="], "--container-image: argument required"),
        (["container-mounts="], "--container-mounts: argument required"),
        (["container-image=a", "container-image=b"], "--container-image specified multiple times"),
        (["container-name=a", "container-name=a:exec"], "--container-name specified multiple times"),
        (
            ["container-writable", "container-readonly"],
            "both --container-writable and --container-readonly were specified",
        ),
        (
            ["no-container-entrypoint", "container-entrypoint"],
            "both --container-entrypoint and --no-container-entrypoint were specified",
        ),
        (["container-mounts=:"], "--container-mounts: invalid format: :"),
        (["container-mounts=/a,,/b"], "--container-mounts: invalid format: "),
        (["container-mounts=/tmp:"], "--container-mounts: invalid format: /tmp:"),
        (["container-mounts=/tmp:mnt"], "the target must be a path that begins with / or .: mnt"),
        (["container-mounts=devpts:/x"], '"tmpfs" or "umount": devpts'),
        (["container-name=:exec"], "--container-name: empty name"),
        (["container-name=a:attach"], 'the flag must be "auto", "create", "exec" or "no_exec": attach'),
        (["container-save=/a/"], "--container-save: target is a directory: /a/"),
        (["container-env=A,,B"], "--container-env: invalid format: A,,B"),
        (["container-unshare=net,pid"], "unknown namespace 'pid' (net, ipc, uts)"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str) -> None:
    with pytest.raises(Failure) as caught:
        options.parse(words, {})
    assert said in str(caught.value)


def test_the_same_again_is_no_contradiction() -> None:
    words = ["container-image=a", "container-writable", "container-mounts=/a"] * 2
    found = options.parse(words, {})
    assert (found.image, found.writable, len(found.mounts)) == ("a", True, 1)


def test_variables_stand_in_for_what_is_not_given() -> None:
    variables = {f"PYXIS_CONTAINER_{name}": value for name, value in (("IMAGE", "a"), ("MOUNTS", "/a"), ("ENV", "V"))}
    variables |= {
        "PYXIS_CONTAINER_READONLY": "Yes",
        "PYXIS_CONTAINER_MOUNT_HOME": "0",
        "PYXIS_CONTAINER_ENTRYPOINT": "?",
    }
    found = options.parse([], variables)
    assert (found.image, found.mounts, found.env) == ("a", [requested("/a", "/a", "")], ["V"])
    assert (found.writable, found.mount_home, found.entrypoint) == (False, False, None)
    found = options.parse(["container-image=b", "container-writable"], variables)
    assert (found.image, found.writable) == ("b", True)


def test_an_empty_variable_is_an_empty_value() -> None:
    with pytest.raises(Failure, match="--container-image: argument required"):
        options.parse([], {"PYXIS_CONTAINER_IMAGE": ""})


def test_options_without_a_container_are_named() -> None:
    words = ["container-mounts=/a", "no-container-entrypoint", "container-writable"]
    assert options.parse(words, {}).ignored == [
        "--container-mounts",
        "--[no-]container-entrypoint",
        "--container-writable",
    ]
    assert options.parse([*words, "container-name=it"], {}).ignored == []


def test_settings_of_the_plugin() -> None:
    found = options.parse_plugin(
        ["execute_entrypoint=Y", "container_scope=job", "sbatch_support=no", "use_squashfuse=1"]
    )
    assert (found.execute_entrypoint, found.job_scope) == (True, True)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nonsense=1", "unknown configuration option: nonsense=1"),
        ("container_scope=node", "invalid value: container_scope=node"),
        ("sbatch_support=maybe", "invalid value: sbatch_support=maybe"),
        ("importer=/bin/true", "the embedded runtime has no other importer: importer=/bin/true"),
    ],
)
def test_wrong_settings_of_the_plugin(word: str, said: str) -> None:
    with pytest.raises(Failure) as caught:
        options.parse_plugin([word])
    assert (str(caught.value), caught.value.details) == (said, ("failed to parse configuration",))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--", "container-image=a", "--"], 0, ""),
        (["--", "container-image=", "--"], 1, "--container-image: argument required\n"),
        (["--", "--", "nonsense"], 1, "unknown configuration option: nonsense\nfailed to parse configuration\n"),
        (
            ["--", "container-workdir=/", "--"],
            0,
            "ignoring --container-workdir because neither --container-image nor --container-name is set\n",
        ),
    ],
)
def test_a_check_says_all_in_the_plugins_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, said: str
) -> None:
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    monkeypatch.setattr(step, "LOG_FD", log)
    try:
        try:
            step.run(["check", *words])
            ended = 0
        except SystemExit as exit_:
            ended = int(str(exit_.code))
    finally:
        os.close(log)
    assert (ended, (tmp_path / "log").read_text()) == (status, said)
