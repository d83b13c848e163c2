"""The matrix: matrix.toml as a frozen model, its cells and groups, and which of them a command line asks for."""
