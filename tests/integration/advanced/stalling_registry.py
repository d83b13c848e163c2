"""A registry that never sends an image to its end, and what an import that waits for it leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import re
import secrets
from typing import TYPE_CHECKING, Any

from ci.environment.wait import NotYet, Watched, wait_for
from tests.support.cluster import JOB_LIMIT, Node, Shell

if TYPE_CHECKING:
    from slurm.job import Job

_EQUAL_LOOKS = 3

_STALLING = """
import http.server, json, pathlib, sys, time

folder = pathlib.Path(sys.argv[1])
kind = "application/vnd.docker.distribution.manifest.v2+json"
parts = {
    name: {
        "mediaType": f"application/vnd.docker.{media}",
        "size": 1000000,
        "digest": f"sha256:{sys.argv[2]}{32 * digit}",
    }
    for name, media, digit in (("layer", "image.rootfs.diff.tar.gzip", "a"), ("config", "container.image.v1+json", "b"))
}
manifest = {"schemaVersion": 2, "mediaType": kind, "config": parts["config"], "layers": [parts["layer"]]}
body = json.dumps(manifest).encode()

class Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        blob = "/blobs/" in self.path
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if blob else kind)
        self.send_header("Content-Length", "1000000" if blob else str(len(body)))
        self.end_headers()
        if blob:
            (folder / "asked").touch()
            time.sleep(3600)

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
(folder / "port.new").write_text(str(server.server_port))
(folder / "port.new").rename(folder / "port")
server.serve_forever()
"""


@dataclass(frozen=True, kw_only=True)
class StallingRegistry:
    """A registry on the login node that has every image, and never sends one to its end."""

    port: int
    digest: str
    """Begins the digests of its image's parts, and nobody else's."""
    folder: str
    shell: Shell

    def wait_until_asked(self, job: "Job[Any]") -> None:
        """Wait until a job waits for a layer; one that has ended never will."""

        def probe() -> bool | NotYet:
            return self.shell.run_unchecked(f"test -e {self.folder}/asked").status == 0 or NotYet("nobody asked")

        def alive() -> bool | str:
            return f"the job has ended:\n{job.get_stderr()}" if job.is_completed() else True

        wait_for("a request for a layer", probe, limit=JOB_LIMIT, poll=0.5, watched=Watched(alive=alive))


@contextmanager
def stalling_registry(shell: Shell) -> Iterator[StallingRegistry]:
    """Have such a registry on the login node for the block."""
    folder = shell.run("mktemp --directory /tmp/stalling-XXXXXXXXXX").stdout.strip()
    shell.run(f"cat > {folder}/server.py", stdin=_STALLING)
    digest = secrets.token_hex(16)
    start = f"nohup python3 {folder}/server.py {folder} {digest} > {folder}/log 2>&1 < /dev/null & echo $!"
    process = shell.run(start).stdout.strip()
    try:

        def probe() -> int | NotYet:
            done = shell.run_unchecked(f"cat {folder}/port {folder}/log")
            return int(done.stdout) if done.status == 0 and done.stdout.strip().isdigit() else NotYet(str(done))

        port = wait_for("the stalling registry", probe, limit=60)
        yield StallingRegistry(port=port, digest=digest, folder=folder, shell=shell)
    finally:
        shell.run_unchecked(f"kill {process}; rm -rf {folder}")


def processes(node: Node, text: str, user: str) -> dict[int, str]:
    """Return a user's processes on a node that have ``text`` in their command line: that line, and where they work."""
    script = (
        # Quotes inside the text: as it stands, it would find the shell that looks for it.
        f'text={text[:1]}""{text[1:]}; for folder in /proc/[0-9]*; do '
        "words=$(tr '\\0\\n' '  ' < $folder/cmdline 2>/dev/null); "
        'case "$words" in *"$text"*) echo "${folder#/proc/} $(readlink $folder/cwd) $words";; esac; done'
    )
    found = (line.partition(" ") for line in node.run(script, user=user).stdout.splitlines())
    return {int(number): rest for number, _, rest in found}


def settled_processes(node: Node, text: str, user: str) -> dict[int, str]:
    """Return the same once no process has come or gone for a few looks.

    A download that starts in the very moment in which its job is cancelled is forgotten by enroot 3.4.1, and waits on
    for ever; seen once, on a busy machine. That is not what a test of cancelling is about.
    """
    looks: list[dict[int, str]] = []

    def probe() -> dict[int, str] | NotYet:
        looks.append(processes(node, text, user))
        last = looks[-_EQUAL_LOOKS:]
        settled = len(last) == _EQUAL_LOOKS and all(look.keys() == last[0].keys() for look in last)
        return last[-1] if settled else NotYet(str(last[-1]))

    return wait_for(f"the processes with {text} to stay the same", probe, limit=60, poll=1.0)


def work_folders(running: dict[int, str]) -> set[str]:
    """Return the folders in which processes prepare an image, by what `processes` says of them."""
    return set(re.findall(r"/var/lib/enroot-data/(?:[^\s/:]+/)*tmp/[^\s/:]+", "\n".join(running.values())))


def wait_until_gone(node: Node, text: str, user: str) -> None:
    """Wait until a user has no process with ``text`` in its command line."""

    def probe() -> bool | NotYet:
        left = processes(node, text, user)
        return True if not left else NotYet(str(left))

    wait_for(f"the end of all processes with {text}", probe, limit=60)
