"""Numbers with their nouns: "1 release", "2 releases"."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an "s" unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
