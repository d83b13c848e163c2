"""One enumeration knows every spelling of an architecture."""

import platform

import pytest

from ci.matrix.arch import Arch


@pytest.mark.parametrize("text", ["amd64", "x86_64", "x86-64", "X86_64", "x64", "linux/amd64", " amd64\n"])
def test_every_spelling_of_amd64(text: str) -> None:
    assert Arch.parse(text) is Arch.AMD64


@pytest.mark.parametrize("text", ["arm64", "aarch64", "ARM64", "arm64/v8", "linux/arm64", "linux/arm64/v8"])
def test_every_spelling_of_arm64(text: str) -> None:
    assert Arch.parse(text) is Arch.ARM64


@pytest.mark.parametrize("text", ["", "arm", "armv7l", "i686", "riscv64", "linux/386", "windows/amd64"])
def test_an_unknown_architecture_names_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match="unknown architecture") as caught:
        Arch.parse(text)
    assert repr(text) in str(caught.value)
    assert "aarch64" in str(caught.value)


@pytest.mark.parametrize("arch", Arch)
def test_what_it_prints_can_be_parsed(arch: Arch) -> None:
    assert {Arch.parse(text) for text in (arch.value, arch.uname, arch.platform)} == {arch}


def test_the_spellings_other_programs_want() -> None:
    assert [(arch.value, arch.uname, arch.platform) for arch in Arch] == [
        ("amd64", "x86_64", "linux/amd64"),
        ("arm64", "aarch64", "linux/arm64"),
    ]


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", Arch.AMD64), ("aarch64", Arch.ARM64), ("arm64", Arch.ARM64)])
def test_the_host(monkeypatch: pytest.MonkeyPatch, machine: str, arch: Arch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert Arch.host() is arch


def test_a_host_the_project_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "ppc64le")
    with pytest.raises(ValueError, match="'ppc64le'"):
        Arch.host()
