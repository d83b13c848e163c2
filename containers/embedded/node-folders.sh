# Sourced by the node's entry script before any daemon starts.
#
# Containers lie on a volume: an overlay can't lie on another one, which is what the node's own file system is.
install --directory --mode 0755 /var/lib/enroot-data # a new volume's own root may be closed to users
install --directory --mode 1777 \
    /run/enroot /var/lib/enroot-data/cache /var/lib/enroot-data/data /var/lib/enroot-data/tmp
