"""The environment of one cell: starting network, registry, nodes and accounting, waiting for them, taking them down."""
