"""The packages of this repository are its own, whatever pyxis-matrix calls its own."""

import ci
import tests


def test_the_packages_are_ours():
    assert ci.NAME == "foreign"
    assert tests.__path__[0].startswith(ci.__path__[0].removesuffix("ci"))
