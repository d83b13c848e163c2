"""Profiles: what comes of them on the nodes, in a cell's id and in what its result is made of."""

from pathlib import Path

import pytest

from ci import paths
from ci.environment import cluster
from ci.environment.configuration import of_profile
from ci.environment.plan import plan_environment
from ci.errors import SelectionError
from ci.fleet.parts import CONFIGURATION, belongs, files_of
from ci.matrix import loading
from ci.matrix.profiles import Profile
from ci.options import Options
from tests.support.current import cell_of
from tests.support.environments import environment
from tests.support.profiles import EMBEDDED, REAL, SLURM_CONF, MakeProfile, planned, slurm_conf
from tests.unit.test_node_rights import started


def test_the_cell_has_the_name_behind_its_id_and_the_same_images(make_profile: MakeProfile) -> None:
    plain, own = (
        plan_environment(loading.load().cell(REAL), loading.load(), Options(run="run")),
        planned(make_profile({"cgroup.conf": "#\n"})),
    )
    assert own.cell.id == f"{REAL}+mine"
    assert own.cell.matrix_id == REAL
    assert own.cell != plain.cell
    assert own.images == plain.images
    assert own.names.prefix == f"{plain.names.prefix}_mine"
    assert own.cell.as_json()["profile"] == "mine"


def test_what_tests_know_of_the_cell_is_what_was_started(make_profile: MakeProfile) -> None:
    cell = planned(make_profile({"slurm.conf": "TaskPlugin=task/cgroup\n"})).cell
    file = environment(cell.id, matrix_cell=cell.stands_for, profile=cell.profile, settings=dict(cell.settings))
    found = cell_of(file, loading.load())
    assert (found, found.settings) == (cell, (("taskplugin", "task/cgroup"),))


def test_keys_take_the_place_of_the_templates_in_any_spelling_and_others_are_added(make_profile: MakeProfile) -> None:
    text = "killwait = 30\nJobRequeue=1 ReturnToService=1 # both\nMaxArraySize=\\\n  50\n"
    lines = slurm_conf(planned(make_profile({"slurm.conf": text})))
    assert [it for it in lines if it.lower().startswith(("killwait", "jobrequeue", "returntoservice"))] == [
        "killwait = 30",
        "JobRequeue=1 ReturnToService=1 # both",
    ]
    assert lines[lines.index("MaxArraySize=\\") + 1] == "  50"
    assert "ClusterName=pyxis-matrix" in lines


def test_what_all_nodes_have_stands_before_them_and_partitions_take_the_place_of_the_templates(
    make_profile: MakeProfile,
) -> None:
    text = "NodeName=DEFAULT Feature=fast\nPartitionName=DEFAULT Nodes=ALL\nPartitionName=batch Default=YES\n"
    lines = slurm_conf(planned(make_profile({"slurm.conf": text}), gpus=1))
    nodes = [it.split()[:2] for it in lines if it.startswith("NodeName")]
    assert nodes == [
        ["NodeName=DEFAULT", "Gres=gpu:1"],
        ["NodeName=DEFAULT", "Feature=fast"],
        ["NodeName=n1", "CPUs=8"],
    ]
    assert [it.split()[0] for it in lines if it.startswith("Part")] == ["PartitionName=DEFAULT", "PartitionName=batch"]
    defaults = slurm_conf(planned(make_profile({"slurm.conf": "PartitionName=DEFAULT MaxTime=5\n"})))
    assert [it.split()[0] for it in defaults if it.startswith("Part")] == [
        "PartitionName=DEFAULT",
        "PartitionName=debug",
    ]


def test_what_is_included_takes_the_templates_place_as_well(make_profile: MakeProfile) -> None:
    files = {"slurm.conf": "include more.conf\n", "files/etc/slurm/more.conf": "KillWait=30\n"}
    plan = planned(make_profile(files))
    assert [it for it in slurm_conf(plan) if "KillWait" in it] == []
    assert "include more.conf" in slurm_conf(plan)
    assert of_profile(plan)["/etc/slurm/more.conf"].content == b"KillWait=30\n"
    assert dict(plan.cell.settings) == {"killwait": "30"}


def test_files_are_put_where_slurm_and_enroot_read_them_and_scripts_can_be_run(make_profile: MakeProfile) -> None:
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
    folder = make_profile(files)
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


@pytest.mark.parametrize("folder", ["plugstack.conf.d", "files/etc/slurm/plugstack.conf.d"])
def test_pyxis_is_loaded_once_from_where_the_nodes_have_it(make_profile: MakeProfile, folder: str) -> None:
    text = "# required /usr/local/lib/spank_pyxis.so\n optional /usr/local/lib/slurm/spank_pyxis.so sbatch_support=0\n"
    found = of_profile(planned(make_profile({f"{folder}/site.conf": text})))
    assert found["/etc/slurm/plugstack.conf.d/site.conf"].content.decode().splitlines() == [
        "# required /usr/local/lib/spank_pyxis.so",
        " optional /usr/lib/slurm/spank_pyxis.so sbatch_support=0",
    ]
    assert b".so" not in found["/etc/slurm/plugstack.conf.d/pyxis.conf"].content


