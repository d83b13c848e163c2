"""Release files of upstream: from a mirror, the cache or upstream itself, checked against pins."""
