# Sourced by the node's entry script before any daemon starts.
#
# enroot's folders lie on a volume: overlayfs can't make whiteouts inside another overlay mount, which is what a
# container's own file system is. Each user makes a folder of their own in them, as in /tmp.
install --directory --mode 0755 /var/lib/enroot-data # a new volume's own root may be closed to users
install --directory --mode 1777 \
    /run/enroot /run/pyxis \
    /var/lib/enroot-data/cache /var/lib/enroot-data/data /var/lib/enroot-data/tmp
