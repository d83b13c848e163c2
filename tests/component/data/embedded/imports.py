"""Import two images with common layers from many processes at once, on a node, and look at each result.

`python3 imports.py ROUNDS` makes 16 imports a round; every second round starts with an empty cache. The registry is a
server of this script's own, which has nothing but these images. Half a file is seen by chance only, so the cause is
looked for as well: a file of the cache that another import wrote anew, in its place. Prints what failed; status 1 then.
"""

import gzip
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tarfile
import threading

AT_ONCE = 16
DOCKER = "application/vnd.docker"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

blobs: dict[str, bytes] = {}
manifests: dict[str, bytes] = {}


def keep(content: bytes, kind: str) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blobs[digest] = content
    return {"mediaType": kind, "size": len(content), "digest": digest}


def layer(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Return a layer as it is and compressed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue(), gzip.compress(stream.getvalue(), 1, mtime=0)


def image(name: str, layers: list[tuple[bytes, bytes]]) -> None:
    config = {
        "architecture": ARCHITECTURES[os.uname().machine],
        "os": "linux",
        "config": {"Env": [f"NAME={name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(raw).hexdigest()}" for raw, _ in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": keep(json.dumps(config).encode(), f"{DOCKER}.container.image.v1+json"),
        "layers": [keep(packed, f"{DOCKER}.image.rootfs.diff.tar.gzip") for _, packed in layers],
    }
    manifests[name] = json.dumps(manifest).encode()


class Registry(BaseHTTPRequestHandler):
    """What a client asks for to pull."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer from memory."""
        *_, kind, name = self.path.split("/")
        content = {"manifests": manifests, "blobs": blobs}.get(kind, {}).get(name)
        if self.path == "/v2/":
            kind, content = "", b"{}"
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", MANIFEST if kind == "manifests" else "application/octet-stream")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def shared(cache: Path) -> dict[Path, tuple[int, int]]:
    """Return the cache's files with what a new content changes; folders of a single import's own are left out."""
    found = {}
    for folder, folders, names in os.walk(cache):
        folders[:] = [name for name in folders if not name.startswith(".partial.")]
        for path in (Path(folder, name) for name in names):
            status = path.stat()
            found[path] = (status.st_ino, status.st_mtime_ns)
    return found


def main() -> int:
    rounds, failures = int(sys.argv[1]), 0
    common = [layer({f"common/{number}": os.urandom(200_000)}) for number in range(3)]
    for name in ("one", "two"):
        image(name, [*common, layer({"marker": name.encode()})])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = Path("/var/lib/enroot-data/tmp/imports")
    cache = Path(f"/var/lib/enroot-data/cache/user-{os.getuid()}")
    rewritten: set[Path] = set()
    for number in range(rounds):
        folder.mkdir()
        if number % 2 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        before = shared(cache)
        running = []
        for index in range(AT_ONCE):
            name = ("one", "two")[index % 2]
            target = folder / f"{index}.sqsh"
            command = ["enroot", "import", "-o", str(target), f"docker://127.0.0.1:{server.server_port}#img:{name}"]
            started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            running.append((name, target, started))
        for name, target, started in running:
            said = started.communicate()[0]
            content = subprocess.run(["unsquashfs", "-cat", str(target), "marker"], capture_output=True, check=False)
            if started.returncode != 0 or content.stdout.decode() != name:
                failures += 1
                sys.stdout.write(f"round {number}, image {name}: status {started.returncode}: {said}\n")
        after = shared(cache)
        rewritten |= {path for path in before if after.get(path) != before[path]}
        shutil.rmtree(folder)
    for path in sorted(rewritten):
        sys.stdout.write(f"written anew in its place: {path}\n")
    sys.stdout.write(f"{rounds * AT_ONCE} imports, {failures} failed, {len(rewritten)} files written anew\n")
    return 1 if failures or rewritten else 0


if __name__ == "__main__":
    sys.exit(main())
