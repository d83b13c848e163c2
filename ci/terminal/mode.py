"""How progress is shown: as a live display, as plain lines, or as a CI service's log has it."""

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
        """Return what fits a stream: the CI service that runs this process comes first."""
        if environ.get("GITHUB_ACTIONS") == "true":
            return cls.GITHUB
        if environ.get("GITLAB_CI") == "true":
            return cls.GITLAB
        return cls.TERMINAL if stream.isatty() and environ.get("TERM") != "dumb" else cls.PLAIN
