"""Attacks by commands of the program that start no cell: an engine that is not there, a password, another release."""

from contextlib import suppress
import gzip
import hashlib
import os
from pathlib import Path
import shlex
import subprocess

from msgspec.structs import replace

from ci import environment_file
from ci.engine.build_client import find_build_client
from ci.environment import ssh
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import catalogue
from ci.record.outcomes import Outcome
from tests.attacks.attack import Attacks, Seen
from tests.attacks.ground import Ground, last_line
from tests.support import results
from tests.support.environments import environment
from tests.support.login_node import LoginNode
from tests.support.ssh_server import serving
from tests.support.tag_archives import tag_tar

attack = Attacks(cell=False)
_CELL = results.cell("22.05", "debian12", "3.4.1", "0.19.0")
_NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/engine.sock"}
_PASSES = "embedded: 1 passed"


@attack(
    "a dead engine",
    "the run's id again where no engine answers",
    "the earlier result no longer counts",
    says=r"next: start that engine",
)
def _dead_engine(ground: Ground) -> Seen:
    of = replace(results.cell("22.05", "debian12", kind="embedded"), id=ground.cell)
    ground.made(results.result(of, run=ground.run))
    options = ("--run", ground.run, "--results", str(ground.results), "--suite", "pyxis_basic")
    ended = ground.program("matrix", ground.cell, *options, variables=_NO_ENGINE)
    said = (ended, ground.report())
    held = ended.exit_code != 0 and not any(_PASSES in it.output for it in said)
    return Seen(held=held, text=" and ".join(map(last_line, said)))


@attack(
    "refused early",
    "the run's id again, of a cell that needs another machine",
    "the earlier result no longer counts",
    says=r"needs \w+ hardware, and this is",
)
def _refused_early(ground: Ground) -> Seen:
    other = next(it for it in Arch if it is not Arch.host())
    of = results.cell("22.05", "debian12", kind="embedded", arch=other.value)
    ground.made(results.result(of, run=ground.run))
    ended = ground.program("suite", "pyxis_basic", of.id, "--run", ground.run, "--results", str(ground.results))
    said = ground.report()
    held = ended.exit_code != 0 and _PASSES not in said.output
    return Seen(held=held, text=f"{last_line(ended)}; {last_line(said)}")


@attack(
    "the same run on a site",
    "a session on a cluster that exists, with the id of a run that another machine has there",
    "refused, and what that run has there is left alone",
    says=r"is already in progress on the cluster",
)
def _same_run_on_a_site(ground: Ground) -> Seen:
    there, here = LoginNode(ground.folder / "there"), ground.folder / "here"
    theirs = there.home / "pyxis-matrix" / ground.run / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    (there.home / "jobs").write_text(f"1|pyxis-matrix-{ground.run}|(null)|/\n", encoding="utf-8")
    keys = {name: ssh.new_key(name) for name in ("host", "user")}
    with serving(keys, there.answer) as port:
        ssh.write_home(here, user_key=keys["user"], host_key=keys["host"], port=port)
        words = ("--run", ground.run, "--results", str(ground.results), "--suite", "pyxis_conformance")
        variables = {"HOME": str(here), "PYXIS_MATRIX_CACHE": str(here / "cache"), "SSH_AUTH_SOCK": ""}
        ended = ground.program("site", f"ann@127.0.0.1:{port}", *words, variables=variables)
    left = theirs.exists() and not (there.home / "cancelled").exists()
    return Seen(held=ended.exit_code != 0 and left, text=f"{'left alone' if left else 'removed'}; {last_line(ended)}")


@attack(
    "a password on the command line",
    "as the value of an option, then a look into all that was written",
    "it is in no file",
    says=r"visible to every user",
)
def _password(ground: Ground) -> Seen:
    secret = "an-attackers-password"  # noqa: S105 - it is looked for
    ended = ground.session("--as", "mine", "--password", secret, behind=("true",), variables=_NO_ENGINE)
    written = [path.name for path in ground.results.rglob("*") if path.is_file() and secret in _text(path)]
    text = f"written into {', '.join(written)}" if written else last_line(ended)
    return Seen(held=not written, text=text)


