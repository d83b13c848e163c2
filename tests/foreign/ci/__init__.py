"""A package of the foreign repository that is called as one of pyxis-matrix."""

NAME = "foreign"