def test_another_plugin_leaves_the_line_of_pyxis_alone(make_profile: MakeProfile) -> None:
    text = "# required spank_pyxis.so\nrequired /opt/other.so\n"
    found = of_profile(planned(make_profile({"plugstack.conf.d/other.conf": text}), EMBEDDED))
    assert list(found) == ["/etc/slurm/plugstack.conf.d/other.conf"]


def test_an_embedded_node_keeps_its_folders_where_a_site_has_an_enroot_conf(make_profile: MakeProfile) -> None:
    found = of_profile(planned(make_profile({"enroot.conf": "ENROOT_MOUNT_HOME yes\n"}), EMBEDDED))
    assert b"ENROOT_DATA_PATH" in found["/etc/enroot/enroot.conf.d/50-node.conf"].content
    assert found["/etc/enroot/enroot.conf"].content == b"ENROOT_MOUNT_HOME yes\n"


@pytest.mark.parametrize("text", ["ProctrackType=proctrack/cgroup", "TaskPlugin=task/cgroup", "Include x.conf"])
def test_a_node_has_cgroups_of_its_own_only_where_the_settings_use_them(make_profile: MakeProfile, text: str) -> None:
    without = started(planned(make_profile({"cgroup.conf": "CgroupPlugin=cgroup/v1\n"})))["host_config"]
    x = {"files/etc/slurm/x.conf": "JobAcctGatherType=jobacct_gather/cgroup\n"}
    plan = planned(make_profile({"slurm.conf": f"{text}\n", **x}))
    own = started(plan)["host_config"]
    assert "CgroupnsMode" not in without
    assert own["CgroupnsMode"] == "private"
    assert own["cap_add"] == [*without["cap_add"], "SYS_PTRACE"]
    assert of_profile(plan)["/etc/slurm/cgroup.conf"].content == b"CgroupPlugin=cgroup/v1\n\nIgnoreSystemd=yes\n"
    assert b"remount,rw" in of_profile(plan)["/usr/local/lib/node-entrypoint.d/cgroups.sh"].content


@pytest.mark.parametrize("text", ["TaskPlugin=task/affinity", "TaskPlugin = affinity,cgroup"])
def test_a_node_may_bind_the_tasks_of_users_where_the_settings_have_slurm_do_it(
    make_profile: MakeProfile, text: str
) -> None:
    own = started(planned(make_profile({"slurm.conf": f"{text}\n"})))["host_config"]["cap_add"]
    without = started(planned(make_profile({"slurm.conf": "TaskPlugin=task/none\n"})))["host_config"]["cap_add"]
    assert [it for it in own if it not in without] == ["SYS_PTRACE"] * ("cgroup" in text) + ["SYS_NICE"]


def test_what_a_site_says_of_systemd_stays(make_profile: MakeProfile) -> None:
    files = {"slurm.conf": "TaskPlugin=task/cgroup\n", "cgroup.conf": "ignoresystemd=no\n"}
    assert of_profile(planned(make_profile(files)))["/etc/slurm/cgroup.conf"].content == b"ignoresystemd=no\n"


def test_a_cell_has_the_nodes_and_the_accounting_that_it_needs(make_profile: MakeProfile) -> None:
    folder = make_profile({"profile.toml": "nodes = 3\naccounting = true\n"})
    plan = planned(folder)
    assert (plan.names.hostnames, plan.options.accounting) == (("n1", "n2", "n3"), True)
    assert plan.images.accounting is not None
    assert "AccountingStorageType=accounting_storage/slurmdbd" in slurm_conf(plan)
    assert planned(folder, nodes=4).options.nodes == 4
    with pytest.raises(SelectionError, match="--nodes 2 cannot be used with the profile mine") as caught:
        planned(folder, nodes=2)
    assert (caught.value.why, caught.value.next_step) == ("it needs 3 nodes", "--nodes 3, or leave it out")
    plain = planned(make_profile({"profile.toml": "nodes = 1\naccounting = false\n"}))
    assert (plain.options.nodes, plain.options.accounting) == (1, False)


def test_folders_lie_in_memory_on_every_node_for_everybody(make_profile: MakeProfile) -> None:
    asked = started(planned(make_profile({"profile.toml": 'tmpfs = ["/scratch"]\n'})))
    assert asked["host_config"]["tmpfs"] == {"/run": "exec,mode=755", "/scratch": "exec,mode=1777"}


