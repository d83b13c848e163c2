"""The commands of ``python -m ci``."""
