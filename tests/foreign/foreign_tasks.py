"""What the jobs of this repository run; its images have this file."""


def what_runs():
    with open("/etc/pyxis-matrix-image", encoding="utf-8") as file:
        return file.read().strip()
