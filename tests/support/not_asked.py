"""What a site does not give: a test that needs it is not asked there. Results count it apart from what is skipped."""

from typing import NoReturn

import pytest

from ci.record.reportlog import NOT_ASKED


def needs(what: str) -> NoReturn:
    """End the test as one that is not asked: ``needs("root on a node")``."""
    pytest.skip(f"{NOT_ASKED}needs {what}")
