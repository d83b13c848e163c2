"""Setting up a bare machine: the plan of steps, and taking them."""