def test_settings_are_those_of_all_its_files(make_profile: MakeProfile) -> None:
    files = {
        "slurm.conf": "TaskPlugin=task/affinity,task/cgroup\n",
        "job_container.conf": "BasePath=/x\n",
        "enroot.conf": "# ENROOT_MOUNT_HOME no\nENROOT_RESTRICT_DEV y\nENROOT_RESTRICT_DEV no\n",
        "enroot.conf.d/1.conf": "ENROOT_RESTRICT_DEV n\nENROOT_ROOTFS_WRITABLE  yes # so\n",
        "plugstack.conf.d/site.conf": "# required spank_pyxis.so x=1\nrequired spank_pyxis.so container_scope=job\n",
        "hooks.d/50-site.sh": "#!/bin/sh\n",
    }
    cell = planned(make_profile(files)).cell
    wanted = ("TaskPlugin=task/cgroup", "taskplugin=task/affinity", "basepath=/x", "enroot_restrict_dev=y")
    assert all(map(cell.says, (*wanted, "ENROOT_ROOTFS_WRITABLE=y", "container_scope=job", "hooks.d/50-site.sh")))
    assert not any(map(cell.says, ("enroot_restrict_dev=n", "enroot_mount_home", "x", "hooks.d/51.sh", "BasePath=/")))


def test_a_last_line_that_does_not_end_is_no_setting_because_enroot_passes_over_it(make_profile: MakeProfile) -> None:
    folder = make_profile({"enroot.conf": "ENROOT_REMAP_ROOT yes\nENROOT_RESTRICT_DEV yes"})
    plan = planned(folder)
    assert plan.cell.says("ENROOT_REMAP_ROOT=yes")
    assert not plan.cell.says("ENROOT_RESTRICT_DEV")
    assert plan.profile
    assert [str(fault) for fault in plan.profile.ignored()] == [
        "enroot.conf:2: enroot passes over it without a word, because the line has no end: ENROOT_RESTRICT_DEV yes"
    ]
    assert not list(Profile.of(make_profile({"enroot.conf": "ENROOT_REMAP_ROOT yes\n# so"})).ignored())


def test_settings_of_a_file_by_its_path_are_among_them(make_profile: MakeProfile) -> None:
    cell = planned(make_profile({"files/etc/enroot/enroot.conf": "ENROOT_REMAP_ROOT yes\n"})).cell
    assert cell.says("ENROOT_REMAP_ROOT=yes")


_PLUGIN = "plugstack.conf.d/pyxis.conf"


@pytest.mark.parametrize(
    ("file", "line", "scripts"),
    [
        ("slurm.conf", "JobContainerType=job_container/tmpfs", ["0-namespaces.sh"]),
        ("slurm.conf", "ProctrackType=proctrack/cgroup", ["cgroups.sh"]),
        ("slurm.conf", "SlurmctldParameters=cloud_dns,enable_configless", ["configless.sh"]),
        ("slurm.conf", "JobContainerType=job_container/none SlurmctldParameters=cloud_dns", []),
        ("enroot.conf", "ENROOT_RESTRICT_DEV y", ["log.sh"]),
        (_PLUGIN, "required spank_pyxis.so use_squashfuse=yes", ["fuse.sh"]),
        (_PLUGIN, "required spank_pyxis.so use_squashfuse=0", []),
    ],
)
def test_what_a_setting_takes_that_a_container_does_not_have_is_done_before_the_daemons(
    make_profile: MakeProfile, file: str, line: str, scripts: list[str]
) -> None:
    plan = planned(make_profile({file: f"{line}\n"}))
    folder = "/usr/local/lib/node-entrypoint.d/"
    found = {it.removeprefix(folder): file.content for it, file in of_profile(plan).items() if it.startswith(folder)}
    assert sorted(found) == scripts
    assert all(content == (paths.PROFILES / name).read_bytes() for name, content in found.items())


def test_every_node_has_its_files(make_profile: MakeProfile) -> None:
    plan = planned(make_profile({"prolog": "#\n"}), nodes=2)
    keys = cluster.Secrets.new(password=False)
    for at in (0, 1):
        node = cluster.planned_node(plan, at, image="image", keys=keys, registry_port=None)
        assert node.files["/etc/slurm/prolog"].mode == 0o755
        assert b"Prolog=/etc/slurm/prolog" in node.files[SLURM_CONF].content
        assert node.files["/etc/munge/munge.key"].content == keys.munge_key


def test_its_files_are_a_part_of_what_a_result_is_made_of(make_profile: MakeProfile) -> None:
    folder = Path(make_profile({"cgroup.conf": "#\n"}))
    plan = planned(str(folder))
    assert folder in files_of(plan)[CONFIGURATION]
    assert belongs("containers/profiles/strict/slurm.conf", files_of(planned("strict"))[CONFIGURATION])
    assert not belongs("containers/profiles/strict/slurm.conf", files_of(plan)[CONFIGURATION])
    plain = plan_environment(loading.load().cell(REAL), loading.load(), Options())
    assert not any(it.is_relative_to(paths.PROFILES) for it in files_of(plain)[CONFIGURATION])
    before = Profile.of(str(folder)).digest
    (folder / "cgroup.conf").chmod(0o755)
    assert Profile.of(str(folder)).digest != before
