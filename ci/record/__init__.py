"""What one suite on one cell came to, as it is written: its result, pytest's log of it, and how far it has come."""
