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
# ext4 takes no inode again within minutes of its deletion, and walks past all such ones for every new file: unpacking an
# image took 5 s in place of 0.7. With the flag T it puts each new folder in here, which are those of containers and
# imports, into a part of the disk of its own. Other file systems know no such flag.
while IFS=: read -r _ _ uid gid _; do
    ((uid == 0 || (uid >= 1000 && uid < 65534))) || continue
    install --directory --mode 0700 --owner "$uid" --group "$gid" "$volume/upper/user-$uid"
done < /etc/passwd
chattr +T "$volume/tmp" "$volume/upper"/user-* 2> /dev/null || true
# `enroot list` knows a running container by the place of its root in its file system. An engine's volume is a folder of
# the host's file system, so the place never fits, and no step could join a running container. As the root of a file
# system of its own the folder fits.
mount -t overlay enroot-data -o "lowerdir=$volume/lower,upperdir=$volume/upper,workdir=$volume/work" "$volume/data"
unset volume uid gid
