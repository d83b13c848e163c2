"""Python packages on this machine: uv, told what pip is told, and the virtual environments that it makes."""
