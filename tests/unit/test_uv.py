"""What uv is told of pip's settings."""

import os
from pathlib import Path
import sys

import pytest

from ci.errors import PyxisMatrixError
from ci.python import uv


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the environment of a user whose pip has no settings; this machine's files do not count."""
    monkeypatch.setattr(uv, "_SYSTEM_FILES", ())
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg"), "PIP_CONFIG_FILE": str(tmp_path / "none")}


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def told(environ: dict[str, str]) -> dict[str, str]:
    """Return what uv is told beyond the environment itself."""
    return {name: value for name, value in uv.environment(environ).items() if name not in environ}


def test_every_setting_of_pip_that_uv_knows_is_passed_on(home: dict[str, str]) -> None:
    settings = {
        "PIP_INDEX_URL": "https://a.example/simple",
        "PIP_FIND_LINKS": "/one /two",
        "PIP_CONSTRAINT": "/c.txt",
        "PIP_TRUSTED_HOST": "a.example",
        "PIP_DEFAULT_TIMEOUT": "180",
        "PIP_PROXY": "http://proxy:3128",
        "PIP_CERT": "/ca.pem",
        "PIP_CLIENT_CERT": "/me.pem",
    }
    assert told(home | settings).items() >= {
        ("UV_DEFAULT_INDEX", "https://a.example/simple"),
        ("UV_FIND_LINKS", "/one,/two"),
        ("UV_CONSTRAINT", "/c.txt"),
        ("UV_INSECURE_HOST", "a.example"),
        ("UV_HTTP_TIMEOUT", "180"),
        ("ALL_PROXY", "http://proxy:3128"),
        ("SSL_CERT_FILE", "/ca.pem"),
        ("SSL_CLIENT_CERT", "/me.pem"),
    }


def test_without_settings_only_the_defaults_are_told(home: dict[str, str]) -> None:
    assert told(home).keys() == {"UV_SYSTEM_CERTS", "UV_PYTHON_DOWNLOADS", "UV_NO_PROGRESS"}


def test_the_best_of_several_indexes_is_taken_as_pip_does(home: dict[str, str]) -> None:
    result = told(home | {"PIP_EXTRA_INDEX_URL": "file:///a\n file:///b"})
    assert (result["UV_INDEX"], result["UV_INDEX_STRATEGY"]) == ("file:///a file:///b", "unsafe-best-match")


def test_no_index_is_an_index_without_packages(home: dict[str, str]) -> None:
    result = told(home | {"PIP_NO_INDEX": "1", "PIP_EXTRA_INDEX_URL": "https://a.example/simple"})
    assert result["UV_DEFAULT_INDEX"] == "file:///nonexistent/"
    assert "UV_INDEX" not in result
    assert "UV_DEFAULT_INDEX" not in told(home | {"PIP_NO_INDEX": "0"})


@pytest.mark.parametrize("variable", ["UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"])
def test_an_index_that_is_named_to_uv_itself_counts_alone(home: dict[str, str], variable: str) -> None:
    pip = {"PIP_INDEX_URL": "https://a.example", "PIP_EXTRA_INDEX_URL": "https://b.example", "PIP_CERT": "/ca.pem"}
    result = told(home | pip | {variable: "https://mine.example"})
    assert not [name for name in result if "INDEX" in name]
    assert result["SSL_CERT_FILE"] == "/ca.pem"


def test_what_is_set_already_is_kept(home: dict[str, str]) -> None:
    mine = home | {"PIP_CERT": "/a.pem", "SSL_CERT_FILE": "/b.pem", "UV_PYTHON_DOWNLOADS": "automatic"}
    assert uv.environment(mine).items() >= mine.items()


def test_the_ca_bundle_of_other_programs_is_taken_where_pip_names_none(home: dict[str, str]) -> None:
    others = {"REQUESTS_CA_BUNDLE": "/r.pem", "CURL_CA_BUNDLE": "/c.pem"}
    assert told(home | others)["SSL_CERT_FILE"] == "/r.pem"
    assert told(home | others | {"PIP_CERT": "/p.pem"})["SSL_CERT_FILE"] == "/p.pem"


def test_a_later_file_counts_and_variables_count_most(home: dict[str, str], tmp_path: Path) -> None:
    del home["PIP_CONFIG_FILE"]
    write(tmp_path / "xdg/pip/pip.conf", "[global]\nindex-url = system\nno_index = system\nproxy = system\n")
    write(tmp_path / ".config/pip/pip.conf", "[global]\nproxy = user\ntimeout = user\n[install]\nno-index = user\n")
    settings = uv.pip_settings(home | {"PIP_TIMEOUT": "9", "PIP_PROXY": ""})
    wanted = {"index-url": "system", "no-index": "user", "proxy": "user", "timeout": "9"}
    assert settings.items() >= wanted.items()


def test_a_file_that_is_named_stands_for_the_users_own(home: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nproxy = user\n")
    named = str(write(tmp_path / "named.conf", "[global]\nindex-url = named\n"))
    settings = uv.pip_settings(home | {"PIP_CONFIG_FILE": named})
    assert settings["index-url"] == "named"
    assert "proxy" not in settings


def test_pip_without_any_file(home: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "xdg/pip/pip.conf", "[global]\nindex-url = system\n")
    assert uv.pip_settings(home | {"PIP_CONFIG_FILE": os.devnull}) == {"config-file": os.devnull}


def test_a_file_that_pip_could_not_read_either_is_named(home: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path / "named.conf", "index-url = before any section\n")
    with pytest.raises(PyxisMatrixError, match="pip's configuration is invalid") as caught:
        uv.environment(home | {"PIP_CONFIG_FILE": str(file)})
    assert str(file) in caught.value.why


def test_uv_beside_this_python_comes_before_that_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("venv", "path"):
        write(tmp_path / folder / "uv", "").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/python"))
    environ = {"PATH": str(tmp_path / "path")}
    assert uv.program(environ) == str(tmp_path / "venv/uv")
    (tmp_path / "venv/uv").unlink()
    assert uv.program(environ) == str(tmp_path / "path/uv")
    assert uv.program({"PATH": ""}) is None