@attack(
    "another release",
    "a mirror with other files and SHA256SUMS of its own, with `--strict`",
    "refused, and pins.toml named",
    says=r"differs from pins\.toml, and --strict refuses it",
)
def _another_release(ground: Ground) -> Seen:
    mirror, _ = _mirror(ground.folder, b"another release\n")
    done = ground.program("images", _CELL.id, "--mirror", str(mirror), "--results", str(ground.results), "--strict")
    return Seen(held=done.exit_code != 0, text=last_line(done))


@attack(
    "a release that is swapped",
    "another file in the mirror as soon as the first was read, then a look at what the build is given",
    "the build is given what was checked",
    says=r"the build was given what was checked",
)
def _swapped(ground: Ground) -> Seen:
    mirror, package = _mirror(ground.folder, b"a release\n" * 10_000_000)
    checked = hashlib.sha256(package.read_bytes()).hexdigest()
    given, client = ground.folder / "given", ground.folder / "bin" / "docker"
    client.parent.mkdir()
    # A client that builds nothing: it notes the checksums of what it would build from.
    notes = f'find "$folder" -type f -exec sha256sum {{}} + >> {shlex.quote(str(given))}; exit 1'
    client.write_text(
        f'#!/bin/bash\nfor folder; do :; done\nif [ -d "$folder" ]; then {notes}; fi\n'
        f'exec {find_build_client().path} "$@"\n',
        encoding="utf-8",
    )
    client.chmod(0o755)
    variables = {"PATH": f"{client.parent}{os.pathsep}{os.environ['PATH']}", "PYXIS_MATRIX_CACHE": str(ground.folder)}
    words = ("images", _CELL.id, "--mirror", str(mirror), "--results", str(ground.results))
    with ground.started(*words, variables=variables) as process:
        read = ground.until(process, lambda: _opened(process, package))
        read = read and ground.until(process, lambda: not _opened(process, package))
        another = mirror / "another"
        another.write_bytes(b"another\n")
        another.replace(package)
    sums = given.read_text(encoding="utf-8") if given.exists() else ""
    if not read or package.name not in sums:
        return Seen(held=False, text=f"the attack itself failed: nothing was built of {package.name}")
    honest = checked in sums
    return Seen(held=honest, text=f"the build was given {'what was checked' if honest else 'another file'}")


def _mirror(folder: Path, package: bytes) -> tuple[Path, Path]:
    """Make a mirror of made-up files of `_CELL`, which its SHA256SUMS vouches for; return it, and enroot's package."""
    mirror = folder / "mirror"
    names = [
        *(f"NVIDIA/enroot/releases/download/v3.4.1/{it}_3.4.1-1_amd64.deb" for it in ("enroot", "enroot+caps")),
        "NVIDIA/pyxis/archive/refs/tags/v0.19.0.tar.gz",
    ]
    for name, content in zip(names, (package, package, gzip.compress(tag_tar())), strict=True):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(content)
    sums = subprocess.run(["sha256sum", *names], cwd=mirror, stdout=subprocess.PIPE, text=True, check=True).stdout
    (mirror / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return mirror, mirror / names[0]


def _opened(process: "subprocess.Popen[str]", file: Path) -> bool:
    """Whether a process has a file open."""
    for descriptor in Path(f"/proc/{process.pid}/fd").glob("*"):
        with suppress(OSError):
            if descriptor.readlink() == file:
                return True
    return False


@attack(
    "a fault's words alone",
    "tests that fail with the words of a known failure, but for another reason: nothing of the kind works",
    "failed, and no known failure",
    says=r"this is not the known failure of ",
)
def _words_alone(ground: Ground) -> Seen:
    cell = loading.load().cell(_CELL.id)
    name, words = next((it.id, words) for it in catalogue().values() if (words := it.answer_on(cell).fails))
    file = environment(cell.id, run=ground.run, suite="registry", results=str(ground.results))
    path = ground.folder / "environment.json"
    environment_file.save(path, file)
    outcome = ground.pytest(
        f"import pytest\n\n@pytest.mark.behaviour({name!r})\ndef test_it():\n    raise OSError({words!r})\n",
        *("-p", "tests.support.known_failures"),
        variables={environment_file.VARIABLE: str(path)},
    )
    return Seen(held=outcome is Outcome.FAILED, text=outcome)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
