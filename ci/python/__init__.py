"""Python packages on this machine: uv with pip's settings, and the virtual environments that it makes."""
