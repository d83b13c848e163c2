"""The automation behind the nox sessions: plan cells, build images, launch environments, keep results.

Two tiers. The lower one (errors, arch, matrix, cells, plan, sources, paths, host) needs only the standard library and
``packaging``, because the noxfile imports it in nox's own environment. The upper one runs in the session's environment.
"""
