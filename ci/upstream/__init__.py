"""New releases of Slurm, enroot and Pyxis: finding them, and adding them to matrix.toml and the pins."""
