"""Archives of tags, as `git archive` and GitHub make them."""

import io
import tarfile

COMMIT = "107519944221822ea1dace4db8e7234b2eaa4cd5"


def tag_tar(commit: str = COMMIT, **files: bytes) -> bytes:
    """Return the uncompressed archive of a tag: the commit in the pax header, then the files below one folder."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": commit}) as tar:
        for name, content in (files or {"README": b"hello\n"}).items():
            member = tarfile.TarInfo(f"project-1.0/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return written.getvalue()
