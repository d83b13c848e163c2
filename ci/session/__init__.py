"""One suite on one cell, from its plan to its result."""
