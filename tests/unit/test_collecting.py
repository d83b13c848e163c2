"""What is read of a site's configuration (`ci.site.collecting`), and from where; a real shell: a component test."""

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.errors import SiteError
from ci.site import importing
from ci.site.collecting import Collected, collect


class Shell:
    """A connection to a login node that has these files, and answers as the script that reads them would."""

    def __init__(self, conf: str, files: Mapping[str, str | None]) -> None:
        """Take where Slurm says that its configuration lies, and files by their path; None is one not to be read."""
        self.conf = conf
        self.files = files

    def run(self, command: str, **_: object) -> RemoteAnswer:
        """Answer a command."""
        said = ""
        if command.startswith("scontrol"):
            said = f"SLURM_CONF = {self.conf}\nSLURM_VERSION = 24.11.7\n"
        elif "ENROOT_SYSCONF_PATH" in command:
            said = "/etc/enroot\n"
        elif "base64" in command:
            folder = command.split()[1]
            for path, text in self.files.items():
                if path.startswith(f"{folder}/") and path.rpartition("/")[2] in command:
                    content = "-" if text is None else base64.b64encode(text.encode()).decode()
                    said += f"{'refused' if text is None else 'file'} {content} {path.removeprefix(f'{folder}/')}\n"
        return RemoteAnswer(command=command, status=0, stdout=said, stderr="")


def collected(conf: str, files: Mapping[str, str | None]) -> Collected:
    return collect(Shell(conf, files))  # type: ignore[arg-type]


@pytest.mark.parametrize("conf", ["/run/slurm/conf/slurm.conf", "/proc/7/fd/3", "(null)"])
def test_a_configless_site_has_it_where_slurmd_keeps_it(conf: str) -> None:
    site = collected(conf, {"/run/slurm/conf/slurm.conf": "KillWait=5\n", "/run/slurm/conf/cgroup.conf": "#\n"})
    assert site.folder == "/run/slurm/conf"
    assert site.files == {"/run/slurm/conf/slurm.conf": b"KillWait=5\n", "/run/slurm/conf/cgroup.conf": b"#\n"}


def test_where_a_user_may_not_read_slurm_conf_the_rest_is_taken_and_it_is_said(tmp_path: Path) -> None:
    site = collected(
        "/opt/slurm/slurm.conf",
        {"/opt/slurm/slurm.conf": None, "/etc/slurm/slurm.conf": "A=b\n", "/etc/enroot/enroot.conf": "ENROOT_X y\n"},
    )
    assert (site.folder, site.refused) == ("/opt/slurm", ("/opt/slurm/slurm.conf",))
    made = importing.profile_of(site, tmp_path / "site")
    assert [str(it) for it in made.left_out if "not readable" in it.why] == ["/opt/slurm/slurm.conf"]
    assert (tmp_path / "site/enroot.conf").read_text(encoding="utf-8") == "ENROOT_X y\n"


def test_where_a_user_may_read_nothing_it_is_an_error() -> None:
    with pytest.raises(SiteError) as caught:
        collected("/opt/slurm/slurm.conf", {"/opt/slurm/slurm.conf": None})
    assert caught.value.why.endswith("not for this user: /opt/slurm/slurm.conf")
