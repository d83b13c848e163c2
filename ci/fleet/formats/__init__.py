"""What a plan can be written as: one module each. Another format is another module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
import importlib
import pkgutil

from ci.fleet.model import FleetPlan
from ci.matrix.arch import Arch

DEFAULT = "text"
"""The format for people."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format; each module of this folder has one as ``FORMAT``."""

    name: str
    """What ``plan --format`` calls it."""
    write: Callable[[FleetPlan], str]
    """Returns a plan in this format, with a line break at the end; a ``SelectionError`` says that it can't hold it."""
    runners: Mapping[Arch, str] = field(default_factory=lambda: {arch: arch.value for arch in Arch})
    """The machines of each architecture where nobody names others."""
    appends: bool = False
    """Whether it is added to the file of ``--output``: others write there, too."""


@cache
def formats() -> Mapping[str, Format]:
    """Return all formats by name."""
    # At the first call, not at the top: these modules import `Format` from here.
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found: list[Format] = [module.FORMAT for module in modules]
    return {each.name: each for each in found}
