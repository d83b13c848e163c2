"""The automation behind the nox sessions: plan cells, build images, launch environments, keep results.

The noxfile imports what lists cells and makes virtual environments (errors, paths, matrix, options, python, signals)
in nox' own environment, which has `packaging` and `platformdirs` only. All else runs in the session's environment.
"""
