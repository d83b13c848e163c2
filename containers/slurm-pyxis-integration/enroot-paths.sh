# Sourced by the node's entry script before any daemon starts.
#
# enroot's folders lie on a volume: overlayfs can't make whiteouts inside another overlay mount, which is what a
# container's own file system is. Each user makes a folder of their own in them, as in /tmp.
volume=/var/lib/enroot-data
install --directory --mode 0755 "$volume" # a new volume's own root may be closed to users
install --directory --mode 1777 \
    /run/enroot /run/pyxis \
    "$volume/cache" "$volume/data" "$volume/tmp" "$volume/lower" "$volume/upper"
install --directory --mode 0755 "$volume/work"
# `enroot list` knows a running container by the place of its root in its file system. An engine's volume is a folder of
# the host's file system, so the place never fits, and no step could join a running container. As the root of a file
# system of its own the folder fits.
mount -t overlay enroot-data -o "lowerdir=$volume/lower,upperdir=$volume/upper,workdir=$volume/work" "$volume/data"
unset volume
