"""`profile import`, over a real SSH server whose commands a real shell runs: what is read, and that nothing is made."""

import asyncio
from collections.abc import Iterator
import os
from pathlib import Path

import asyncssh
import pytest

from ci.cli.main import main
from ci.environment import ssh
from ci.errors import SiteError
from ci.matrix.profiles import Profile
from tests.support.ssh_server import serving

_SCONTROL = """#!/bin/sh
echo 'SLURM_CONF = {conf}/slurm.conf'
echo 'SLURM_VERSION = 24.11.7'
echo 'SlurmctldHost[0] = head01.blue.example'
echo 'PlugStackConfig = {conf}/plugstack.conf'
"""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Return the folder of a site: its home, its programs, and what Slurm and enroot have for a configuration."""
    there = tmp_path / "site"
    for name in ("home", "bin", "slurm", "enroot/environ.d"):
        (there / name).mkdir(parents=True)
    program = there / "bin/scontrol"
    program.write_text(_SCONTROL.format(conf=there / "slurm"), encoding="utf-8")
    program.chmod(0o755)
    return there


@pytest.fixture
def address(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of the site, where a user can log in by the keys of the home here."""
    keys = {name: ssh.new_key(name) for name in ("host", "user")}
    environ = {"HOME": str(there / "home"), "PATH": f"{there}/bin:{os.environ['PATH']}"}
    environ["ENROOT_SYSCONF_PATH"] = str(there / "enroot")

    async def run(process: asyncssh.SSHServerProcess[str]) -> None:
        pipe = asyncio.subprocess.PIPE
        words = ("bash", "-c", process.command or "")
        child = await asyncio.create_subprocess_exec(*words, cwd=there / "home", env=environ, stdout=pipe, stderr=pipe)
        out, err = await child.communicate()
        process.stdout.write(out.decode())
        process.stderr.write(err.decode())
        process.exit(child.returncode or 0)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with serving(keys, run) as port:
        ssh.write_home(tmp_path, user_key=keys["user"], host_key=keys["host"], port=port)
        yield f"ann@127.0.0.1:{port}"


def test_a_site_becomes_a_profile_and_nothing_is_made_there(
    there: Path, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "slurm/slurm.conf": f"ClusterName=blue1\nKillWait=7\nInclude parts.conf\nProlog={there}/slurm/*.sh\n"
        "Epilog=/gone\nLaunchParameters=head01.blue.example\n",
        "slurm/parts.conf": "NodeName=gpu[1-4] CPUs=64\nPartitionName=gpu Nodes=gpu[1-4]\n",
        "slurm/it's 1.sh": "true\n",
        "slurm/cgroup.conf": "ConstrainCores=yes\n",
        "slurm/job_container.conf": "x" * 300_000,
        "slurm/plugstack.conf": "include more/*.conf\n",
        "slurm/more/pyxis.conf": "required /opt/pyxis/spank_pyxis.so container_scope=job\n",
        "enroot/enroot.conf": "ENROOT_RESTRICT_DEV y\nENROOT_CACHE_PATH /x\n",
        "enroot/environ.d/1.env": "A=b\nNGC_KEY=abc\n",
    }
    for name, text in files.items():
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).write_text(text, encoding="utf-8")
    before = sorted(there.rglob("*"))
    assert main(["profile", "import", address, "--output", str(tmp_path / "blue")]) == 0
    assert sorted(there.rglob("*")) == before
    profile = Profile.of(str(tmp_path / "blue"))
    assert {it.source: it.text for it in profile.files.values() if it.text != "# see beside\n"} == {
        "slurm.conf": f"KillWait=7\nPartitionName=gpu Nodes=ALL\nProlog={there}/slurm/*.sh\n",
        "cgroup.conf": "ConstrainCores=yes\n",
        f"files{there}/slurm/it's 1.sh": "true\n",
        "plugstack.conf.d/pyxis.conf": "required /usr/lib/slurm/spank_pyxis.so container_scope=job\n",
        "enroot.conf": "ENROOT_RESTRICT_DEV y\n",
        "environ.d/1.env": "A=b\n",
    }
    said = capsys.readouterr().out
    for words in (
        *("slurm.conf:1 ClusterName", "slurm.conf:5 Epilog", "slurm.conf:6 LaunchParameters", "parts.conf:1 NodeName"),
        *("slurm/job_container.conf: it is not readable", "ENROOT_CACHE_PATH", "1.env:2 NGC_KEY"),
    ):
        assert words in said, said
    for private in ("blue1", "head01", "gpu[", "abc"):
        assert private not in said.replace(str(there), "")


def test_a_site_without_any_file_that_can_be_read(
    there: Path, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "import", address, "--output", str(tmp_path / "blue")]) == SiteError.exit_code
    assert "no file of Slurm's or enroot's configuration can be read there" in capsys.readouterr().err
    assert not (tmp_path / "blue").exists()
    (there / "bin/scontrol").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    assert main(["profile", "import", address]) == SiteError.exit_code
    assert "Slurm did not answer on the login node" in capsys.readouterr().err
