"""A git checkout, or a bare repository, that the user names. Its files are read, and never changed.

Uncommitted changes are saved as ``git stash create`` saves them: in a commit that is on no branch, made with an index
of its own. The commit is in the checkout's ``.git``, so the user can look at it by the id that messages and results
have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import tempfile
from typing import Self

from ci import paths
from ci.errors import INSTALLED, CandidateError

_UNCOMMITTED = "pyxis-matrix: uncommitted changes"
"""The message of a commit of uncommitted changes, by which such a commit is recognised."""
# The least that git may show; it adds digits where these are not unique in the repository.
_SHORTEST = 7
_NOT_STARTED = 127


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A checkout on this machine."""

    path: Path
    """Its top folder; for a bare repository the repository itself."""

    @classmethod
    def at(cls, path: Path) -> Self:
        """Return the checkout, or the bare repository, that a folder is in.

        :raises CandidateError: if the folder is in none.
        """
        if not path.is_dir():
            raise CandidateError(
                "the checkout was not found", where=str(path), why="no such folder", next_step="correct the path"
            )
        here = cls(path=path)
        # Also the question whether this is a repository at all. --show-toplevel would fail in a bare one.
        answer = git(path, "rev-parse", "--is-bare-repository")
        if answer.returncode == _NOT_STARTED:
            raise CandidateError(
                "a checkout can't be read without git", where=str(path), why=last_words(answer), next_step="install git"
            )
        if answer.returncode:
            raise CandidateError(
                "the folder is not a git checkout",
                where=str(path),
                why=last_words(answer),
                next_step="name a clone: without git, its state has no name",
            )
        return here if answer.stdout.strip() == "true" else cls(path=Path(here._git("rev-parse", "--show-toplevel")))

    def commit(self, revision: str = "") -> str:
        """Return the full id of a revision's commit; without a revision, of the working tree with uncommitted changes.

        :raises CandidateError: if there is no such revision.
        """
        if not revision:
            return self._working_tree()
        # With --end-of-options a revision that begins with a dash is no option; ^{commit} makes a tag its commit.
        answer = git(self.path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if answer.returncode:
            raise CandidateError(
                f"the checkout has no revision {revision!r}",
                where=str(self.path),
                why="no commit, branch or tag there has this name",
                next_step=f"git -C {self.path} log --oneline, or git fetch --tags",
            )
        return answer.stdout.strip()

    def label(self, commit: str) -> str:
        """Return a commit's segment in a version: ``g1a2b3c4``; for uncommitted changes ``g1a2b3c4.dirty5f6e7d8``.

        The second part is made from their content, so that two states have two names.
        """
        if self.subject(commit) != _UNCOMMITTED:
            return f"g{self._short(commit)}"
        # The tree is the content alone.
        return f"g{self._short(f'{commit}^')}.dirty{self._short(f'{commit}^{{tree}}')}"

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message."""
        return self._git("show", "--no-patch", "--format=%s", commit)

    def file(self, commit: str, name: str) -> str | None:
        """Return the text of a file in the top folder of a commit; None if there is none."""
        answer = git(self.path, "show", f"{commit}:{name}")
        return None if answer.returncode else answer.stdout

    def archive(self, commit: str, name: str, target: Path) -> None:
        """Write a commit's files as a tar archive, all in a folder ``name``."""
        # git writes the commit into the tar's header; `of_tag_archive` reads it there.
        self._git("archive", "--format=tar.gz", f"--prefix={name}/", f"--output={target}", commit)

    def between(self, good: str, bad: str) -> tuple[str, ...]:
        """Return the commits after ``good`` up to ``bad``, oldest first; of a merge only its first parent's line.

        :raises CandidateError: if ``good`` is not an ancestor of ``bad``.
        """
        if git(self.path, "merge-base", "--is-ancestor", good, bad).returncode:
            base = git(self.path, "merge-base", good, bad).stdout.strip()
            turned = base == bad
            raise CandidateError(
                "--bad is older than --good" if turned else "--good is not an ancestor of --bad",
                where=str(self.path),
                why=f"{self._short(bad)} comes before {self._short(good)}"
                if turned
                else f"{self._short(good)} is on another branch than {self._short(bad)}",
                next_step="swap the two: bisect looks for where the answer changes, whatever the answers are"
                if turned
                else f"name a common ancestor as --good: {base or 'there is none'}",
            )
        # What a merge brought in was never the state of this line.
        return tuple(self._git("rev-list", "--first-parent", "--reverse", f"{good}..{bad}").split())

    def _working_tree(self) -> str:
        head = self.commit("HEAD")
        if self._git("rev-parse", "--is-bare-repository") == "true":
            return head
        # Said, because a user's settings may leave out new files (status.showUntrackedFiles).
        if not self._git("status", "--porcelain", "--untracked-files=normal"):
            return head
        with tempfile.TemporaryDirectory(prefix="pyxis-matrix-index-") as folder:
            index = Path(folder) / "index"
            own = Path(self._git("rev-parse", "--path-format=absolute", "--git-path", "index"))
            if own.is_file():
                shutil.copyfile(own, index)  # with it, git hashes only files that have changed
            environ = {"GIT_INDEX_FILE": str(index)}
            # Also new files, but none that .gitignore names. It leaves objects in .git that no branch or index names.
            self._git("add", "--all", ":/", environ=environ)
            tree = self._git("write-tree", environ=environ)
        # With the date of its parent, so that the same changes are the same commit.
        date = self._git("show", "--no-patch", "--format=%cI", head)
        who: dict[str, str] = {}
        for role in ("AUTHOR", "COMMITTER"):
            who |= {f"GIT_{role}_NAME": "pyxis-matrix", f"GIT_{role}_EMAIL": "pyxis-matrix", f"GIT_{role}_DATE": date}
        return self._git("commit-tree", tree, "-p", head, "-m", _UNCOMMITTED, environ=who)

    def _short(self, name: str) -> str:
        return self._git("rev-parse", f"--short={_SHORTEST}", name)

    def _git(self, *words: str, environ: Mapping[str, str] | None = None) -> str:
        answer = git(self.path, *words, environ=environ)
        if answer.returncode:
            raise CandidateError(
                f"git {words[0]} failed in a checkout",
                where=str(self.path),
                why=last_words(answer),
                next_step=f"git -C {self.path} status",
            )
        return answer.stdout.strip()


def state_of(folder: Path) -> str:
    """Return the full id of a checkout's commit, with ``-dirty`` if one of its files was changed.

    Empty if the folder is not a checkout, or there is no git.
    """
    answer = git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    return "" if answer.returncode else answer.stdout.strip()


def of_this_program() -> str:
    """Return this program's own state for results: its commit, or the version that was installed.

    An installed program does not look for a commit: its folder may be within an unrelated repository.
    """
    return f"version {paths.version()}" if INSTALLED else state_of(paths.REPOSITORY)


def git(folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run git in a folder and return its answer; without git, 127 and the reason, as a shell does.

    Names of files that are not UTF-8 are kept by Python's surrogateescape.
    """
    # Without git's variables: if a hook started this program, they name the hook's repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A checkout may belong to another user, as it often does in CI, and git would refuse it. Here it is only read.
    # With a user's log.showSignature, what gpg says of a signed commit would stand before its date.
    command = ["git", "-c", "safe.directory=*", "-c", "log.showSignature=false", "-C", str(folder), *words]
    try:
        return subprocess.run(
            command,
            env={**inherited, "LC_ALL": "C", **(environ or {})},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, _NOT_STARTED, "", f"failed to start git: {error.strerror}")


def last_words(answer: "subprocess.CompletedProcess[str]") -> str:
    """Return the last line of git's error message."""
    lines = answer.stderr.strip().splitlines()
    return lines[-1] if lines else f"git ended with {answer.returncode}"
