"""A profile made of a site's files (`ci.site.importing`): what is taken, what is left out, and what is said of it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ci.cli.main import main
from ci.errors import ProfileError, SelectionError
from ci.matrix import slurm_conf
from ci.matrix.profiles import Profile
from ci.site import importing, private
from ci.site.collecting import Collected
from ci.site.importing import Imported

SECRET = "correct-horse-battery"  # noqa: S105 - nobody's


def imported(tmp_path: Path, files: Mapping[str, str], **others: object) -> tuple[Path, Imported]:
    """Import a site with these files, below /etc/slurm where they have no path; what comes of it is a profile."""
    contents = {(path if path[0] == "/" else f"/etc/slurm/{path}"): text.encode() for path, text in files.items()}
    site = Collected(
        **{"slurm": "24.11.7", "folder": "/etc/slurm", "plugstack": "/etc/slurm/plugstack.conf", **others},  # type: ignore[arg-type]
        files=contents,
    )
    folder = tmp_path / "site"
    made = importing.profile_of(site, folder)
    Profile.of(str(folder))
    return folder, made


def lines(folder: Path, name: str) -> list[str]:
    file = folder / name
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def everything(folder: Path, made: Imported) -> str:
    texts = [it.read_text(encoding="utf-8") for it in sorted(folder.rglob("*")) if it.is_file()]
    return "\n".join([*texts, *made.said()])


def why(made: Imported, what: str) -> str:
    """Return why something was left out."""
    (found,) = {it.why for it in made.left_out if what in str(it)}
    return found


# -- slurm.conf -----------------------------------------------------------------------------------------------------


def test_settings_are_taken_one_to_a_line_and_comments_are_not(tmp_path: Path) -> None:
    text = f"# {SECRET}\nKillWait=5 MinJobAge=9 # {SECRET}\n\nSchedulerParameters=a,\\\nb\nTaskPlugin = task/none\n"
    folder, made = imported(tmp_path, {"slurm.conf": text})
    assert lines(folder, "slurm.conf") == [
        *("KillWait=5", "MinJobAge=9", "SchedulerParameters=a,b", "TaskPlugin = task/none"),
    ]
    assert made.said() == ["Nothing was left out."]
    assert SECRET not in everything(folder, made)


@pytest.mark.parametrize("key", slurm_conf.REFUSED)
def test_what_a_check_refuses_is_left_out_for_the_same_reason(tmp_path: Path, key: str) -> None:
    folder, made = imported(tmp_path, {"slurm.conf": f"KillWait=5 {key}={SECRET}\nMinJobAge=9\n"})
    assert lines(folder, "slurm.conf") == ["KillWait=5", "MinJobAge=9"]
    assert why(made, f"slurm.conf:1 {key}") == slurm_conf.REFUSED[key]
    assert SECRET not in everything(folder, made)


VALUES = {
    "SlurmdParameters=l3cache_as_socket": "config_overrides",
    "SlurmdDebug=error": "which versions run",
    "NodeName=gpu[01-12] CPUs=64 NodeAddr=10.0.0.1": "n1, n2, and so on",
    "NodeName=DEFAULT RealMemory=900000": "n1, n2, and so on",
    "NodeSet=fast Feature=fast": "n1, n2, and so on",
    "JobSubmitPlugins=lua": "is not read",
    "HealthCheckProgram=/usr/sbin/nhc": "is not read",
    "TopologyPlugin=topology/tree": "no such machines, switches or meters",
    "AccountingStorageEnforce=limits": "no accounts, limits and QOS",
    "SrunPortRange=60001-63000": "ports of the site",
    f"not understood {SECRET}": "not KEY=VALUE",
    f"JobCompPass={SECRET}": "password",
    "LaunchParameters=mpir=10.1.2.3": "address",
    "DependencyParameters=head01.example": "name of the site's",
    "Prolog=/opt/prolog": "names a program that is missing",
    "TaskProlog=prolog": "names a program that is missing",
    "Include more.conf": "missing there, or not readable",
}


@pytest.mark.parametrize(("line", "says"), VALUES.items(), ids=VALUES)
def test_what_a_cell_can_not_have_is_left_out_and_its_value_is_not_told(tmp_path: Path, line: str, says: str) -> None:
    files = {"slurm.conf": f"KillWait=5\n{line}\n"}
    folder, made = imported(tmp_path, files, names=frozenset({"head01.example"}))
    assert lines(folder, "slurm.conf") == ["KillWait=5"]
    assert says in why(made, "/etc/slurm/slurm.conf:2")
    for value in (SECRET, "10.", "head01", "gpu[", "900000"):
        assert value not in everything(folder, made)


def test_parameters_that_a_cell_needs_are_taken_where_the_site_has_them_too(tmp_path: Path) -> None:
    folder, _ = imported(
        tmp_path, {"slurm.conf": "SlurmdParameters=config_overrides,l3cache_as_socket\nSlurmdDebug=4\n"}
    )
    assert lines(folder, "slurm.conf") == ["SlurmdParameters=config_overrides,l3cache_as_socket", "SlurmdDebug=4"]


def test_a_partition_has_all_nodes_and_lets_everybody_in(tmp_path: Path) -> None:
    line = "PartitionName=gpu Nodes=gpu[01-12] AllocNodes=login1 AllowGroups=ml qos=big Default=YES DefMemPerCPU=7"
    folder, made = imported(tmp_path, {"slurm.conf": f"{line}\n"})
    assert lines(folder, "slurm.conf") == ["PartitionName=gpu Nodes=ALL AllocNodes=ALL Default=YES DefMemPerCPU=7"]
    assert [str(it) for it in made.left_out] == [
        "/etc/slurm/slurm.conf:1 PartitionName AllowGroups",
        "/etc/slurm/slurm.conf:1 PartitionName qos",
    ]


def test_what_is_included_is_taken_in_its_place_and_told_by_its_own_name(tmp_path: Path) -> None:
    files = {
        "slurm.conf": "KillWait=5\nInclude parts/*.conf\nMinJobAge=9\n",
        "parts/a.conf": "Include /etc/slurm/deep.conf\n",
        "parts/b.conf": "\nAuthType=auth/none\nInclude parts/b.conf\n",
        "deep.conf": "BatchStartTimeout=3\n",
    }
    folder, made = imported(tmp_path, files)
    assert lines(folder, "slurm.conf") == ["KillWait=5", "BatchStartTimeout=3", "MinJobAge=9"]
    assert "munge" in why(made, "/etc/slurm/parts/b.conf:2 AuthType")


def test_programs_that_slurm_runs_stay_at_their_paths(tmp_path: Path) -> None:
    files = {
        "slurm.conf": "Prolog=/etc/slurm/prolog\nTaskProlog=/opt/site/task.sh\nEpilog=/etc/slurm/epilog.d/*.sh\n"
        "SrunProlog=/home/ann/x\n",
        "/etc/slurm/prolog": "#!/bin/sh\n",
        "/opt/site/task.sh": "#!/bin/sh\necho export A=b\n",
        "/etc/slurm/epilog.d/1.sh": "true\n",
        "/etc/slurm/epilog.d/2.sh": "true\n",
        "/home/ann/x": "true\n",
    }
    folder, made = imported(tmp_path, files)
    assert lines(folder, "slurm.conf") == ["TaskProlog=/opt/site/task.sh", "Epilog=/etc/slurm/epilog.d/*.sh"]
    put = {path: it.mode for path, it in Profile.of(str(folder)).files.items() if path != "/etc/slurm/slurm.conf"}
    names = ("prolog", "epilog.d/1.sh", "epilog.d/2.sh")
    assert put == dict.fromkeys(["/opt/site/task.sh", *(f"/etc/slurm/{it}" for it in names)], 0o755)
    assert "Prolog=/etc/slurm/prolog" in Profile.of(str(folder)).slurm_conf
    assert why(made, "SrunProlog") == importing._PROGRAM_IS_MISSING  # noqa: SLF001


def test_a_program_that_is_left_out_takes_its_key_along(tmp_path: Path) -> None:
    files = {
        "slurm.conf": "Prolog=/etc/slurm/prolog\nEpilog=/opt/epilog\n",
        "/etc/slurm/prolog": f"#!/bin/sh\nTOKEN={SECRET} curl localhost\n",
        "/opt/epilog": "\x7fELF\0",
    }
    folder, made = imported(tmp_path, files)
    assert sorted(it.name for it in folder.iterdir()) == ["README.md", "profile.toml"]
    assert why(made, "/etc/slurm/prolog") == private.SECRET
    assert why(made, "/opt/epilog") == "it is no script"
    assert SECRET not in everything(folder, made)


def test_cgroups_and_job_containers_are_taken_without_lists_of_nodes(tmp_path: Path) -> None:
    files = {
        "slurm.conf": "KillWait=5\n",
        "cgroup.conf": "ConstrainCores=yes # all\n",
        "job_container.conf": "AutoBasePath=true\nNodeName=gpu[1-9] BasePath=/nvme\n",
    }
    folder, made = imported(tmp_path, files)
    assert lines(folder, "cgroup.conf") == ["ConstrainCores=yes"]
    assert lines(folder, "job_container.conf") == ["AutoBasePath=true"]
    assert "n1, n2" in why(made, "job_container.conf:2 NodeName")


def test_of_the_plugins_pyxis_alone_is_taken_and_only_with_options(tmp_path: Path) -> None:
    include = "include /etc/slurm/plugstack.conf.d/*\n"
    text = f"{include}required /opt/lib/spank_site.so x=1\noptional spank_pyxis.so\n"
    folder, made = imported(tmp_path, {"plugstack.conf": text})
    assert not (folder / "plugstack.conf.d").exists()
    assert "no other plugin" in why(made, "plugstack.conf:2 spank_site.so")
    line = "required /usr/lib64/slurm/spank_pyxis.so container_scope=job"
    files = {"plugstack.conf": include, "plugstack.conf.d/pyxis.conf": f"{line}\n", "plugstack.conf.old": "x y\n"}
    folder, _ = imported(tmp_path / "x", files)
    assert Profile.of(str(folder)).settings["container_scope"] == "job"


# -- enroot ---------------------------------------------------------------------------------------------------------


def test_settings_of_enroot_are_taken_but_for_its_folders_and_what_it_passes_over(tmp_path: Path) -> None:
    files = {
        "/etc/enroot/enroot.conf": "#\nENROOT_DATA_PATH /data\nENROOT_RESTRICT_DEV y\nENROOT_ROOTFS_WRITABLE: y\n",
        "/etc/enroot/enroot.conf.d/50-node.conf": "ENROOT_MOUNT_HOME y\n",
        "/etc/enroot/enroot.conf.d/60.conf": "ENROOT_ALLOW_HTTP n\nENROOT_REMAP_ROOT y\nENROOT_MOUNT_HOME y",
    }
    folder, made = imported(tmp_path, files)
    assert lines(folder, "enroot.conf") == ["ENROOT_RESTRICT_DEV y"]
    assert lines(folder, "enroot.conf.d/60.conf") == ["ENROOT_REMAP_ROOT y"]
    assert why(made, "/etc/enroot/enroot.conf:4") == "enroot passes over it without a word"
    assert why(made, "/etc/enroot/enroot.conf.d/60.conf:3").endswith("without a word: the line has no end")
    assert why(made, "ENROOT_DATA_PATH").startswith("enroot's folders lie on a volume")
    assert "it has the folders of the nodes" in why(made, "enroot.conf.d/50-node.conf")


def test_hooks_and_mounts_are_taken_but_for_those_that_enroot_brings(tmp_path: Path) -> None:
    files = {
        "/etc/enroot/hooks.d/10-home.sh": "true\n",
        "/etc/enroot/mounts.d/10-system.fstab": "/proc /proc none bind\n",
        "/etc/enroot/hooks.d/50-site.sh": "#!/bin/bash\n# see https://example.org/docs\ntrue\n",
        "/etc/enroot/mounts.d/50-site.fstab": "/lustre /lustre none bind\n/gone /gone none\n/usr/share/x /x none\n"
        "tmpfs /scratch tmpfs\n/tmp /tmp none bind\n",
        "/etc/enroot/environ.d/50-site.env": "A=b\nno_proxy=localhost\n",
    }
    folder, made = imported(tmp_path, files, folders=frozenset({"/lustre", "/usr/share/x"}))
    assert sorted(it.name for it in folder.rglob("*.*") if it.is_file()) == [
        *("50-site.env", "50-site.fstab", "50-site.sh", "README.md", "profile.toml"),
    ]
    assert lines(folder, "mounts.d/50-site.fstab") == [
        *("/lustre /lustre none bind", "tmpfs /scratch tmpfs", "/tmp /tmp none bind"),
    ]
    assert Profile.of(str(folder)).tmpfs == ("/lustre",)
    assert "its own version" in why(made, "hooks.d/10-home.sh")
    assert [str(it) for it in made.left_out if "source of this mount" in it.why] == [
        *("/etc/enroot/mounts.d/50-site.fstab:2", "/etc/enroot/mounts.d/50-site.fstab:3"),
    ]


# -- what is nobody else's business -----------------------------------------------------------------------------------

SECRETS = [
    f"HF_TOKEN={SECRET}",
    f"export WANDB_API_KEY={SECRET}",
    f"registry_auth={SECRET}",
    f"http_proxy=http://ann:{SECRET}@localhost:3128",
    "A=hf_abcdefghijklmnop",
    "A=glpat-abcdefghijkl",
    "A=AKIAABCDEFGHIJKLMNOP",
    "A=eyJhbGciOiJIUzI1NiJ9",
    "A=nvapi-abcdefghijkl",
    "A='Bearer abcdefgh12'",
    "A=-----BEGIN OPENSSH PRIVATE KEY-----",
    "A=9f86d081884c7d659a2feaa0c55ad015",
    "A=Zm9vYmFyYmF6MTIzNDU2Nzg5MA==",
    "A=Zm9vYmFyYmF6MTIzNDU2Nzg5MAo",
    f"echo x | docker login --password {SECRET}",
    f"curl -H 'Authorization: {SECRET}'",
    f"machine nvcr.io login ann password {SECRET}",
]
OPEN = [
    *("A=b", "ENROOT_SQUASH_OPTIONS -comp lz4 -noD", "NCCL_IB_HCA=mlx5_0,mlx5_1", "ENROOT_MOUNT_HOME y"),
    *("OMPI_MCA_btl=^openib", "A=/usr/lib/x86_64-linux-gnu/slurm/mpi_pmix.so", "NCCL_VERSION=2.19.3-1+cuda12.2"),
    *(
        "ENROOT_LOGIN_SHELL no",
        "no_proxy=localhost,127.0.0.1",
        "TIME=1-00:00:00",
        "ENROOT_CONFIG_PATH ${HOME}/.config/enroot",
    ),
    *("PriorityWeightFairshare=100000", "UnkillableStepTimeout=180", "A=PriorityWeightJobSizeAndMore"),
    *("A=http://localhost:3128", "PMIX_MCA_gds=hash", "ENROOT_RUNTIME ${XDG_RUNTIME_DIR}"),
]
ADDRESSES = [
    *("http_proxy=http://proxy:3128", "A=10.20.30.40", "A=fe80::1:2", "A=ann@example.org"),
    *("A=https://registry.example.org", "A=2001:db8:1:2:3:4:5:6"),
]


@pytest.mark.parametrize("line", SECRETS)
def test_what_looks_like_a_secret_is_left_out_of_settings_and_of_scripts(tmp_path: Path, line: str) -> None:
    files = {
        "/etc/enroot/environ.d/50-site.env": f"B=c\n{line}\n",
        "/etc/enroot/hooks.d/50-site.sh": f"#!/bin/bash\n{line}\n",
        "/etc/enroot/hooks.d/60-site.sh": f"#!/bin/bash\n# {line}\n",
        "/etc/enroot/hooks.d/70-site.sh": f'#!/bin/bash\necho "{line}" > x\n',
    }
    folder, made = imported(tmp_path, files)
    assert lines(folder, "environ.d/50-site.env") == ["B=c"]
    assert not (folder / "hooks.d").exists()
    assert {it.why for it in made.left_out} == {private.SECRET}
    assert line.rstrip("=").split(maxsplit=1)[-1].rpartition("=")[2] not in everything(folder, made)


@pytest.mark.parametrize("line", OPEN)
def test_what_is_none_is_taken(tmp_path: Path, line: str) -> None:
    files = {
        "/etc/enroot/environ.d/50-site.env": f"{line}\n",
        "/etc/enroot/hooks.d/50-site.sh": f"#!/bin/bash\nexport {line}\n",
    }
    folder, made = imported(tmp_path, files)
    assert made.left_out == []
    assert lines(folder, "environ.d/50-site.env") == [line]


@pytest.mark.parametrize("line", ADDRESSES)
def test_addresses_are_left_out(tmp_path: Path, line: str) -> None:
    files = {"/etc/enroot/environ.d/1.env": f"{line}\n", "/etc/enroot/hooks.d/1.sh": f"{line}\n"}
    _, made = imported(tmp_path, files)
    assert [it.why for it in made.left_out] == [private.ADDRESS] * 2


@pytest.mark.parametrize(
    "code",
    [
        "read -r token < /run/x",
        'export TOKEN="$(cat /run/x)"',
        "passwd=$1",
        "if [ -z $password ]; then",
        "key=1",
        "grep root: /etc/passwd",
        "# the token is not kept",
        "curl --token $A",
    ],
)
def test_a_script_that_only_handles_secrets_is_taken(tmp_path: Path, code: str) -> None:
    _, made = imported(tmp_path, {"/etc/enroot/hooks.d/1.sh": f"#!/bin/sh\n{code}\n"})
    assert made.left_out == []


def test_names_of_the_site_are_left_out(tmp_path: Path) -> None:
    files = {
        "/etc/enroot/environ.d/1.env": "A=x.head01\nB=head012\nC=head01.blue.example:1\nD=/home/ann7/x\nE=Head01\n"
    }
    folder, made = imported(tmp_path, files, names=frozenset({"head01", "head01.blue.example", "ann7"}))
    assert lines(folder, "environ.d/1.env") == ["A=x.head01", "B=head012"]
    assert {it.why for it in made.left_out} == {private.NAME}


# -- the folder, and what is said -------------------------------------------------------------------------------------


def test_the_folder_says_by_reason_what_was_left_out(tmp_path: Path) -> None:
    files = {"slurm.conf": "KillWait=1\n" * 9 + "SlurmUser=a\nPluginDir=/x\nAuthType=x\n"}
    folder, made = imported(tmp_path, files, refused=("/etc/slurm/cgroup.conf",))
    assert made.said() == [
        "Left out:",
        "",
        "- /etc/slurm/cgroup.conf: it is not readable for this user, or is too large for a file of settings",
        (
            "- /etc/slurm/slurm.conf:10 SlurmUser, /etc/slurm/slurm.conf:11 PluginDir: it is a place or an account of "
            "the nodes' image"
        ),
        "- /etc/slurm/slurm.conf:12 AuthType: each run makes a munge key, and the nodes know no other authentication",
    ]
    assert lines(folder, "README.md")[-3:] == made.said()[-3:]
    assert Profile.of(str(folder)).summary.startswith("The settings of a site with Slurm 24.11.7, read on 20")


@pytest.mark.parametrize("name", ["is-there", "My_Site", "strict"])
def test_a_folder_that_is_there_or_can_be_no_profile_is_refused_before_anybody_logs_in(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "is-there").mkdir()
    assert main(["profile", "import", "ann@host", "--output", str(tmp_path / name)]) == ProfileError.exit_code
    said = capsys.readouterr().err
    assert any(it in said for it in ("is there already", "cannot be the name of a profile", "comes with"))
    assert list(tmp_path.iterdir()) == [tmp_path / "is-there"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["import", "a b"], "neither an address nor a file"),
        (["check", "stict"], "'stict' is not a profile; did you mean 'strict'?"),
        (["check", "strict", "--output", "x"], "--output cannot be used with check"),
    ],
)
def test_words_that_can_not_be_used(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *words]) == SelectionError.exit_code
    assert says in capsys.readouterr().err
