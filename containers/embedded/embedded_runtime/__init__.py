"""The embedded runtime: an `enroot`-compatible command over Debian's skopeo and squashfs-tools.

It stands in for enroot and Pyxis where their releases can't be had. It is not them, and says so: `enroot version`
answers `embedded-…`, and every message of the plugin begins with `embedded:`.
"""

VERSION = "embedded-0.1"
