"""What `ci/bootstrap` does for the tests of the page: Debian's browser, where there is none."""

from pathlib import Path

import pytest

from ci.engine.distribution import Distro
from ci.machine import steps

BOOKWORM = Distro(id="debian", release=12, name="Debian 12")
UBUNTU = Distro(id="ubuntu", release=24, name="Ubuntu 24.04")


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("nox -s page", True),
        ("/x/bin/nox -s tests page", True),
        ("nox -s tests -- page", False),
        ("python page", False),
        ("", False),
    ],
)
def test_a_browser_is_supplied_only_for_the_tests_of_the_page(words: str, *, needed: bool) -> None:
    assert steps.needs_browser(words.split()) is needed


@pytest.mark.parametrize(
    ("distro", "root", "there", "wanted"),
    [
        (BOOKWORM, True, False, True),
        (BOOKWORM, True, True, False),
        (BOOKWORM, False, False, False),
        (UBUNTU, True, False, False),
    ],
)
def test_the_browser_is_debians(distro: Distro, tmp_path: Path, *, root: bool, there: bool, wanted: bool) -> None:
    if there:
        (tmp_path / "chromium").touch(mode=0o755)
    planned = steps.plan_browser(distro, root=root, path=str(tmp_path))
    assert [step.command[-1] for step in planned] == (["update", "chromium"] if wanted else [])
