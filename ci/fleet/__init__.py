"""The jobs of a fleet of machines: which cells run where, what a change affects, and what a CI service is told of it.

All is pure but `earlier`, which reads results, `parts`, which looks at files, and `revision`, which asks git.
"""
