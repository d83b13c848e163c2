"""The jobs of a fleet of machines: which cells run where, and what a CI service or a Slurm site is told of it.

All is pure but `earlier`, which reads results, and `revision`, which asks git.
"""
