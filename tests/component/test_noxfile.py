"""The noxfile as nox sees it: what plain nox runs, what its list says, and that a missing interpreter is an error.

Which cells the list has is tested with the commands (`test_weather_commands.py`).
"""

import re
import subprocess
import sys

from tests.component.weather import REPOSITORY

# `* lint [project] -> Check style.`: `*` is run by plain nox, `-` is not.
LINE = re.compile(r"^([*-]) (\S+)(?: \[[^]]*\])?(?: -> (.*))?$", re.MULTILINE)


def nox(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nox", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)


def test_plain_nox_runs_only_what_needs_no_cell() -> None:
    listed = LINE.findall(nox("--list").stdout)
    assert {name for mark, name, _ in listed if mark == "*"} == {"lint", "types", "tests"}
    assert {"pyxis_basic", "legacy_integration"} <= {name.partition("(")[0] for mark, name, _ in listed if mark == "-"}


def test_every_session_has_a_sentence_in_the_list() -> None:
    listed = LINE.findall(nox("--list").stdout)
    assert [name for _, name, sentence in listed if not sentence.endswith(".")] == []


def test_a_missing_interpreter_is_no_success() -> None:
    """Nox itself skips such a session by default and ends with 0 outside of CI (wntrblm/nox#340)."""
    done = nox("--session", "lint", "--force-python", "3.99", "--no-install", CI="")
    assert done.returncode == 1, done.stderr
    assert "the virtual environment of this session was not made" in done.stderr
    assert "No interpreter found for Python 3.99" in done.stderr
