"""Profiles: what is read, what is refused and how it is said, and the command line."""

import os
from pathlib import Path

import pytest

from ci import paths
from ci.artefacts import candidates
from ci.cli.main import main
from ci.environment.configuration import of_profile
from ci.environment.plan import plan_environment
from ci.errors import ProfileError, SelectionError
from ci.group import planning
from ci.group.planning import GroupRequest
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.profile_files import shipped
from ci.matrix.profiles import Profile
from ci.options import Options
from ci.session import arguments
from ci.session.record import Record
from tests.support.profiles import EMBEDDED, LEGACY, REAL, MakeProfile, planned

# -- what comes with the project ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_each_that_ships_says_what_it_is_and_is_for_some_real_cell(name: str) -> None:
    profile = Profile.of(name)
    assert (profile.name, profile.summary[-1:]) == (name, ".")
    real = [it for it in loading.load().all_cells(None) if it.runtime is Runtime.NVIDIA]
    assert any(not profile.unfit(it) for it in real)
    page = (paths.REPOSITORY / "docs/profiles.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page.partition("## What comes with the project")[2].partition("## What was run")[0]


def test_a_plain_cell_is_what_it_was_before_there_were_profiles() -> None:
    plan = plan_environment(loading.load().cell(REAL), loading.load(), Options(run="run"))
    assert (plan.profile, plan.cell.profile, of_profile(plan)) == (None, "", {})
    assert "+" not in plan.cell.id
    assert "profile" not in plan.cell.as_json()


# -- what is refused ------------------------------------------------------------------------------------------------

SLURM_CONF_FAULTS = {
    "ClusterName=mine": "slurm.conf:2: ClusterName cannot be set: the first node",
    "slurmctldhost=head(10.0.0.1)": "slurm.conf:2: slurmctldhost cannot be set: the first node",
    "SlurmctldPort=7000": "find each other by Slurm's own ports",
    "KillWait=3 SlurmdPort=7001": "slurm.conf:2: SlurmdPort cannot be set",
    "AuthType=auth/slurm": "each run makes a munge key",
    "CredType = cred/slurm": "each run makes a munge key",
    "SlurmUser=root": "of the nodes' image",
    "StateSaveLocation=/shared/state": "of the nodes' image",
    "PlugStackConfig=/etc/plugstack": "of the nodes' image",
    "SlurmdLogFile=/var/log/slurmd.log": "to see which versions run",
    "AccountingStorageType=accounting_storage/slurmdbd": "--accounting",
    "NodeName=gpu[01-12] CPUs=64": "write what all have as NodeName=DEFAULT",
    "NodeName=n1 CPUs=64": "write what all have as NodeName=DEFAULT",
    "PartitionName=gpu Nodes=gpu[01-12]": "write Nodes=ALL",
    "NodeSet=fast Nodes=gpu01": "write Nodes=ALL",
    "PartitionName=gpu Nodes=ALL AllocNodes=login1": "write AllocNodes=ALL",
    "SuspendProgram=/usr/sbin/off": "nothing powers the nodes of a cell up again",
    "JobCredentialPrivateKey=/etc/slurm/key": "each run makes a munge key",
    "SlurmdParameters=l3cache_as_socket": "SlurmdParameters cannot have this value: it needs config_overrides",
    "SlurmdDebug=error": "SlurmdDebug cannot have this value: the logs are read there, to see which versions run",
    "DownNodes=gpu01": "DownNodes cannot be set",
    "KillWait 30": "expected KEY=VALUE, found: KillWait 30",
    "KillWait=30 seconds": "expected KEY=VALUE, found: KillWait=30 seconds",
    "Include more.conf": "slurm.conf:2: it includes files/etc/slurm/more.conf, which is missing",
    "Include /etc/slurm/more.conf": "slurm.conf:2: it includes files/etc/slurm/more.conf, which is missing",
    "KillWait=3 \\\nClusterName=mine": "slurm.conf:2: ClusterName cannot be set",
}


@pytest.mark.parametrize(("line", "says"), SLURM_CONF_FAULTS.items(), ids=SLURM_CONF_FAULTS)
def test_what_would_take_a_cell_apart_is_refused_with_its_line_and_why(
    make_profile: MakeProfile, line: str, says: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.of(make_profile({"slurm.conf": f"KillWait=5 # and so on\n{line}\n"}))
    assert says in str(caught.value)
    assert "slurm.conf:2: " in str(caught.value)
    assert "docs/profiles.md" in caught.value.next_step


NAMES = {
    "slurm.cfg": "unknown file 'slurm.cfg'; did you mean 'slurm.conf'?",
    "plugstack.d/x.conf": "did you mean 'plugstack.conf.d'?",
    "enroot.conf.d": "enroot.conf.d has to be a folder",
    "prolog/x.sh": "prolog has to be a file",
    "profile.tml": "did you mean 'profile.toml'?",
    "gres.conf": "any other file stands below files/, by its path on the nodes",
    "files/etc/slurm/slurm.conf": "it is made from the profile's slurm.conf",
    "files/etc/munge/munge.key": "each run makes its own key",
    "files/etc/ssh/sshd_config.d/x.conf": "each run makes its own keys",
    "files/home/tester/x": "the node mounts something over it",
    "files/run/x": "the node mounts something over it",
    "mounts.d/site.tab": "nothing reads mounts.d/site.tab: files lie directly in mounts.d, and end in .fstab",
    "hooks.d/site/x.sh": "nothing reads hooks.d/site/x.sh",
    "plugstack.conf.d/pyxis": "nothing reads plugstack.conf.d/pyxis: files lie directly in plugstack.conf.d",
    "enroot.conf.d/50-node.conf": "it has the folders of the nodes",
}


@pytest.mark.parametrize(("name", "says"), NAMES.items(), ids=NAMES)
def test_a_name_that_nothing_reads_or_that_is_taken_is_refused(make_profile: MakeProfile, name: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.of(make_profile({name: "x\n"}))
    assert says in str(caught.value)


OTHERS: dict[str, tuple[dict[str, str], str]] = {
    "a key of profile.toml": ({"profile.toml": 'summry = "x"\n'}, "unknown key 'summry'; did you mean 'summary'?"),
    "a value of profile.toml": ({"profile.toml": "summary = 1\n"}, "profile.toml:1: summary: expected text"),
    "no nodes": ({"profile.toml": "nodes = 0\n"}, "profile.toml:1: nodes: must be at least 1, is 0"),
    "nodes in words": ({"profile.toml": 'nodes = "two"\n'}, "nodes: expected a whole number"),
    "no yes or no": ({"profile.toml": 'accounting = "yes"\n'}, "accounting: expected true or false"),
    "no folder": ({"profile.toml": 'tmpfs = ["scratch"]\n'}, "tmpfs[0]: write a folder of the node"),
    "the root": ({"profile.toml": 'tmpfs = ["/scratch", "/"]\n'}, "tmpfs[1]: write a folder of the node"),
    "a folder that is taken": (
        {"profile.toml": 'tmpfs = ["/run/x"]\n'},
        "profile.toml:1: tmpfs[0]: /run/x cannot lie in memory: the node mounts something over it",
    ),
    "settings as a limit": ({"profile.toml": 'settings = ["x"]\n'}, "unknown key 'settings'"),
    "no TOML": ({"profile.toml": "summary: x\n"}, "profile.toml:1"),
    "a folder of enroot": ({"enroot.conf": "#\nENROOT_DATA_PATH /data\n"}, "enroot.conf:2: ENROOT_DATA_PATH cannot"),
    "the same by its path": ({"files/etc/enroot/enroot.conf": "ENROOT_DATA_PATH /data\n"}, "ENROOT_DATA_PATH cannot"),
    "an end by its path": ({"files/etc/enroot/hooks.d/50-site": "#!/bin/sh\n"}, "files lie directly in hooks.d"),
    "https only": ({"enroot.conf.d/1.conf": "ENROOT_ALLOW_HTTP no\n"}, "enroot.conf.d/1.conf:1: ENROOT_ALLOW_HTTP"),
    "a script twice": (
        {"prolog": "#", "slurm.conf": "Prolog=/x\n"},
        "slurm.conf:1: Prolog is set, and the file prolog would set it as well",
    ),
    "a file twice": (
        {"cgroup.conf": "#", "files/etc/slurm/cgroup.conf": "#"},
        "files/etc/slurm/cgroup.conf and cgroup.conf are both put at /etc/slurm/cgroup.conf",
    ),
    "a fault in what is included": (
        {"slurm.conf": "Include more.conf\n", "files/etc/slurm/more.conf": "\nAuthType=auth/none\n"},
        "files/etc/slurm/more.conf:2: AuthType cannot be set",
    ),
}


@pytest.mark.parametrize(("files", "says"), OTHERS.values(), ids=OTHERS)
def test_other_faults_name_file_and_line(make_profile: MakeProfile, files: dict[str, str], says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.of(make_profile(files))
    assert says in str(caught.value)


def test_all_faults_are_named_at_once(make_profile: MakeProfile) -> None:
    folder = make_profile({"slurm.conf": "ClusterName=x\nNodeName=y\n", "enroot.cnf": "", "profile.toml": "x = 1\n"})
    with pytest.raises(ProfileError, match="the profile mine has 4 faults"):
        Profile.of(folder)


def test_an_empty_folder_is_no_profile(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProfileError, match="the folder has no file of a profile"):
        Profile.of(str(tmp_path / "empty"))


@pytest.mark.parametrize("kind", ["nowhere", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_not_left_out(make_profile: MakeProfile, tmp_path: Path, kind: str) -> None:
    folder = Path(make_profile({"cgroup.conf": "#\n"}))
    (folder / "hooks.d").mkdir()
    if kind == "pipe":
        os.mkfifo(folder / "hooks.d/x.sh")
    else:
        (folder / "hooks.d/x.sh").symlink_to(tmp_path / kind)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProfileError, match=r"hooks\.d/x\.sh is not a regular file"):
        Profile.of(str(folder))


@pytest.mark.parametrize("name", ["Mine", "my_site", "my site", "-x", "x" * 40])
def test_a_name_that_could_not_stand_in_an_id_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "cgroup.conf").write_text("#\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="cannot be the name of a profile"):
        Profile.of(str(tmp_path / name))


def test_nobodys_own_has_the_name_of_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "strict").mkdir()
    (tmp_path / "strict/cgroup.conf").write_text("#\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="strict is the name of a profile that comes with this project"):
        Profile.of(str(tmp_path / "strict"))


def test_a_setting_that_a_release_does_not_know_is_said_before_anything_is_started(make_profile: MakeProfile) -> None:
    gone = make_profile({"slurm.conf": "SelectType=select/cons_res\n", "cgroup.conf": "PrologTimeout=3\n"})
    assert (
        Profile.of(gone).unfit(loading.load().cell(REAL))
        == "Slurm 22.05 does not know PrologTimeout, which came with 25.05"
    )
    new = loading.load().cell("slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64")
    assert "does not know SelectType=select/cons_res any more, since 23.11" in Profile.of(gone).unfit(new)
    with pytest.raises(ProfileError, match=r"cannot be laid over slurm22\.05-enroot3") as caught:
        planned(gone)
    assert caught.value.why.startswith("Slurm 22.05 does not know PrologTimeout")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mounts.d/x.fstab": "/a /b\n"}, "only real enroot and Pyxis read mounts.d/x.fstab"),
        (
            {"plugstack.conf.d/site.conf": "required spank_pyxis.so\n"},
            "only real enroot and Pyxis read plugstack.conf.d",
        ),
        ({"profile.toml": 'pyxis = ">=0.21"\nruntime = "nvidia"\n'}, "it is for Pyxis >=0.21, runtime nvidia"),
    ],
)
def test_a_cell_that_can_not_have_it_says_why(make_profile: MakeProfile, files: dict[str, str], says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        planned(make_profile(files), EMBEDDED)
    assert says in caught.value.why


def test_a_legacy_cell_refuses_it_and_a_group_leaves_out_what_can_not_have_it(
    make_profile: MakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SelectionError, match=r"--profile cannot be used with slurm22\.05-legacy"):
        planned("strict", LEGACY)
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    options = Options(run="r", profile=make_profile({"profile.toml": 'pyxis = ">=0.21"\n'}))
    put = candidates.read(options, loading.load())
    found = planning.plan_group(
        GroupRequest(group="edges", candidates=put), loading.load(), options, lambda _cell: None
    )
    assert {it.cell.profile for it in found.cells} == {"mine"}
    assert all(it.cell.id.endswith("+mine") for it in found.cells)
    assert any("it is for Pyxis >=0.21" in why for why in found.record.left_out.values())
    again = planning.resumed(found.record, GroupRequest(candidates=put), loading.load(), options, lambda _cell: None)
    assert [it.cell for it in again.cells] == [it.cell for it in found.cells]


# -- the command line -----------------------------------------------------------------------------------------------


def test_an_option_of_every_session_names_one_that_ships_or_a_folder(make_profile: MakeProfile) -> None:
    folder = make_profile({"cgroup.conf": "#\n"})
    assert arguments.split(["--profile", "strict"])[0].profile == "strict"
    assert arguments.split(["--profile", folder])[0].profile == folder
    run, up = (Record(plan=planned(folder, keep=not it), command=it)._again() for it in (("true",), ()))  # noqa: SLF001
    assert run.endswith(f"run {REAL} --profile {folder} -- true")
    assert up.endswith(f"up {REAL} --profile {folder}")


def test_an_unknown_one_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.split(["--profile", "stict"])
    assert "'stict' is not a profile; did you mean 'strict'?" in capsys.readouterr().err


def test_who_names_a_cell_with_its_profile_is_told_the_option() -> None:
    with pytest.raises(SelectionError) as caught:
        loading.load().cell(f"{REAL}+strict")
    assert "--profile" in caught.value.next_step


# -- a look at one, without a start -----------------------------------------------------------------------------------


def test_a_check_says_what_is_ignored_and_on_which_slurm_it_can_be_used(
    make_profile: MakeProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "README.md": "for people\n",
        "slurm.conf": "SelectType=select/cons_res\n",
        "enroot.conf": "# so\n\nENROOT_MOUNT_HOME y\nENROOT_REMAP_ROOT=yes\nENROOT_RESTRICT_DEV: y\nHTTP_PROXY x\n",
        "profile.toml": 'summary = "Mine."\npyxis = ">=0.21"\n',
    }
    assert main(["profile", "check", make_profile(files)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        "the profile mine: Mine.",
        "  ignored: README.md: it is for people",
        "  ignored: enroot.conf:5: enroot passes over it without a word: ENROOT_RESTRICT_DEV: y",
        "  ignored: enroot.conf:6: enroot passes over it without a word: HTTP_PROXY x",
    ]
    assert "  Slurm 22.05: some cells; it is for Pyxis >=0.21" in said
    (new,) = (it for it in said if it.startswith("  Slurm 24.11.7:"))
    assert new.startswith("  Slurm 24.11.7: refused; it is for Pyxis >=0.21; Slurm 24.11.7 does not know SelectType")
    assert main(["profile", "check", "strict"]) == 0
    assert "  Slurm 22.05: yes" in capsys.readouterr().out.splitlines()


def test_a_check_of_one_with_a_fault_is_an_error(make_profile: MakeProfile, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "check", make_profile({"slurm.conf": "ClusterName=x\n"})]) == ProfileError.exit_code
    assert "slurm.conf:1: ClusterName cannot be set" in capsys.readouterr().err
