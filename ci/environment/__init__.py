"""What is up for one cell: network, registry, cluster and accounting; started, usable, taken down."""
