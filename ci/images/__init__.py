"""Container images: what to build, building it, and the wheels of the subject."""
