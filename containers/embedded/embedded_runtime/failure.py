"""The one error a user is meant to read."""


class Failure(Exception):  # noqa: N818 - it is the outcome of a command, printed as one line, not a programming error
    """A command could not do its work; the text says what and why, `details` holds further lines to print."""

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        """Take the line to print and the lines to print below it."""
        super().__init__(message)
        self.details = details
