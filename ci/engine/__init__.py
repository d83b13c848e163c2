"""The container engine: finding it, talking to it, the client that builds, and what its host must allow."""
