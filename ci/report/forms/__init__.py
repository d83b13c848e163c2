"""The forms of a report: each module here shows the one model in its way. Another form is another module."""

from collections.abc import Iterator, Mapping
from functools import cache
import importlib
import pkgutil
from typing import Protocol, cast

from ci.report.model import Merged


class Form(Protocol):
    """What each module of this folder has."""

    NAME: str
    """What ``report --format`` calls it."""
    FILE: str
    """Its file in the folder of a report; empty if it has none."""

    def pieces(self, merged: Merged) -> Iterator[str]:
        """Yield the text of a report, piece by piece: it may be long."""
        ...


@cache
def forms() -> Mapping[str, Form]:
    """Return all forms by name."""
    # iter_modules sorts by name: the order is the same everywhere.
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {module.NAME: cast("Form", module) for module in modules}
