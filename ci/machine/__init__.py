"""Setting up a bare machine: which steps, and taking them."""
