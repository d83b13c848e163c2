"""uv, and the settings with which it uses the same package index as the user's pip.

uv reads neither pip's files nor its variables. An environment that uv made has no pip (`pip config list` could show
them), so they are read here. Standard library only, because the noxfile imports this folder.
"""

from collections.abc import Iterable, Iterator, Mapping
from configparser import Error, RawConfigParser
import os
from pathlib import Path
import shutil
import sys

from ci.errors import PyxisMatrixError

_SAME_MEANING = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
}
"""pip's settings, and the variables that say the same to uv."""

_SYSTEM_FILES = (Path("/Library/Application Support/pip/pip.conf"), Path("/etc/pip.conf"))

_CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TRUE = {"1", "true", "yes", "on", "y", "t"}
_NO_INDEX = "file:///nonexistent/"
"""uv's option ``--no-index`` has no variable; an index without packages has the same effect."""


def program(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the path of uv: beside this Python, or else on PATH; ``None`` where there is none."""
    search = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    return shutil.which("uv", path=search)


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment to start uv in: ``environ`` with pip's settings added.

    Variables that are set already are kept. If one of them names an index for uv, pip's indexes are ignored.

    :raises PyxisMatrixError: if one of pip's files can't be parsed.
    """
    pip = pip_settings(environ)
    settings: dict[str, str] = {}
    for name, variable in _SAME_MEANING.items():
        if name in pip:
            # uv splits UV_FIND_LINKS at commas, and lists in other variables at blanks; pip splits all at blanks.
            settings[variable] = (",".join if name == "find-links" else " ".join)(pip[name].split())
    for name in _CA_BUNDLES:
        if environ.get(name):
            settings.setdefault("SSL_CERT_FILE", environ[name])
    if pip.get("no-index", "").lower() in _TRUE:
        settings["UV_DEFAULT_INDEX"] = _NO_INDEX
        settings.pop("UV_INDEX", None)
    if "UV_INDEX" in settings:
        # pip takes the best release of all its indexes; uv by itself stops at the first that knows the package.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if any(name.startswith("UV_") and "INDEX" in name for name in environ):
        settings = {name: value for name, value in settings.items() if "INDEX" not in name}
    # The certificates of the system, as newer pips do: a proxy of the site is trusted there.
    defaults = {"UV_SYSTEM_CERTS": "true", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    return {**defaults, **settings, **environ}


def pip_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the settings of pip's files and variables for ``pip install``, by pip's own names (``extra-index-url``).

    https://pip.pypa.io/en/stable/topics/configuration/ has the files and their order; a later one wins.
    """
    # Raw, as pip reads them: a % in a proxy's password stands for itself.
    parser = RawConfigParser()
    try:
        parser.read(_files(environ), encoding="utf-8")
    except (Error, OSError, UnicodeDecodeError) as problem:
        raise PyxisMatrixError(
            "pip's configuration is invalid",
            why=" ".join(str(problem).split()),
            next_step="correct that file; `pip config debug` lists all of them",
        ) from problem
    settings: dict[str, str] = {}
    # As in pip, [install] wins over [global] whichever file it is in, and a variable over both.
    for section in ("global", "install"):
        if parser.has_section(section):
            settings |= {_name(key): value for key, value in parser.items(section)}
    settings |= {_name(key[4:]): value for key, value in environ.items() if key.startswith("PIP_") and value}
    return {name: value for name, value in settings.items() if value.strip()}


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    named = environ.get("PIP_CONFIG_FILE", "")
    # pip's own way to have no file read at all.
    if named == os.devnull:
        return
    home = Path(environ.get("HOME") or os.devnull)
    system = [Path(folder) for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)]
    yield from (folder / "pip/pip.conf" for folder in system)
    yield from _SYSTEM_FILES
    # pip leaves the user's own files out where the variable names one that exists; it is then read last.
    if not (named and Path(named).exists()):
        own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        yield home / ".pip/pip.conf"
        yield from (folder / "pip/pip.conf" for folder in (home / "Library/Application Support", own))
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def write_requirements(folder: Path, requirements: Iterable[str], constraints: Iterable[str]) -> Path:
    """Write requirements, and their constraints beside them; return the file for uv's or pip's command line."""
    folder.joinpath("constraints.txt").write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    file = folder / "requirements.txt"
    # The constraints are named in the file: on the command line they would replace those that the user has set.
    lines = ("--constraint constraints.txt", *requirements)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file
