"""Sections that fold, and annotations, in the formats of GitHub's and GitLab's logs."""

import re
import secrets

from ci.terminal.mode import Mode


def begin(where: Mode, title: str, at: float) -> str:
    """Return the line that begins a section, closed at first; ``at`` is the time since the epoch."""
    if where is Mode.GITHUB:
        return f"::group::{escaped(title)}"
    # https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections; the codes keep the markers off the screen.
    return f"\x1b[0Ksection_start:{at:.0f}:{_name(title)}[collapsed=true]\r\x1b[0K{title}"


def end(where: Mode, title: str, at: float) -> str:
    """Return the line that ends a section."""
    return "::endgroup::" if where is Mode.GITHUB else f"\x1b[0Ksection_end:{at:.0f}:{_name(title)}\r\x1b[0K"


def annotation(message: str, *, title: str, file: str = "", line: int = 0) -> str:
    """Return GitHub's annotation of an error; with a file, a pull request shows it beside the line."""
    known = {"file": file, "line": str(line or ""), "title": title}
    properties = ",".join(f"{name}={_property(value)}" for name, value in known.items() if value)
    return f"::error {properties}::{escaped(message)}"


def escaped(text: str) -> str:
    """Encode what breaks GitHub's workflow commands."""
    # The percent sign first: those of the other two must not be encoded again.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def quoted(where: Mode, text: str) -> str:
    """Return the output of another program so that the service takes no part of it for a command."""
    if where is Mode.GITHUB:
        token = secrets.token_hex(16)  # a fixed one could be in the text, and would end the quotation
        return f"::stop-commands::{token}\n{text}\n::{token}::"
    # GitLab has no such quotation; without its colon a marker is mere text.
    return re.sub(r"(section_(?:start|end)):", r"\1 ", text)


def _property(text: str) -> str:
    # In the properties of ``::error file=a.py,line=3::text`` these two are separators.
    return escaped(text).replace(":", "%3A").replace(",", "%2C")


def _name(title: str) -> str:
    """Return the name of a section, made of its title and of characters that GitLab allows."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", title).lower()
