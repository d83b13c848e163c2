"""How the embedded runtime makes a root file system out of layers; the bytes are made here, nothing is fetched."""

from collections.abc import Callable
import contextlib
import errno
import gzip
import io
import os
from pathlib import Path
import shutil
import stat
import subprocess
import tarfile
from typing import Any

import pytest

from containers.embedded.embedded_runtime import image, layers
from containers.embedded.embedded_runtime.failure import Failure

Member = tuple[str, bytes | None, dict[str, Any]]
Unpack = Callable[..., Path]


def file(name: str, content: str = "", **attributes: Any) -> Member:  # noqa: ANN401 - attributes of a TarInfo
    return name, content.encode(), attributes


def folder(name: str, mode: int = 0o755) -> Member:
    return name, None, {"type": tarfile.DIRTYPE, "mode": mode}


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return name, None, {"type": kind, "linkname": target}


def tar(*members: Member) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content, attributes in members:
            info = tarfile.TarInfo(name)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


@pytest.fixture(scope="module")
def user_namespaces() -> None:
    """Fail where layers can not be unpacked: a skip would hide that nothing here was tried."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"user namespaces are needed ({done.stderr.strip()}); `ci/bootstrap doctor` names the setting")


@pytest.fixture
def unpack(tmp_path: Path, user_namespaces: None) -> Unpack:
    """Return a function that writes layers, given as bytes and lowest first, to a fresh root file system."""
    del user_namespaces

    def unpack(*contents: bytes, finish: Callable[[], None] = lambda: None) -> Path:
        rootfs = tmp_path / "rootfs"
        rootfs.mkdir()
        paths = []
        for number, content in enumerate(contents):
            path = tmp_path / f"layer{number}"
            path.write_bytes(content)
            paths.append(path)
        layers.unpack(rootfs, paths, finish)
        return rootfs

    return unpack


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_whiteout_removes_what_a_lower_layer_brought(unpack: Unpack) -> None:
    rootfs = unpack(tar(file("a/x"), file("a/y"), file("b/z")), tar(file("a/.wh.x"), file(".wh.b")))
    assert names(rootfs) == ["a"]
    assert names(rootfs / "a") == ["y"]


def test_a_whiteout_spares_its_own_layer_whatever_the_order(unpack: Unpack) -> None:
    rootfs = unpack(tar(file("a/x", "old"), file("a/y")), tar(file("a/x", "new"), file("a/.wh.x"), file(".wh.a")))
    assert names(rootfs / "a") == ["x"]
    assert (rootfs / "a/x").read_text() == "new"


def test_an_opaque_folder_hides_the_lower_one(unpack: Unpack) -> None:
    rootfs = unpack(tar(file("a/deep/x"), file("a/y")), tar(file("a/deep/new"), file("a/.wh..wh..opq")))
    assert names(rootfs / "a") == ["deep"]
    assert names(rootfs / "a/deep") == ["new"]


@pytest.mark.parametrize("before", [file("a"), link("a", "elsewhere"), folder("a")], ids=["file", "link", "folder"])
@pytest.mark.parametrize("after", [file("a", "new"), link("a", "there"), folder("a")], ids=["file", "link", "folder"])
def test_a_file_of_another_kind_takes_the_place(unpack: Unpack, before: Member, after: Member) -> None:
    path = unpack(tar(before), tar(after)) / "a"
    kind = after[2].get("type", tarfile.REGTYPE)
    expected = (kind == tarfile.DIRTYPE, kind == tarfile.SYMTYPE, kind == tarfile.REGTYPE)
    assert (path.is_dir(), path.is_symlink(), path.is_file()) == expected


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder beside the root file system, with a file that no layer may reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text("mine")
    return folder


def untouched(folder: Path) -> bool:
    """Tell whether the folder outside is as it was, and its file has no second name."""
    kept = folder / "kept"
    return names(folder) == ["kept"] and kept.read_text() == "mine" and kept.stat().st_nlink == 1


@pytest.mark.parametrize("name", ["../outside/new", "a/../../outside/new", "/../outside/new", "{outside}/new"])
def test_a_name_that_climbs_stays_inside(unpack: Unpack, outside: Path, name: str) -> None:
    name = name.format(outside=outside)
    rootfs = unpack(tar(file(name, "new")))
    assert untouched(outside)
    assert [path.name for path in rootfs.rglob("*") if path.is_file()] == ["new"]


@pytest.mark.parametrize("target", ["../outside", "../../../../../../../..{outside}", "{outside}"])
def test_a_link_leads_nowhere_outside(unpack: Unpack, outside: Path, target: str) -> None:
    away = link("away", target.format(outside=outside))
    rootfs = unpack(tar(away), tar(file("away/new", "x"), file("away/kept", "x")))
    assert untouched(outside)
    assert (rootfs / "away").is_symlink()
    unpacked = [path for path in rootfs.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sorted(path.name for path in unpacked) == ["kept", "new"]


@pytest.mark.parametrize("target", ["../outside/kept", "{outside}/kept", "a/../../outside/kept", "away/kept"])
def test_a_hard_link_to_a_file_outside_is_refused(unpack: Unpack, outside: Path, target: str) -> None:
    stolen = link("stolen", target.format(outside=outside), tarfile.LNKTYPE)
    with pytest.raises(Failure, match="No such file or directory"):
        unpack(tar(file("a/x"), link("away", str(outside))), tar(stolen))
    assert untouched(outside)


def test_a_hard_link_to_a_link_is_that_link(unpack: Unpack, outside: Path) -> None:
    first = tar(link("away", str(outside / "kept")), link("again", "away", tarfile.LNKTYPE))
    rootfs = unpack(first, tar(file("again", "overwritten")))
    assert untouched(outside)
    assert (rootfs / "away").is_symlink()
    assert (rootfs / "again").read_text() == "overwritten"


@pytest.mark.parametrize(
    "name", ["away/.wh..wh..opq", "away/.wh.kept", "../outside/.wh.kept", "{outside}/.wh..wh..opq"]
)
@pytest.mark.parametrize("target", ["../outside", "{outside}"])
def test_nothing_outside_is_removed(unpack: Unpack, outside: Path, name: str, target: str) -> None:
    unpack(tar(link("away", target.format(outside=outside))), tar(file(name.format(outside=outside))))
    assert untouched(outside)


def test_an_opaque_folder_that_is_a_link_hides_what_is_behind_it(unpack: Unpack) -> None:
    rootfs = unpack(tar(file("real/old"), link("away", "real")), tar(file("away/.wh..wh..opq"), file("away/new")))
    assert names(rootfs / "real") == ["new"]


@pytest.mark.parametrize("hidden", ["", ".", ".."])
@pytest.mark.parametrize("folder_", ["", "a/", "a/b/"])
def test_a_whiteout_of_no_file_is_refused(unpack: Unpack, tmp_path: Path, hidden: str, folder_: str) -> None:
    with pytest.raises(Failure, match="invalid whiteout"):
        unpack(tar(file("a/b/c"), file("d")), tar(file(f"{folder_}.wh.{hidden}")))
    assert (tmp_path / "rootfs/a/b/c").exists()
    assert (tmp_path / "rootfs/d").exists()


@pytest.mark.parametrize("way", ["etc", "etc/environment", "etc/rc"])
def test_the_configuration_is_written_inside(unpack: Unpack, outside: Path, way: str) -> None:
    layer = tar(link(way, str(outside if way == "etc" else outside / "kept")))
    finish = lambda: image.write({"WorkingDir": "/../../outside/made", "Env": ["A=1"]}, "docker://it")  # noqa: E731
    with contextlib.suppress(Failure):  # what /etc leads to is not there
        unpack(layer, finish=finish)
    assert untouched(outside)


def test_a_write_that_takes_less_is_continued(unpack: Unpack, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda target, content: write(target, content[: len(content) // 3 + 1]))
    content = "".join(f"{number}\n" for number in range(2000))
    assert (unpack(tar(file("a", content))) / "a").read_text() == content


def test_a_full_disk_is_an_error(unpack: Unpack, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [1000]

    def limited(target: int, content: bytes) -> int:
        """Take what there is room for; the pipe for the error always has room."""
        if stat.S_ISFIFO(os.fstat(target).st_mode):
            return write(target, content)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(target, content[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(Failure, match="No space left on device"):
        unpack(tar(file("a", "x" * 5000)))


def test_links_of_lower_layers_are_followed_inside(unpack: Unpack) -> None:
    rootfs = unpack(tar(link("var/run", "/run")), tar(file("var/run/it", "here")))
    assert (rootfs / "var/run").is_symlink()
    assert (rootfs / "run/it").read_text() == "here"


def test_modes_links_and_closed_folders(unpack: Unpack) -> None:
    rootfs = unpack(
        tar(
            folder("closed", 0),
            file("closed/file", "inside"),
            file("program", mode=0o755),
            file("suid", mode=0o4711),
            link("again", "program", tarfile.LNKTYPE),
        )
    )
    assert (rootfs / "closed/file").read_text() == "inside"
    assert [(rootfs / name).stat().st_mode & 0o7777 for name in ("program", "suid")] == [0o755, 0o4711]
    assert (rootfs / "again").samefile(rootfs / "program")


def test_devices_are_left_out(unpack: Unpack) -> None:
    null: Member = ("null", None, {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})
    rootfs = unpack(tar(null, file("dev/thing"), file("kept")))
    assert names(rootfs) == ["kept"]


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=content, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none", "mixed"])
def test_compressions(unpack: Unpack, compression: str) -> None:
    if compression in ("zstd", "mixed") and shutil.which("zstd") is None:
        pytest.skip("zstd is missing: apt-get install zstd")
    lower, upper = tar(file("a", "1" * 100_000)), tar(file("b", "2"), file(".wh.c"))
    ways: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        "gzip": (gzip.compress, gzip.compress),
        "zstd": (zstd, zstd),
        "none": (bytes, bytes),
        "mixed": (zstd, gzip.compress),
    }
    first, second = ways[compression]
    rootfs = unpack(first(lower), second(upper))
    assert names(rootfs) == ["a", "b"]
    assert (rootfs / "a").stat().st_size == 100_000


@pytest.mark.parametrize("cut", [40, 400])
def test_a_damaged_layer_is_refused(unpack: Unpack, cut: int) -> None:
    content = gzip.compress(tar(file("a", "".join(f"{number}\n" for number in range(2000)))))
    assert cut < len(content)
    with pytest.raises(Failure):
        unpack(content[:-cut])


def test_the_configuration_becomes_files_that_a_shell_can_run(unpack: Unpack) -> None:
    config = {
        "Env": ["A=it's", "B=x y"],
        "WorkingDir": "/made/here",
        "Entrypoint": ["/bin/echo", "don't"],
        "Labels": {"note": "one\ntouch /owned\n'", "other": "fine"},
    }
    rootfs = unpack(tar(file("x")), finish=lambda: image.write(config, "docker://somewhere/it:1"))
    assert (rootfs / "made/here").is_dir()
    assert image.environment((rootfs / "etc/environment").read_text()) == {"A": "it's", "B": "x y"}
    script = (rootfs / "etc/rc").read_text().replace("/made/here", str(rootfs / "made/here"))
    done = subprocess.run(["sh", "-c", script, "rc", "a b"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("don't a b\n", "")
