"""Finds the release, or the commit, at which a test's answer changes."""
