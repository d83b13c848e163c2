"""How progress is shown: as a live display, as plain lines, or in the format of a CI service's log."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TextIO


class Mode(StrEnum):
    """How progress is shown."""

    TERMINAL = "terminal"
    PLAIN = "plain"
    GITHUB = "github"
    GITLAB = "gitlab"

    @classmethod
    def of(cls, environ: Mapping[str, str], stream: TextIO) -> "Mode":
        """Return the mode for a stream; a CI service that runs this process decides before the stream does."""
        # Both services set their variable to "true" in every job.
        if environ.get("GITHUB_ACTIONS") == "true":
            return cls.GITHUB
        if environ.get("GITLAB_CI") == "true":
            return cls.GITLAB
        # A dumb terminal, such as a shell within Emacs, cannot move its cursor back to redraw a line.
        return cls.TERMINAL if stream.isatty() and environ.get("TERM") != "dumb" else cls.PLAIN
