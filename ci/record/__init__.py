"""The result of one suite on one cell, as it is written: its outcome, pytest's log of it, and how far it has come."""
