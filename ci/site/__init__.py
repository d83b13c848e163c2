"""A cluster that exists, asked over SSH alone: as an ordinary user, without root, and without an engine there."""
