"""Profiles: what is read, what is refused and how it is said, what comes of it on the nodes and in a cell's id."""

from collections.abc import Callable, Mapping
import os
from pathlib import Path

import pytest

from ci import paths
from ci.artefacts import candidates
from ci.environment import cluster
from ci.environment.configuration import configuration, of_profile
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment_file import EnvironmentFile, Login
from ci.errors import ProfileError, SelectionError
from ci.fleet.parts import CONFIGURATION, belongs, files_of
from ci.group import planning
from ci.group.planning import GroupRequest
from ci.matrix import loading, profiles
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.profiles import Profile
from ci.options import Options
from ci.session import arguments
from ci.session.record import Record
from tests.support.current import cell_of
from tests.unit.test_node_rights import started

ROWS = loading.load()
REAL, EMBEDDED, LEGACY = (
    "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64",
    "slurm22.05-embedded-debian12-amd64",
    "slurm22.05-legacy-debian12-amd64",
)
SLURM_CONF = "/etc/slurm/slurm.conf"
Make = Callable[[Mapping[str, str]], str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return what writes a profile called ``mine``, and returns its path."""

    def write(files: Mapping[str, str]) -> str:
        for name, content in files.items():
            file = tmp_path / "mine" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        return str(tmp_path / "mine")

    return write


def planned(profile: str, cell: str = REAL, **options: object) -> EnvironmentPlan:
    asked = Options(run="run", profile=profile, **options)  # type: ignore[arg-type]
    put = candidates.read(asked, ROWS)
    return plan_environment(put.into(ROWS.cell(cell)), ROWS, put.options)


def slurm_conf(plan: EnvironmentPlan) -> list[str]:
    return [it for it in configuration(plan)[SLURM_CONF].decode().splitlines() if it and not it.startswith("#")]


# -- what comes with the project ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", profiles.shipped())
def test_each_that_ships_says_what_it_is_and_is_for_some_real_cell(name: str) -> None:
    profile = Profile.of(name)
    assert (profile.name, profile.summary[-1:]) == (name, ".")
    real = [it for it in ROWS.all_cells(None) if it.runtime is Runtime.NVIDIA]
    assert any(not profile.unfit(it) for it in real)
    page = (paths.REPOSITORY / "docs/profiles.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page


def test_a_plain_cell_is_what_it_was_before_there_were_profiles() -> None:
    plan = plan_environment(ROWS.cell(REAL), ROWS, Options(run="run"))
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
    "DownNodes=gpu01": "DownNodes cannot be set",
    "KillWait 30": "expected KEY=VALUE, found: KillWait 30",
    "KillWait=30 seconds": "expected KEY=VALUE, found: KillWait=30 seconds",
    "Include more.conf": "slurm.conf:2: files/etc/slurm/more.conf is missing",
    "Include /etc/slurm/more.conf": "slurm.conf:2: files/etc/slurm/more.conf is missing",
    "KillWait=3 \\\nClusterName=mine": "slurm.conf:2: ClusterName cannot be set",
}


@pytest.mark.parametrize(("line", "says"), SLURM_CONF_FAULTS.items(), ids=SLURM_CONF_FAULTS)
def test_what_would_take_a_cell_apart_is_refused_with_its_line_and_why(make: Make, line: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.of(make({"slurm.conf": f"KillWait=5 # and so on\n{line}\n"}))
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
    "mounts.d/site.tab": "mounts.d/site.tab is read by nothing: a name in mounts.d ends in .fstab",
    "hooks.d/site/x.sh": "hooks.d/site/x.sh is read by nothing",
    "plugstack.conf.d/pyxis": "is read by nothing: a name in plugstack.conf.d ends in .conf",
    "enroot.conf.d/50-node.conf": "it has the folders of the nodes",
}


@pytest.mark.parametrize(("name", "says"), NAMES.items(), ids=NAMES)
def test_a_name_that_nothing_reads_or_that_is_taken_is_refused(make: Make, name: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.of(make({name: "x\n"}))
    assert says in str(caught.value)


OTHERS: dict[str, tuple[dict[str, str], str]] = {
    "a key of profile.toml": ({"profile.toml": 'summry = "x"\n'}, "unknown key 'summry'; did you mean 'summary'?"),
    "a value of profile.toml": ({"profile.toml": "summary = 1\n"}, "profile.toml:1: summary: expected text"),
    "no TOML": ({"profile.toml": "summary: x\n"}, "profile.toml:1"),
    "a folder of enroot": ({"enroot.conf": "#\nENROOT_DATA_PATH /data\n"}, "enroot.conf:2: ENROOT_DATA_PATH cannot"),
    "https only": ({"enroot.conf.d/1.conf": "ENROOT_ALLOW_HTTP no\n"}, "enroot.conf.d/1.conf:1: ENROOT_ALLOW_HTTP"),
    "a script twice": (
        {"prolog": "#", "slurm.conf": "Prolog=/x\n"},
        "slurm.conf:1: Prolog is set, and there is a file",
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
def test_other_faults_name_file_and_line(make: Make, files: dict[str, str], says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.of(make(files))
    assert says in str(caught.value)


def test_all_faults_are_named_at_once(make: Make) -> None:
    folder = make({"slurm.conf": "ClusterName=x\nNodeName=y\n", "enroot.cnf": "", "profile.toml": "x = 1\n"})
    with pytest.raises(ProfileError, match="the profile mine has 4 faults"):
        Profile.of(folder)


def test_an_empty_folder_is_no_profile(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProfileError, match="there is nothing in it"):
        Profile.of(str(tmp_path / "empty"))


@pytest.mark.parametrize("kind", ["nowhere", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_not_left_out(make: Make, tmp_path: Path, kind: str) -> None:
    folder = Path(make({"cgroup.conf": "#\n"}))
    (folder / "hooks.d").mkdir()
    if kind == "pipe":
        os.mkfifo(folder / "hooks.d/x.sh")
    else:
        (folder / "hooks.d/x.sh").symlink_to(tmp_path / kind)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProfileError, match=r"hooks\.d/x\.sh is no file"):
        Profile.of(str(folder))


@pytest.mark.parametrize("name", ["Mine", "my_site", "my site", "-x", "x" * 40])
def test_a_name_that_could_not_stand_in_an_id_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "cgroup.conf").write_text("#\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="is no name of a profile"):
        Profile.of(str(tmp_path / name))


def test_nobodys_own_has_the_name_of_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "strict").mkdir()
    (tmp_path / "strict/cgroup.conf").write_text("#\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="strict is the name of a profile that comes with this project"):
        Profile.of(str(tmp_path / "strict"))


def test_a_setting_that_a_release_does_not_know_is_said_before_anything_is_started(make: Make) -> None:
    gone = make({"slurm.conf": "SelectType=select/cons_res\n", "cgroup.conf": "PrologTimeout=3\n"})
    assert Profile.of(gone).unfit(ROWS.cell(REAL)) == "Slurm 22.05 does not know PrologTimeout, which came with 25.05"
    new = ROWS.cell("slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64")
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
def test_a_cell_that_can_not_have_it_says_why(make: Make, files: dict[str, str], says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        planned(make(files), EMBEDDED)
    assert says in caught.value.why


def test_a_legacy_cell_refuses_it_and_a_group_leaves_out_what_can_not_have_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SelectionError, match=r"--profile cannot be used with slurm22\.05-legacy"):
        planned("strict", LEGACY)
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)
    options = Options(run="r", profile=make({"profile.toml": 'pyxis = ">=0.21"\n'}))
    put = candidates.read(options, ROWS)
    found = planning.plan_group(GroupRequest(group="edges", candidates=put), ROWS, options, lambda _cell: None)
    assert {it.cell.profile for it in found.cells} == {"mine"}
    assert all(it.cell.id.endswith("+mine") for it in found.cells)
    assert any("it is for Pyxis >=0.21" in why for why in found.record.left_out.values())
    again = planning.resumed(found.record, GroupRequest(candidates=put), ROWS, options, lambda _cell: None)
    assert [it.cell for it in again.cells] == [it.cell for it in found.cells]


# -- the command line -----------------------------------------------------------------------------------------------


def test_an_option_of_every_session_names_one_that_ships_or_a_folder(make: Make) -> None:
    folder = make({"cgroup.conf": "#\n"})
    assert arguments.split(["--profile", "strict"])[0].profile == "strict"
    assert arguments.split(["--profile", folder])[0].profile == folder
    run, up = (Record(plan=planned(folder, keep=not it), command=it)._again() for it in (("true",), ()))  # noqa: SLF001
    assert run.endswith(f"run {REAL} --profile {folder} -- true")
    assert up.endswith(f"up {REAL} --profile {folder}")


def test_an_unknown_one_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.split(["--profile", "stict"])
    assert "'stict' is no profile; did you mean 'strict'?" in capsys.readouterr().err


def test_who_names_a_cell_with_its_profile_is_told_the_option() -> None:
    with pytest.raises(SelectionError) as caught:
        ROWS.cell(f"{REAL}+strict")
    assert "--profile" in caught.value.next_step


# -- what comes of it -----------------------------------------------------------------------------------------------


def test_the_cell_has_the_name_behind_its_id_and_the_same_images(make: Make) -> None:
    plain, own = plan_environment(ROWS.cell(REAL), ROWS, Options(run="run")), planned(make({"cgroup.conf": "#\n"}))
    assert own.cell.id == f"{REAL}+mine"
    assert own.cell.matrix_id == REAL
    assert own.cell != plain.cell
    assert own.images == plain.images
    assert own.names.prefix == f"{plain.names.prefix}_mine"
    assert own.cell.as_json()["profile"] == "mine"


def test_what_tests_know_of_the_cell_is_what_was_started(make: Make) -> None:
    cell = planned(make({"slurm.conf": "TaskPlugin=task/cgroup\n"})).cell
    file = EnvironmentFile(
        run="r",
        cell=cell.id,
        suite="s",
        runtime="nvidia",
        arch="amd64",
        slurm="22.05",
        nodes=("n1",),
        containers=("c",),
        login=Login(host="h", port=1, user="u", password="", private_key="k", known_hosts="k", home="/h"),
        second_user="v",
        engine_client="docker",
        matrix_cell=cell.stands_for,
        profile=cell.profile,
        settings=dict(cell.settings),
        results="/r",
    )
    found = cell_of(file, ROWS)
    assert (found, found.settings) == (cell, (("taskplugin", "task/cgroup"),))


def test_keys_take_the_place_of_the_templates_in_any_spelling_and_others_are_added(make: Make) -> None:
    text = "killwait = 30\nJobRequeue=1 ReturnToService=1 # both\nMaxArraySize=\\\n  50\n"
    lines = slurm_conf(planned(make({"slurm.conf": text})))
    assert [it for it in lines if it.lower().startswith(("killwait", "jobrequeue", "returntoservice"))] == [
        "killwait = 30",
        "JobRequeue=1 ReturnToService=1 # both",
    ]
    assert lines[lines.index("MaxArraySize=\\") + 1] == "  50"
    assert "ClusterName=pyxis-matrix" in lines


def test_what_all_nodes_have_stands_before_them_and_partitions_take_the_place_of_the_templates(make: Make) -> None:
    text = "NodeName=DEFAULT Feature=fast\nPartitionName=DEFAULT Nodes=ALL\nPartitionName=batch Default=YES\n"
    lines = slurm_conf(planned(make({"slurm.conf": text}), gpus=1))
    nodes = [it.split()[:2] for it in lines if it.startswith("NodeName")]
    assert nodes == [
        ["NodeName=DEFAULT", "Gres=gpu:1"],
        ["NodeName=DEFAULT", "Feature=fast"],
        ["NodeName=n1", "CPUs=8"],
    ]
    assert [it.split()[0] for it in lines if it.startswith("Part")] == ["PartitionName=DEFAULT", "PartitionName=batch"]
    defaults = slurm_conf(planned(make({"slurm.conf": "PartitionName=DEFAULT MaxTime=5\n"})))
    assert [it.split()[0] for it in defaults if it.startswith("Part")] == [
        "PartitionName=DEFAULT",
        "PartitionName=debug",
    ]


def test_what_is_included_takes_the_templates_place_as_well(make: Make) -> None:
    files = {"slurm.conf": "include more.conf\n", "files/etc/slurm/more.conf": "KillWait=30\n"}
    plan = planned(make(files))
    assert [it for it in slurm_conf(plan) if "KillWait" in it] == []
    assert "include more.conf" in slurm_conf(plan)
    assert of_profile(plan)["/etc/slurm/more.conf"].content == b"KillWait=30\n"
    assert dict(plan.cell.settings) == {"killwait": "30"}


def test_files_are_put_where_slurm_and_enroot_read_them_and_scripts_can_be_run(make: Make) -> None:
    files = {
        "profile.toml": 'summary = "Mine."\n',
        "README.md": "for people\n",
        ".git/config": "no\n",
        "cgroup.conf": "a\n",
        "job_container.conf": "b\n",
        "enroot.conf": "c\n",
        "enroot.conf.d/1.conf": "d\n",
        "hooks.d/1.sh": "e\n",
        "mounts.d/1.fstab": "f\n",
        "environ.d/1.env": "g\n",
        "prolog": "h\n",
        "epilog": "i\n",
        "taskprolog": "j\n",
        "files/opt/site/tool": "k\n",
    }
    folder = make(files)
    (Path(folder) / "files/opt/site/tool").chmod(0o700)
    plan = planned(folder)
    assert {path: (it.content.decode().strip(), oct(it.mode)) for path, it in of_profile(plan).items()} == {
        "/etc/slurm/cgroup.conf": ("a", "0o644"),
        "/etc/slurm/job_container.conf": ("b", "0o644"),
        "/etc/enroot/enroot.conf": ("c", "0o644"),
        "/etc/enroot/enroot.conf.d/1.conf": ("d", "0o644"),
        "/etc/enroot/hooks.d/1.sh": ("e", "0o755"),
        "/etc/enroot/mounts.d/1.fstab": ("f", "0o644"),
        "/etc/enroot/environ.d/1.env": ("g", "0o644"),
        "/etc/slurm/prolog": ("h", "0o755"),
        "/etc/slurm/epilog": ("i", "0o755"),
        "/etc/slurm/taskprolog": ("j", "0o755"),
        "/opt/site/tool": ("k", "0o755"),
    }
    scripts = {"Prolog=/etc/slurm/prolog", "Epilog=/etc/slurm/epilog", "TaskProlog=/etc/slurm/taskprolog"}
    assert scripts <= set(slurm_conf(plan))


def test_pyxis_is_loaded_once_from_where_the_nodes_have_it(make: Make) -> None:
    text = "# required /usr/local/lib/spank_pyxis.so\n optional /usr/local/lib/slurm/spank_pyxis.so sbatch_support=0\n"
    found = of_profile(planned(make({"plugstack.conf.d/site.conf": text})))
    assert found["/etc/slurm/plugstack.conf.d/site.conf"].content.decode().splitlines() == [
        "# required /usr/local/lib/spank_pyxis.so",
        " optional /usr/lib/slurm/spank_pyxis.so sbatch_support=0",
    ]
    assert b".so" not in found["/etc/slurm/plugstack.conf.d/pyxis.conf"].content


def test_another_plugin_leaves_the_line_of_pyxis_alone(make: Make) -> None:
    text = "# required spank_pyxis.so\nrequired /opt/other.so\n"
    found = of_profile(planned(make({"plugstack.conf.d/other.conf": text}), EMBEDDED))
    assert list(found) == ["/etc/slurm/plugstack.conf.d/other.conf"]


def test_an_embedded_node_keeps_its_folders_where_a_site_has_an_enroot_conf(make: Make) -> None:
    found = of_profile(planned(make({"enroot.conf": "ENROOT_MOUNT_HOME yes\n"}), EMBEDDED))
    assert b"ENROOT_DATA_PATH" in found["/etc/enroot/enroot.conf.d/50-node.conf"].content
    assert found["/etc/enroot/enroot.conf"].content == b"ENROOT_MOUNT_HOME yes\n"


@pytest.mark.parametrize(
    "text", ["ProctrackType=proctrack/cgroup", "TaskPlugin=task/affinity,task/cgroup", "Include x.conf"]
)
def test_a_node_has_cgroups_of_its_own_only_where_the_settings_use_them(make: Make, text: str) -> None:
    without = started(planned(make({"cgroup.conf": "CgroupPlugin=cgroup/v1\n"})))["host_config"]
    x = {"files/etc/slurm/x.conf": "JobAcctGatherType=jobacct_gather/cgroup\n"}
    plan = planned(make({"slurm.conf": f"{text}\n", **x}))
    own = started(plan)["host_config"]
    assert "CgroupnsMode" not in without
    assert own["CgroupnsMode"] == "private"
    assert own["cap_add"] == [*without["cap_add"], "SYS_PTRACE"]
    assert of_profile(plan)["/etc/slurm/cgroup.conf"].content == b"CgroupPlugin=cgroup/v1\n\nIgnoreSystemd=yes\n"
    assert b"remount,rw" in of_profile(plan)["/usr/local/lib/node-entrypoint.d/cgroups.sh"].content


def test_what_a_site_says_of_systemd_stays(make: Make) -> None:
    files = {"slurm.conf": "TaskPlugin=task/cgroup\n", "cgroup.conf": "ignoresystemd=no\n"}
    assert of_profile(planned(make(files)))["/etc/slurm/cgroup.conf"].content == b"ignoresystemd=no\n"


def test_every_node_has_its_files(make: Make) -> None:
    plan = planned(make({"prolog": "#\n"}), nodes=2)
    keys = cluster.Secrets.new(password=False)
    for at in (0, 1):
        node = cluster.planned_node(plan, at, image="image", keys=keys, registry_port=None)
        assert node.files["/etc/slurm/prolog"].mode == 0o755
        assert b"Prolog=/etc/slurm/prolog" in node.files[SLURM_CONF].content
        assert node.files["/etc/munge/munge.key"].content == keys.munge_key


def test_its_files_are_a_part_of_what_a_result_is_made_of(make: Make) -> None:
    folder = Path(make({"cgroup.conf": "#\n"}))
    plan = planned(str(folder))
    assert folder in files_of(plan)[CONFIGURATION]
    assert belongs("containers/profiles/strict/slurm.conf", files_of(planned("strict"))[CONFIGURATION])
    assert not belongs("containers/profiles/strict/slurm.conf", files_of(plan)[CONFIGURATION])
    plain = plan_environment(ROWS.cell(REAL), ROWS, Options())
    assert not any(it.is_relative_to(paths.PROFILES) for it in files_of(plain)[CONFIGURATION])
    before = Profile.of(str(folder)).digest
    (folder / "cgroup.conf").chmod(0o755)
    assert Profile.of(str(folder)).digest != before
