"""The scripts that install releases into images refuse an archive that holds another release than was asked for."""

import io
import os
from pathlib import Path
import subprocess
import tarfile

import pytest

from ci import paths

SCRIPT = paths.CONTAINERS / "slurm-pyxis-integration" / "install-pyxis.sh"
# In the place of make: what a Pyxis leaves, without a compiler.
MAKE = "#!/bin/sh\nfor word; do case $word in DESTDIR=*) out=${word#DESTDIR=};; esac; done\n"
MAKE += 'mkdir -p "$out/usr/lib/slurm" && : > "$out/usr/lib/slurm/spank_pyxis.so"\n'


@pytest.fixture
def install(tmp_path: Path) -> "Install":
    return Install(tmp_path)


class Install:
    """Installs an archive of a Pyxis."""

    def __init__(self, folder: Path) -> None:
        """Work in a folder."""
        self.folder = folder
        self.out = folder / "out"
        (folder / "bin").mkdir()
        make = folder / "bin" / "make"
        make.write_text(MAKE, encoding="utf-8")
        make.chmod(0o755)

    def __call__(self, makefile: str, version: str, *, name: str) -> "subprocess.CompletedProcess[str]":
        """Install what has this Makefile, in an archive of this name, as a version."""
        artefacts = self.folder / "artefacts"
        artefacts.mkdir()
        with tarfile.open(artefacts / name, "w:gz") as tar:
            member = tarfile.TarInfo("pyxis/Makefile")
            member.size = len(makefile)
            tar.addfile(member, io.BytesIO(makefile.encode()))
        return subprocess.run(
            ["bash", SCRIPT, version, artefacts, self.out],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C"},
        )


@pytest.mark.parametrize(
    ("makefile", "version", "name"),
    [
        ("prefix ?= /usr\nVERSION   ?= 0.19.0\n", "0.19.0", "v0.19.0.tar.gz"),
        ("PYXIS_VER ?= 0.24.0\nVERSION_OTHER = 1\n", "0.24.0", "v0.24.0.tar.gz"),
        ("PYXIS_VER := 0.25.0rc1\n", "0.25.0rc1", "v0.25.0rc1+g1a2b3c4.tar.gz"),
    ],
    ids=["before 0.21", "since 0.21", "candidate"],
)
def test_the_version_that_was_asked_for_is_installed(install: Install, makefile: str, version: str, name: str) -> None:
    done = install(makefile, version, name=name)
    assert done.returncode == 0, done.stderr
    assert (install.out / "usr/lib/slurm/spank_pyxis.so").is_file()
    assert "required /usr/lib/slurm/spank_pyxis.so" in (
        install.out / "etc/slurm/plugstack.conf.d/pyxis.conf"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("makefile", "found"),
    [
        ("PYXIS_VER ?= 0.24.0\n", "0.24.0"),
        ("VERSION ?= 0.18.0\n", "0.18.0"),
        ("VERSION ?= 0.19.0rc1\n", "0.19.0rc1"),
        ("VERSION ?= 0.190\n", "0.190"),
        ("all:\n", "of an unknown version"),
    ],
)
def test_another_version_is_refused_with_both_named(install: Install, makefile: str, found: str) -> None:
    done = install(makefile, "0.19.0", name="v0.19.0.tar.gz")
    assert done.returncode == 1
    assert f"install-pyxis: the archive holds Pyxis {found}, not 0.19.0" in done.stderr
    assert not install.out.exists(), "nothing is compiled"
