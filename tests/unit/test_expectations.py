"""What tests expect beside the answers of behaviours: embedded is like the newest release, and excused by name only."""

from packaging.version import Version
import pytest

from ci.matrix.behaviours import version_of
from tests.support.cells import EMBEDDED, REAL
from tests.support.expectations import not_promised


def test_embedded_follows_the_newest_release_of_all_but_slurm() -> None:
    newest = Version("99.99.99")
    assert version_of(EMBEDDED, "pyxis") > newest
    assert version_of(EMBEDDED, "enroot") > newest
    assert version_of(EMBEDDED, "slurm") == Version(str(EMBEDDED.slurm))


def test_only_embedded_is_excused() -> None:
    with pytest.raises(pytest.skip.Exception, match="not promised by the embedded runtime: importing over https"):
        not_promised(EMBEDDED, "importing over https")
    not_promised(REAL, "anything")
