"""What the tests share that start real environments, and spoil something about them."""

from collections.abc import Callable, Mapping
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import docker
import pytest

from ci.engine.labels import LABEL_RUN
from ci.matrix.arch import Arch

REPOSITORY = Path(__file__).resolve().parents[2]
LEGACY = f"slurm22.05-legacy-debian12-{Arch.host()}"
"""The smallest cell: no registry, no container runtime; it is up in two seconds."""

# Nothing here is measured; these only keep a test that went wrong from waiting for ever.
LIMIT_SECONDS = 300.0


def until(what: str, condition: Callable[[], object], limit: float = LIMIT_SECONDS) -> None:
    """Wait until something holds; the test fails with ``what`` where it never does."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {limit:g} s")
        time.sleep(0.05)


def left_behind(api: docker.DockerClient, run: str) -> list[str]:
    """Return the names of all containers, networks and volumes of a run."""
    query: dict[str, str | list[str] | bool] = {"label": f"{LABEL_RUN}={run}"}
    found = [str(it.name) for it in api.containers.list(all=True, filters=query, ignore_removed=True)]
    found += [str(it.name) for it in api.networks.list(filters=query)]
    return found + [str(it.name) for it in api.volumes.list(filters=query)]


def containers_of(api: docker.DockerClient, run: str) -> list[str]:
    """Return the names of a run's containers, whatever their state."""
    found = api.containers.list(all=True, filters={"label": f"{LABEL_RUN}={run}"}, ignore_removed=True)
    return sorted(str(it.name) for it in found)


class Process:
    """A program in a session of its own, as behind a terminal; what it writes is kept line by line."""

    def __init__(self, command: list[str], environ: Mapping[str, str] | None = None, folder: Path = REPOSITORY) -> None:
        """Start it in a folder, with ``environ`` added to the environment."""
        # A session around these tests is no business of a session below them.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYXIS_MATRIX_ENV"))
        }
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def ci(cls, *arguments: str, **environ: str) -> "Process":
        """Start ``python -m ci``."""
        return cls([sys.executable, "-m", "ci", *arguments], environ)

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stream:
            for line in stream:
                self._lines.append(line)

    @property
    def output(self) -> str:
        """All that it has written so far."""
        return "".join(self._lines)

    def wait_for_output(self, text: str) -> None:
        """Wait until it has written ``text``."""
        until(
            f"{text!r} in what it writes", lambda: text in self.output or self.process.poll() is not None, LIMIT_SECONDS
        )
        assert text in self.output, self.output

    def press_ctrl_c(self) -> None:
        """Send SIGINT to all of its session, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM to it alone, as an init system or a CI runner does."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to all of its session."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._reader.join(5)
            pytest.fail(f"it does not end:\n{self.output}")
        finally:
            self._reader.join(5)
